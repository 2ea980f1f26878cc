internal import Glibc

/// Whether `text` is an IPv4 address in dotted form.
func isIPv4(_ text: String) -> Bool {
    var address = in_addr()
    return text.utf8.count <= 15 && inet_pton(AF_INET, text, &address) == 1
}

/// Whether `text` is an IPv6 address.
func isIPv6(_ text: String) -> Bool {
    var address = in6_addr()
    return text.utf8.count <= 45 && inet_pton(AF_INET6, text, &address) == 1
}

/// Whether `text` is a uuid with dashes, in either letter case.
func isUUID(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    guard bytes.count == 36 else { return false }
    return bytes.enumerated().allSatisfy { index, byte in
        switch index {
        case 8, 13, 18, 23: byte == UInt8(ascii: "-")
        default: (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte | 0x20)
        }
    }
}
