internal import CSystem
internal import Glibc
internal import Model

/// Where a command's words go. A value with closures, so that tests read what a person would.
struct Terminal: Sendable {
    var out: @Sendable (String) -> Void
    var err: @Sendable (String) -> Void
    /// Columns of the terminal behind standard error; 0 when it is none.
    var columns: Int

    static let standard = Terminal(
        out: { write($0, to: 1) }, err: { write($0, to: 2) }, columns: Int(apus_terminal_columns(2)))

    /// A line of the result.
    func print(_ text: String) { out(text + "\n") }

    /// A line for the person beside it.
    func complain(_ text: String) { err(text + "\n") }

    /// Machine's form of the result.
    func print(_ json: JSON) { print(String(decoding: json.serialized(), as: UTF8.self)) }

    private static func write(_ text: String, to descriptor: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0 {
                if errno == EINTR { continue }
                return  // The reader has gone: nobody is left to tell.
            }
            bytes = bytes.dropFirst(written)
        }
    }
}

/// `text` with blanks on the right up to `width` columns.
func padded(_ text: String, to width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
}

/// `text` with blanks on the left up to `width` columns.
func paddedLeft(_ text: String, to width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}

/// A number with `digits` places after the point, cut off by rounding half up.
func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite, abs(value) < 1e12 else { return "\(value)" }
    var scale = 1
    for _ in 0..<digits { scale *= 10 }
    let rounded = Int64((abs(value) * Double(scale)).rounded())
    let sign = value < 0 && rounded != 0 ? "-" : ""
    let whole = "\(sign)\(rounded / Int64(scale))"
    guard digits > 0 else { return whole }
    let rest = String(rounded % Int64(scale))
    return "\(whole).\(String(repeating: "0", count: digits - rest.count))\(rest)"
}

/// `13.2 MiB`
func readable(bytes: Int64) -> String {
    var value = Double(bytes)
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1_024 { return unit == "B" ? "\(bytes) B" : "\(fixed(value, 1)) \(unit)" }
        value /= 1_024
    }
    return "\(fixed(value, 1)) TiB"
}
