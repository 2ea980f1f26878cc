internal import Configuration
internal import Glibc
internal import Model
internal import Synchronization

/// Where the serial ports of guests can be reached by TCP.
struct SerialConsole: Sendable, Hashable {
    let address: String
    let ports: Range<Int>

    /// `nil` where the configuration leaves serial ports to the host's terminals.
    init?(_ configuration: Configuration) {
        guard configuration[LibvirtDriverOptions.isSerialConsoleEnabled],
            let ports = Self.ports(configuration[LibvirtDriverOptions.serialPortRange])
        else { return nil }
        self.init(address: configuration[LibvirtDriverOptions.serialAddress], ports: ports)
    }

    init(address: String, ports: Range<Int>) { (self.address, self.ports) = (address, ports) }

    /// The ports of `FIRST:LAST`; `nil` for what is no such range.
    static func ports(_ text: String) -> Range<Int>? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
        guard parts.count == 2, let first = parts[0], let last = parts[1], first >= 1_024, first < last, last <= 65_536
        else { return nil }
        return first..<last
    }

    static func isAddress(_ text: String) -> Bool { socketAddress(text, port: 0) != nil }

    /// Whether nobody else listens on the port now.
    func isFree(_ port: Int) -> Bool {
        guard let address = Self.socketAddress(address, port: port) else { return false }
        let descriptor = socket(Int32(address.family), Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        // What QEMU does, too: connections of before that linger do not hold the port.
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        return address.bytes.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return false }
            return bind(descriptor, start.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count)) == 0
        }
    }

    private static func socketAddress(_ text: String, port: Int) -> (family: Int32, bytes: [UInt8])? {
        var four = sockaddr_in()
        if inet_pton(AF_INET, text, &four.sin_addr) == 1 {
            four.sin_family = sa_family_t(AF_INET)
            four.sin_port = UInt16(port).bigEndian
            return (AF_INET, withUnsafeBytes(of: &four) { Array($0) })
        }
        var six = sockaddr_in6()
        guard inet_pton(AF_INET6, text, &six.sin6_addr) == 1 else { return nil }
        six.sin6_family = sa_family_t(AF_INET6)
        six.sin6_port = UInt16(port).bigEndian
        return (AF_INET6, withUnsafeBytes(of: &six) { Array($0) })
    }
}

/// Gives guests TCP ports for their serial ports. What a guest has stands in its folder, goes with it, and stays the same
/// however often its domain is made afresh.
final class SerialPortBook: Sendable {
    private let turn = Mutex<Void>(())

    /// The `count` ports of the guest in `folder`, which are chosen among those that no other folder in `instances` has.
    /// Blocks for as long as reading a small file of each instance takes.
    /// - Throws: `.hypervisor` when the range has no more free ones.
    func ports(
        _ count: Int, for folder: InstanceFolder, _ console: SerialConsole, instances: String
    ) throws(Failure) -> [Int] {
        try turn.withLock { _ throws(Failure) in
            var own = try Self.read(folder).filter(console.ports.contains)
            guard own.count < count else { return Array(own.prefix(count)) }
            var taken = Set(own)
            for name in try Files.names(in: instances) where isLowerCaseUUID(name) {
                taken.formUnion(try Self.read(try InstanceFolder(InstanceID(name), in: instances)))
            }
            for port in console.ports where own.count < count && !taken.contains(port) && console.isFree(port) {
                own.append(port)
            }
            guard own.count == count else {
                throw Failure(
                    .hypervisor,
                    "this host has no free port for a serial console left in [serial_console] port_range "
                        + "\(console.ports.lowerBound):\(console.ports.upperBound)", isRetriable: true)
            }
            let text = own.map(String.init).joined(separator: " ") + "\n"
            try Files.write(Array(text.utf8), to: folder.serialPorts, mode: 0o600)
            return own
        }
    }

    private static func read(_ folder: InstanceFolder) throws(Failure) -> [Int] {
        guard let bytes = try Files.read(folder.serialPorts, limit: 256) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
    }
}

extension InstanceFolder {
    /// Says which TCP ports the guest's serial ports have.
    var serialPorts: String { path + "/serial.ports" }
}
