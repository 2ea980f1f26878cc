internal import GuestHardware
internal import Model

/// A disk as it is plugged into a guest.
struct PluggedDisk: Sendable, Hashable {
    enum Content: Sendable, Hashable {
        case disk(GuestDisk)
        /// The path of an image of a CD.
        case configDrive(String)
    }

    var content: Content
    /// libvirt's name of the bus.
    var bus: String
    /// The name that libvirt orders disks by: `vda`.
    var target: String
    /// The place on the SCSI controller, where the image chose its model.
    var unit: Int?
    /// Whether the guest sees a CD-ROM, which it cannot write.
    var isCDROM = false
    /// From 1, where the guest does not simply boot from its first disk.
    var bootOrder: Int?

    /// Plugs `disks` in their order and the config drive after them; each takes the first name of its bus that is free.
    ///
    /// - Parameter rescue: plugs the rescue's disk after all others, which keep their names, and has it booted from
    ///   before the root disk; `nil` gives it the first place.
    /// - Throws: for more disks than a bus has places.
    static func plug(
        _ disks: [GuestDisk], configDrive: String, _ plan: MachinePlan, rescue: RescueHardware? = nil
    ) throws(Failure) -> [PluggedDisk] {
        let hardware = plan.hardware.disks
        let bus = (hardware.bus ?? .virtio).rawValue
        let cdromBus = (hardware.cdromBus ?? plan.defaultCDROMBus).rawValue
        var contents = disks.filter { rescue == nil || $0.role != .rescue }.map { (Content.disk($0), bus) }
        contents.append((.configDrive(configDrive), cdromBus))
        if let rescue {
            let own = rescue.bus?.rawValue ?? (rescue.device == .cdrom ? cdromBus : DiskBus.virtio.rawValue)
            contents += disks.filter { $0.role == .rescue }.map { (.disk($0), own) }
        }
        var taken: [String: Int] = [:]
        var units = 0
        var plugged: [PluggedDisk] = []
        for (content, bus) in contents {
            let prefix = prefix(of: bus)
            let index = taken[prefix, default: 0]
            taken[prefix] = index + 1
            guard prefix != "hd" || index < 4 else {
                throw Failure(
                    .invalidParameters, "a machine has room for 4 disks on IDE, the guest has more than that")
            }
            var disk = PluggedDisk(content: content, bus: bus, target: prefix + letters(index))
            if bus == DiskBus.scsi.rawValue, hardware.scsiModel != nil {
                disk.unit = units
                units += 1
            }
            if let rescue { disk.take(rescue) }
            plugged.append(disk)
        }
        return plugged
    }

    private mutating func take(_ rescue: RescueHardware) {
        guard case .disk(let file) = content else { return }
        switch file.role {
        case .rescue: (bootOrder, isCDROM) = (1, rescue.device == .cdrom)
        case .root: bootOrder = 2
        case .ephemeral, .swap: break
        }
    }

    private static func prefix(of bus: String) -> String {
        switch bus {
        case DiskBus.virtio.rawValue: "vd"
        case DiskBus.ide.rawValue: "hd"
        default: "sd"
        }
    }

    /// a … z, aa, ab …
    private static func letters(_ index: Int) -> String {
        let last = String(UnicodeScalar(UInt8(97 + index % 26)))
        return index < 26 ? last : letters(index / 26 - 1) + last
    }
}
