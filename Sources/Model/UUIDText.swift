/// Whether `text` is a uuid with dashes, in either letter case.
public func isUUID(_ text: String) -> Bool { isUUID(text, mayBeUpperCase: true) }

/// Whether `text` is a uuid with dashes in lower case: the form of ids, and the only one that becomes a file's name.
public func isLowerCaseUUID(_ text: String) -> Bool { isUUID(text, mayBeUpperCase: false) }

private func isUUID(_ text: String, mayBeUpperCase: Bool) -> Bool {
    guard text.utf8.count == 36 else { return false }
    return text.utf8.enumerated().allSatisfy { index, byte in
        switch index {
        case 8, 13, 18, 23: byte == UInt8(ascii: "-")
        default:
            (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
                || mayBeUpperCase && (0x41...0x46).contains(byte)
        }
    }
}
