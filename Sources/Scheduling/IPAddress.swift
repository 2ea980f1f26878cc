internal import Glibc

/// The bytes of an IPv4 or IPv6 address.
struct IPAddress: Hashable {
    let bytes: [UInt8]

    init?(_ text: String) {
        var buffer = [UInt8](repeating: 0, count: 16)
        for (family, length) in [(AF_INET, 4), (AF_INET6, 16)] where inet_pton(family, text, &buffer) == 1 {
            bytes = Array(buffer.prefix(length))
            return
        }
        return nil
    }

    func sharesPrefix(_ length: Int, with other: IPAddress) -> Bool {
        let (whole, rest) = length.quotientAndRemainder(dividingBy: 8)
        guard bytes.prefix(whole) == other.bytes.prefix(whole) else { return false }
        guard rest > 0 else { return true }
        return (bytes[whole] ^ other.bytes[whole]) >> (8 - rest) == 0
    }
}
