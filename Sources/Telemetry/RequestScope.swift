internal import CSystem
public import Model

/// The id of the user's call that the running Swift task works for; every log line carries it.
public enum RequestScope {
    @TaskLocal public static var current: RequestID?

    /// A new id, `req-` and a random uuid.
    public static func makeID() -> RequestID {
        var bytes = [UInt8](repeating: 0, count: 16)
        precondition(
            bytes.withUnsafeMutableBytes { apus_getrandom($0.baseAddress, $0.count) } == 0,
            "the kernel's random generator answers once the machine is up")
        bytes[6] = bytes[6] & 0x0F | 0x40
        bytes[8] = bytes[8] & 0x3F | 0x80
        let digits = Array("0123456789abcdef".utf8)
        var text = Array("req-".utf8)
        for (index, byte) in bytes.enumerated() {
            if [4, 6, 8, 10].contains(index) { text.append(UInt8(ascii: "-")) }
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return RequestID(String(decoding: text, as: UTF8.self))
    }

    /// The id in a caller's header if it has the form `req-<uuid>` in lower or upper case; `nil` for anything else.
    public static func accept(_ text: String) -> RequestID? {
        let bytes = Array(text.utf8)
        guard bytes.count == 40, bytes.starts(with: "req-".utf8) else { return nil }
        for (index, byte) in bytes.dropFirst(4).enumerated() {
            let isDash = [8, 13, 18, 23].contains(index)
            guard isDash ? byte == UInt8(ascii: "-") : Character(UnicodeScalar(byte)).isHexDigit else { return nil }
        }
        return RequestID(text.lowercased())
    }
}
