/// Where a service listens: `127.0.0.1:8774`, `[::1]:8774`, `0.0.0.0:0`.
public struct ListenAddress: Sendable, Hashable, CustomStringConvertible {
    /// An IPv4 or IPv6 address without brackets.
    public let address: String
    /// 0 takes any free port.
    public let port: UInt16

    public struct Malformed: Error, Sendable, Hashable, CustomStringConvertible {
        public let text: String
        public var description: String { "\"\(text)\" is not ADDRESS:PORT (an IPv6 address stands in brackets)" }
    }

    /// Reads `ADDRESS:PORT`; names are not looked up.
    public init(_ text: String) throws(Malformed) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw Malformed(text: text)
        }
        var address = text[..<colon]
        if address.hasPrefix("["), address.hasSuffix("]") {
            address = address.dropFirst().dropLast()
        } else if address.contains(":") {
            throw Malformed(text: text)
        }
        guard !address.isEmpty else { throw Malformed(text: text) }
        (self.address, self.port) = (String(address), port)
    }

    public var description: String { address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)" }

    public var isLoopback: Bool { Self.isLoopback(address) }

    /// Whether what is sent to `address` stays on this machine.
    public static func isLoopback(_ address: String) -> Bool {
        address == "::1" || address == "localhost"
            || (address.hasPrefix("127.")
                && address.utf8.allSatisfy { $0 == UInt8(ascii: ".") || (48...57).contains($0) })
    }
}
