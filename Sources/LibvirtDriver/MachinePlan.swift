internal import GuestHardware
internal import Model

/// What a guest asks for, settled with what its host is: the machine, its firmware, its CPU.
struct MachinePlan: Sendable, Hashable {
    let hardware: GuestHardware
    let type: String
    let firmware: Firmware
    let isBootSecure: Bool
    /// libvirt's name of the model.
    let iommu: IOMMUModel?

    /// - Parameter abilities: the host's for the machine; needed when `needsAbilities` says so.
    /// - Throws: what this host cannot do, and another may.
    init(
        _ hardware: GuestHardware, _ settings: DomainSettings, abilities: HostAbilities?, refuse: Refusal
    ) throws(Failure) {
        self.hardware = hardware
        type = Self.type(hardware, settings)
        firmware = hardware.machine.firmware ?? (settings.isARM ? .uefi : .bios)
        let isSecurityThere = abilities?.hasSecureBoot == true && MachineHardware.isQ35(type) && firmware == .uefi
        isBootSecure = hardware.machine.secureBoot != .disabled && isSecurityThere
        iommu = Self.iommu(hardware, type)
        try check(settings, abilities, refuse)
    }

    /// Makes the failure of something that was asked for and is not here.
    typealias Refusal = @Sendable (_ demand: GuestHardware.Demand, _ reason: String) -> Failure

    static func type(_ hardware: GuestHardware, _ settings: DomainSettings) -> String {
        hardware.machine.type ?? settings.machineType
    }

    /// Whether what is asked for is not on every host, so that it must be looked up.
    static func needsAbilities(_ hardware: GuestHardware, _ settings: DomainSettings) -> Bool {
        let machine = hardware.machine
        return machine.type != nil || machine.firmware == .uefi || machine.secureBoot != .disabled
            || hardware.devices.tpm != nil || hardware.display.videoModel != nil || hardware.nics.model != nil
            || hardware.disks.bus != nil || hardware.disks.cdromBus != nil || hardware.disks.scsiModel != nil
            || hardware.display.sound != nil || hardware.display.usb != nil
    }

    var defaultCDROMBus: CDROMBus {
        if MachineHardware.isQ35(type) { return .sata }
        return type.hasPrefix("pc") ? .ide : .scsi
    }

    private static func iommu(_ hardware: GuestHardware, _ type: String) -> IOMMUModel? {
        guard hardware.machine.iommu == .auto else { return hardware.machine.iommu }
        return MachineHardware.isVirt(type) ? .smmuv3 : .virtio
    }

    // MARK: - What a host may lack

    private func check(_ settings: DomainSettings, _ abilities: HostAbilities?, _ refuse: Refusal) throws(Failure) {
        if let wanted = hardware.machine.architecture, wanted.rawValue != settings.architecture {
            throw refuse(.architecture, "the host's architecture is \(settings.architecture)")
        }
        try checkFirmware(abilities, refuse)
        try checkDevices(settings, abilities, refuse)
        if let flaw = hardware.machine.iommu?.flaw(machineType: type) { throw refuse(.iommu, flaw) }
        if hardware.processor.addressWidthMode == .passthrough,
            ![.hostPassthrough, .maximum].contains(settings.cpu.mode)
        {
            throw refuse(
                .addressWidth,
                "the host's CPU is not passed through: [libvirt] cpu_mode is \(settings.cpu.mode.rawValue)")
        }
        let ide = DiskBus.ide.rawValue
        if MachineHardware.isQ35(type) || MachineHardware.isVirt(type) {
            if hardware.disks.bus?.rawValue == ide { throw refuse(.diskBus, "the machine type \(type) has no IDE") }
            if hardware.disks.cdromBus?.rawValue == ide {
                throw refuse(.cdromBus, "the machine type \(type) has no IDE")
            }
        }
    }

    /// Why a disk cannot be on `bus`, if it cannot.
    func flaw(of bus: DiskBus, _ abilities: HostAbilities) -> String? {
        if bus == .ide, MachineHardware.isQ35(type) || MachineHardware.isVirt(type) {
            return "the machine type \(type) has no IDE"
        }
        return abilities.diskBuses.contains(bus.rawValue)
            ? nil : "the host has \(HostAbilities.list(abilities.diskBuses))"
    }

    private func checkFirmware(_ abilities: HostAbilities?, _ refuse: Refusal) throws(Failure) {
        guard firmware == .uefi, let abilities else { return }
        guard abilities.hasUEFI else {
            throw refuse(.uefi, "the host has no UEFI firmware for the machine type \(type) (package ovmf)")
        }
        guard hardware.machine.secureBoot == .required else { return }
        guard MachineHardware.isQ35(type) else {
            throw refuse(.secureBoot, "it needs the machine type q35, this is \(type)")
        }
        guard abilities.hasSecureBoot else {
            throw refuse(.secureBoot, "the host's UEFI firmware has no secure boot")
        }
    }

    private func checkDevices(
        _ settings: DomainSettings, _ abilities: HostAbilities?, _ refuse: Refusal
    ) throws(Failure) {
        guard let abilities else { return }
        if let tpm = hardware.devices.tpm {
            guard settings.isTPMEnabled else { throw refuse(.tpm, "[libvirt] swtpm_enabled is false on the host") }
            guard abilities.tpmVersions.contains(tpm.version.rawValue) else {
                throw refuse(.tpm, "the host emulates no TPM of this version (packages swtpm, swtpm-tools)")
            }
            guard abilities.tpmModels.contains(tpm.model.rawValue) else {
                throw refuse(.tpmModel, "the host has \(HostAbilities.list(abilities.tpmModels))")
            }
        }
        if let video = hardware.display.videoModel, !abilities.videoModels.contains(video.rawValue) {
            throw refuse(.videoModel, "the host has \(HostAbilities.list(abilities.videoModels))")
        }
        if let bus = hardware.disks.bus, !abilities.diskBuses.contains(bus.rawValue) {
            throw refuse(.diskBus, "the host has \(HostAbilities.list(abilities.diskBuses))")
        }
        if let bus = hardware.disks.cdromBus, !abilities.diskBuses.contains(bus.rawValue) {
            throw refuse(.cdromBus, "the host has \(HostAbilities.list(abilities.diskBuses))")
        }
        if hardware.nics.model == .igb, !abilities.hasIGB {
            throw refuse(.nicModel, "it needs libvirt 9.3 and QEMU 8.0")
        }
        let devices: [(GuestHardware.Demand, String?)] = [
            (.nicModel, hardware.nics.model?.device), (.scsiModel, hardware.disks.scsiModel?.device),
            (.sound, hardware.display.sound?.device), (.usb, hardware.display.usb?.device),
        ]
        for (demand, device) in devices {
            if let device, let flaw = abilities.flaw(ofDevice: device) { throw refuse(demand, flaw) }
        }
    }
}
