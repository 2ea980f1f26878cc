public enum Firmware: String, Sendable, Hashable, CaseIterable {
    case bios, uefi
}

public enum SecureBoot: String, Sendable, Hashable, CaseIterable {
    case required
    /// Where the host's firmware has it.
    case optional
    case disabled
}

/// How a disk is plugged.
public enum DiskBus: String, Sendable, Hashable, CaseIterable {
    case virtio, scsi, sata, ide, usb
}

/// How a CD-ROM is plugged.
public enum CDROMBus: String, Sendable, Hashable, CaseIterable {
    case ide, sata, scsi, usb
}

public enum SCSIModel: String, Sendable, Hashable, CaseIterable {
    case virtioSCSI = "virtio-scsi"
    case lsilogic, lsisas1068, lsisas1078, vmpvscsi
}

public enum NICModel: String, Sendable, Hashable, CaseIterable {
    case virtio, e1000, e1000e, igb, rtl8139
    case ne2kPCI = "ne2k_pci"
    case pcnet, vmxnet3
}

public enum VideoModel: String, Sendable, Hashable, CaseIterable {
    case virtio, vga, cirrus, qxl, vmvga, bochs, none
}

public enum WatchdogAction: String, Sendable, Hashable, CaseIterable {
    /// No watchdog at all.
    case disabled
    /// A watchdog whose expiry only shows as an event.
    case none
    case pause, poweroff, reset
}

public enum PointerModel: String, Sendable, Hashable, CaseIterable {
    case usbTablet = "usbtablet"
    case ps2Mouse = "ps2mouse"
}

public enum InputBus: String, Sendable, Hashable, CaseIterable {
    case usb, virtio
}

public enum TPMVersion: String, Sendable, Hashable, CaseIterable {
    case v1 = "1.2"
    case v2 = "2.0"
}

public enum TPMModel: String, Sendable, Hashable, CaseIterable {
    case tis = "tpm-tis"
    case crb = "tpm-crb"
}

public enum AddressWidthMode: String, Sendable, Hashable, CaseIterable {
    case emulate, passthrough
}

public enum IOMMUModel: String, Sendable, Hashable, CaseIterable {
    case intel, smmuv3, virtio
    /// What suits the machine.
    case auto
}

public enum SoundModel: String, Sendable, Hashable, CaseIterable {
    case sb16, es1370, ac97, ich6, ich9, usb
}

public enum USBModel: String, Sendable, Hashable, CaseIterable {
    case none
    case piix3 = "piix3-uhci"
    case piix4 = "piix4-uhci"
    case ehci
    case ich9 = "ich9-ehci1"
    case vt82c686b = "vt82c686b-uhci"
    case ohci = "pci-ohci"
    case nec = "nec-xhci"
    case qemu = "qemu-xhci"
}

public enum RescueDevice: String, Sendable, Hashable, CaseIterable {
    case disk, cdrom
}

public enum ConfigDriveWish: String, Sendable, Hashable, CaseIterable {
    case optional, mandatory
}
