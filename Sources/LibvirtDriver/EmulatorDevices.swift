internal import GuestHardware
internal import Model
internal import Processes
internal import Synchronization

/// The devices that a QEMU was built with, as the program itself says. libvirt's capabilities leave out NICs, sound, and
/// the controllers of SCSI and USB.
final class EmulatorDevices: Sendable {
    private let known = Mutex<[String: Set<String>]>([:])

    /// Asks `program` once for each `version` of it; `nil` when it cannot be run here, as with a libvirt elsewhere.
    /// About 50 ms the first time, at most 10 s.
    func names(of program: String, version: String) async -> Set<String>? {
        let key = "\(version) \(program)"
        if let found = known.withLock({ $0[key] }) { return found }
        let command = Command(program, ["-machine", "none", "-device", "help"], timeout: .seconds(10))
        guard let output = try? await toolOutput(command, about: "its devices") else { return nil }
        let names = Self.parse(String(decoding: output, as: UTF8.self))
        guard !names.isEmpty else { return nil }
        known.withLock { $0[key] = names }
        return names
    }

    /// The names in lines such as `name "e1000", bus PCI, alias "e1000-82540em", desc "…"`, aliases included.
    static func parse(_ text: String) -> Set<String> {
        var names: Set<String> = []
        for line in text.split(whereSeparator: \.isNewline) where line.hasPrefix("name \"") {
            for part in line.split(separator: ", ") {
                for key in ["name \"", "alias \""] where part.hasPrefix(key) && part.hasSuffix("\"") {
                    names.insert(String(part.dropFirst(key.count).dropLast()))
                }
            }
        }
        return names
    }
}

// QEMU's names of what libvirt, and Nova with it, calls otherwise.

extension NICModel {
    var device: String { self == .virtio ? "virtio-net-pci" : rawValue }
}

extension SCSIModel {
    var device: String {
        switch self {
        case .virtioSCSI: "virtio-scsi-pci"
        case .lsilogic: "lsi53c895a"
        case .lsisas1068: "mptsas1068"
        case .lsisas1078: "megasas"
        case .vmpvscsi: "pvscsi"
        }
    }
}

extension SoundModel {
    var device: String {
        switch self {
        case .sb16: "sb16"
        case .es1370: "ES1370"
        case .ac97: "AC97"
        case .ich6: "intel-hda"
        case .ich9: "ich9-intel-hda"
        case .usb: "usb-audio"
        }
    }
}

extension USBModel {
    /// `nil` for no controller at all.
    var device: String? {
        switch self {
        case .none: nil
        case .piix3: "piix3-usb-uhci"
        case .piix4: "piix4-usb-uhci"
        case .ehci: "usb-ehci"
        case .ich9: "ich9-usb-ehci1"
        case .vt82c686b: "vt82c686b-usb-uhci"
        case .ohci: "pci-ohci"
        case .nec: "nec-usb-xhci"
        case .qemu: "qemu-xhci"
        }
    }
}
