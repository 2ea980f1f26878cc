public import Model

/// What a flavor's extra specs and an image's properties ask of a guest, by Nova's names, as typed values.
///
/// Knows nothing of hosts: whether one has the firmware, the TPM or the QEMU for it, the driver finds out there.
/// Specs of other namespaces (`trait:`, `capabilities:`, `aggregate_instance_extra_specs:`) and images'
/// properties that only describe (`os_distro`) are left alone.
public struct GuestHardware: Sendable, Hashable {
    public var machine: MachineHardware
    public var processor: ProcessorHardware
    public var disks: DiskHardware
    public var nics: NICHardware
    public var display: DisplayHardware
    public var devices: DeviceHardware
    public var system: GuestSystem
    /// `nil` for a guest that takes its host's processors and memory as they come.
    public var topology: TopologyRequest?
    public var passthrough: PassthroughHardware

    /// - Throws: for unknown names, values that are none, and what a flavor and an image cannot have together.
    public init(flavor: Flavor, imageProperties: [String: String]) throws(HardwareError) {
        let reader = try HardwareReader(specs: flavor.extraSpecs, properties: imageProperties)
        machine = try MachineHardware(reader)
        processor = try ProcessorHardware(reader, vcpus: flavor.vcpus)
        disks = try DiskHardware(reader)
        nics = try NICHardware(reader)
        display = try DisplayHardware(reader)
        devices = try DeviceHardware(reader)
        system = try GuestSystem(reader)
        passthrough = try PassthroughHardware(reader)
        topology = try TopologyRequest(reader, flavor: flavor)
        try machine.check(reader)
    }

    /// Looks at one extra spec of a flavor alone. Names that are unknown or not built yet pass: they are refused when
    /// a server is made of them.
    public static func check(flavorSpec name: String, value: String) throws(HardwareError) {
        try checkKnown(Setting(name: name, origin: .flavor, value: value))
    }

    /// Whether a flavor's spec is in a namespace that steers guests, and no guest is steered by it: a slip of the pen.
    public static func isUnknown(flavorSpec name: String) -> Bool {
        PropertyTable.governs(spec: name) && PropertyTable.rule(Setting(name: name, origin: .flavor, value: "")) == nil
    }

    /// Looks at one property of an image alone, as `check(flavorSpec:value:)` does.
    public static func check(imageProperty name: String, value: String) throws(HardwareError) {
        try checkKnown(Setting(name: name, origin: .image, value: value))
    }

    private static func checkKnown(_ setting: Setting) throws(HardwareError) {
        guard let rule = PropertyTable.rule(setting) else { return }
        switch rule {
        case .unserved: return
        default: try rule.check(setting)
        }
    }
}

extension GuestHardware {
    /// The property of the flavor or the image that asked for something a host turned out not to have.
    public enum Demand: String, Sendable, Hashable, CaseIterable {
        case uefi = "hw_firmware_type"
        case secureBoot = "os_secure_boot"
        case machineType = "hw_machine_type"
        case architecture = "hw_architecture"
        case tpm = "hw_tpm_version"
        case tpmModel = "hw_tpm_model"
        case nicModel = "hw_vif_model"
        case videoModel = "hw_video_model"
        case diskBus = "hw_disk_bus"
        case cdromBus = "hw_cdrom_bus"
        case scsiModel = "hw_scsi_model"
        case rescueBus = "hw_rescue_bus"
        case addressWidth = "hw_maxphysaddr_mode"
        case iommu = "hw_viommu_model"
        case cpuShares = "quota:cpu_shares"
        case cpuQuota = "quota:cpu_quota"
        case cpuPeriod = "quota:cpu_period"
        case sound = "hw_sound_model"
        case usb = "hw_usb_model"
    }

    /// The error that names who asked for `demand`, with `reason`; the default's name when nobody asked.
    public static func refusal(
        _ demand: Demand, _ reason: String, flavor: Flavor, imageProperties: [String: String]
    ) -> HardwareError {
        var name = demand.rawValue
        if demand == .architecture, imageProperties[name] == nil { name = "architecture" }
        if let value = imageProperties[name] {
            return HardwareError(Setting(name: name, origin: .image, value: value), reason)
        }
        let spec =
            name.hasPrefix("hw_") ? "hw:" + name.dropFirst(3) : name.hasPrefix("os_") ? "os:" + name.dropFirst(3) : name
        return HardwareError(Setting(name: spec, origin: .flavor, value: flavor.extraSpecs[spec] ?? ""), reason)
    }
}
