internal import GuestHardware
internal import Model

/// What of the host and the configuration goes into every domain's XML.
struct DomainSettings: Sendable, Hashable {
    var virtType: String
    var architecture: String
    /// Where the image names none.
    var machineType: String
    /// Where guests without cells of their own run; `nil` for all of the host.
    var sharedCPUs: CPUSet?
    var cpu: CPUSettings
    var diskCache: String
    /// Whether guests' discards reach the disks' files: `ignore` or `unmap`; `nil` is the hypervisor's default.
    var diskDiscard: String?
    var randomDevice: String
    /// Seconds; 0 for no balloon device.
    var memoryStatisticsPeriod: Int
    var network: NetworkBinding
    var nics = NICSettings()
    /// Where VNC listens; `nil` for guests without a screen.
    var vncAddress: String? = "127.0.0.1"
    /// Where the image names none.
    var pointer: PointerModel = .usbTablet
    var isTPMEnabled = false
    /// Ports that PCI Express boards have for devices plugged later.
    var pciePorts = 0
    /// Of the emulator's cache of translated code; `nil` is QEMU's default.
    var translationCacheMiB: Int?
    /// `nil` for serial ports that are terminals of the host.
    var serialConsole: SerialConsole?
    /// What guests see as their machine's serial number.
    var serial: SystemSerial = .instance
    var version: String

    var isKVM: Bool { virtType == "kvm" }
    var isX86: Bool { architecture == "x86_64" || architecture == "i686" }
    var isARM: Bool { architecture == "aarch64" }
}

/// The serial number in a guest's SMBIOS tables.
enum SystemSerial: Sendable, Hashable {
    /// The instance's id.
    case instance
    /// The same for all guests of the host.
    case host(String)
    case none
}

/// The processor that guests see.
struct CPUSettings: Sendable, Hashable {
    struct Feature: Sendable, Hashable {
        var name: String
        var isRequired: Bool
    }

    var mode: LibvirtDriverOptions.CPUMode
    /// With the mode `custom`.
    var model: String?
    var features: [Feature] = []
}

/// What all NICs on virtio have.
struct NICSettings: Sendable, Hashable {
    var receiveQueueSize: Int?
    var transmitQueueSize: Int?
    /// The most queues of a NIC; a tap device of Linux has 256.
    var queueLimit = 256
}

extension SystemSerial {
    /// The 32 hexadecimal digits of a machine-id with a uuid's dashes; `nil` for anything else.
    static func uuid(machineID text: String) -> String? {
        let digits = Array((text.split(whereSeparator: \.isWhitespace).first ?? "").lowercased())
        guard digits.count == 32, digits.allSatisfy({ $0.isASCII && $0.isHexDigit }) else { return nil }
        return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(digits[$0]) }.joined(separator: "-")
    }
}
