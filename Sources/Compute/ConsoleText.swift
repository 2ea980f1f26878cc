/// The end of a console log as text that any client can show.
enum ConsoleText {
    /// Bytes of log that are looked at.
    static let limit = 100 * 1_024

    /// The last `lines` lines of `bytes` (all without it): UTF-8, what is not becomes U+FFFD, control characters other
    /// than tab and newline are dropped. At most `limit` bytes.
    static func clean(_ bytes: [UInt8], lines: Int?) -> String {
        var rest = bytes.suffix(limit)
        if bytes.count > limit {
            // The cut may have gone through a character.
            rest = rest.drop { $0 & 0xC0 == 0x80 }
        }
        if let lines { rest = lastLines(lines, of: rest) }
        var text = String.UnicodeScalarView()
        for scalar in String(decoding: rest, as: UTF8.self).unicodeScalars where isShown(scalar) { text.append(scalar) }
        var shown = String(text)[...]
        // Each byte that was none became three.
        if shown.utf8.count > limit {
            var tail = shown.utf8.suffix(limit)
            while let first = tail.first, first & 0xC0 == 0x80 { tail = tail.dropFirst() }
            shown = Substring(tail)
        }
        return String(shown)
    }

    private static func lastLines(_ count: Int, of bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        guard count > 0 else { return [] }
        let newline = UInt8(ascii: "\n")
        // A newline at the very end ends the last line; it does not begin another.
        var index = bytes.last == newline ? bytes.endIndex - 1 : bytes.endIndex
        var found = 0
        while index > bytes.startIndex {
            if bytes[index - 1] == newline {
                found += 1
                if found == count { break }
            }
            index -= 1
        }
        return bytes[index...]
    }

    private static func isShown(_ scalar: Unicode.Scalar) -> Bool {
        scalar == "\t" || scalar == "\n" || (scalar.value >= 0x20 && !(0x7F...0x9F).contains(scalar.value))
    }
}
