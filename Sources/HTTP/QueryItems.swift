/// The items of a query string, decoded, in the order they came.
public struct QueryItems: Sendable, ExpressibleByDictionaryLiteral {
    public var items: [(name: String, value: String)] = []

    public init() {}

    public init(_ pairs: KeyValuePairs<String, String>) { items = pairs.map { (name: $0.key, value: $0.value) } }

    public init(dictionaryLiteral elements: (String, String)...) {
        items = elements.map { (name: $0.0, value: $0.1) }
    }

    /// Reads `a=1&b=x%20y+z`. An item without `=` has an empty value. Text is repaired where it is not UTF-8, and a `%`
    /// that begins no escape stands for itself, as browsers and Nova read it.
    public init(parsing query: String) {
        for item in query.utf8.split(separator: UInt8(ascii: "&")) {
            let parts = item.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            let value = parts.count > 1 ? percentDecoded(parts[1], plusIsSpace: true) : []
            items.append(
                (
                    name: String(decoding: percentDecoded(parts[0], plusIsSpace: true), as: UTF8.self),
                    value: String(decoding: value, as: UTF8.self)
                ))
        }
    }

    public var isEmpty: Bool { items.isEmpty }

    /// The first value of `name`.
    public subscript(_ name: String) -> String? { items.first { $0.name == name }?.value }

    /// Every value of `name`, in order.
    public func all(_ name: String) -> [String] { items.filter { $0.name == name }.map(\.value) }
}

/// Percent-encoding of RFC 3986.
public enum PercentEncoding {
    /// Encodes everything but unreserved characters: fit for one path segment, a query name or a query value.
    public static func encode(_ text: String) -> String { encode(text, alsoPlain: "") }

    /// Encodes a path: like `encode(_:)`, with slashes left alone.
    public static func encodePath(_ path: String) -> String { encode(path, alsoPlain: "/:@!$&'()*+,;=") }

    /// The decoded text; `nil` when it is not UTF-8, holds a NUL, or has a `%` without two hexadecimal digits.
    public static func decode(_ text: some StringProtocol) -> String? {
        let bytes = Array(text.utf8)
        guard bytes.contains(UInt8(ascii: "%")) else { return bytes.contains(0) ? nil : String(text) }
        for (index, byte) in bytes.enumerated() where byte == UInt8(ascii: "%") {
            guard index + 2 < bytes.count, hexadecimal(bytes[index + 1]) != nil, hexadecimal(bytes[index + 2]) != nil
            else { return nil }
        }
        let decoded = percentDecoded(bytes, plusIsSpace: false)
        guard !decoded.contains(0) else { return nil }
        return String(validating: decoded, as: UTF8.self)
    }

    private static func encode(_ text: String, alsoPlain: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var encoded: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                encoded.append(byte)
            case _ where alsoPlain.utf8.contains(byte):
                encoded.append(byte)
            default:
                encoded += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 0x0F)]]
            }
        }
        return String(decoding: encoded, as: UTF8.self)
    }
}

private func percentDecoded(_ text: some Collection<UInt8>, plusIsSpace: Bool) -> [UInt8] {
    let bytes = Array(text)
    var decoded: [UInt8] = []
    decoded.reserveCapacity(bytes.count)
    var index = 0
    while index < bytes.count {
        if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count, let high = hexadecimal(bytes[index + 1]),
            let low = hexadecimal(bytes[index + 2])
        {
            decoded.append(high << 4 | low)
            index += 3
        } else {
            decoded.append(plusIsSpace && bytes[index] == UInt8(ascii: "+") ? 0x20 : bytes[index])
            index += 1
        }
    }
    return decoded
}

private func hexadecimal(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
}
