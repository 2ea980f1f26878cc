/// The board of a guest: machine type, firmware, and what hangs on them.
public struct MachineHardware: Sendable, Hashable {
    /// `nil`: what the host's configuration says.
    public var type: String?
    /// `nil`: the host's. A host emulates no other than its own.
    public var architecture: Architecture?
    /// `nil`: what is usual on the guest's architecture.
    public var firmware: Firmware?
    /// UEFI without variables that the guest could change.
    public var isFirmwareStateless: Bool
    public var secureBoot: SecureBoot
    /// Whether the firmware waits for a key; `nil` is the hypervisor's default.
    public var hasBootMenu: Bool?
    public var iommu: IOMMUModel?
    /// x86's high precision event timer.
    public var hasHPET: Bool
    public var isHypervisorHidden: Bool

    init(_ reader: HardwareReader) throws(HardwareError) {
        type = reader.property("hw_machine_type")?.value
        // The second is the older name of the first.
        let own = reader.property("hw_architecture") ?? reader.property("architecture")
        architecture = own.flatMap { Architecture(name: $0.value) }
        firmware = try reader.choice(property: "hw_firmware_type")
        isFirmwareStateless = try reader.flag(property: "hw_firmware_stateless") ?? false
        let secure = try reader.agreed(spec: "os:secure_boot", property: "os_secure_boot")
        secureBoot = try secure?.choice() ?? .disabled
        // The image knows better than the flavor whether its boot loader can do with a menu before it.
        hasBootMenu = try (reader.property("hw_boot_menu") ?? reader.spec("hw:boot_menu"))?.flag()
        iommu = try reader.choice(agreed: "viommu_model")
        hasHPET = try reader.flag(property: "hw_time_hpet") ?? false
        let byFlavor = try reader.flag(spec: "hw:hide_hypervisor_id") ?? false
        let byImage = try reader.flag(property: "img_hide_hypervisor_id") ?? false
        isHypervisorHidden = byFlavor || byImage
    }

    /// What does not go together whatever the host is.
    func check(_ reader: HardwareReader) throws(HardwareError) {
        if isFirmwareStateless, firmware != .uefi, let setting = reader.property("hw_firmware_stateless") {
            throw HardwareError(setting, "only hw_firmware_type = uefi can be without state")
        }
        if secureBoot == .required,
            let setting = try reader.agreed(spec: "os:secure_boot", property: "os_secure_boot")
        {
            guard firmware == .uefi else { throw HardwareError(setting, "hw_firmware_type = uefi is wanted with it") }
            if let type, !Self.isQ35(type) {
                throw HardwareError(setting, "it needs the machine type q35, hw_machine_type is \(type)")
            }
        }
        guard let type else { return }
        try checkIOMMU(type, reader)
        guard Self.isQ35(type) || Self.isVirt(type) else { return }
        for name in ["hw_disk_bus", "hw_cdrom_bus"] {
            guard let setting = reader.property(name), setting.value == DiskBus.ide.rawValue else { continue }
            throw HardwareError(setting, "the machine type \(type) has no IDE")
        }
    }

    private func checkIOMMU(_ type: String, _ reader: HardwareReader) throws(HardwareError) {
        guard let iommu, let setting = try reader.agreed("viommu_model") else { return }
        if let reason = iommu.flaw(machineType: type) { throw HardwareError(setting, reason) }
    }

    /// Whether a machine type is Intel's newer board: `q35`, `pc-q35-7.2`.
    public static func isQ35(_ type: String) -> Bool { type == "q35" || type.hasPrefix("pc-q35") }
    /// Whether a machine type is the board without a model in hardware: `virt`, `virt-7.2`.
    public static func isVirt(_ type: String) -> Bool { type == "virt" || type.hasPrefix("virt-") }
}

extension IOMMUModel {
    /// Why a machine of the type cannot have the model, if it cannot.
    public func flaw(machineType type: String) -> String? {
        let (isQ35, isVirt) = (MachineHardware.isQ35(type), MachineHardware.isVirt(type))
        return switch self {
        case .intel where !isQ35: "it needs the machine type q35, this is \(type)"
        case .smmuv3 where !isVirt: "it needs the machine type virt, this is \(type)"
        case .virtio where !(isQ35 || isVirt), .auto where !(isQ35 || isVirt):
            "it needs the machine type q35 or virt, this is \(type)"
        default: nil
        }
    }
}
