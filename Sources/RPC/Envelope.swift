internal import Model

/// The members of one JSON object as slices of its bytes, found without decoding the values: `params` and `result` go
/// to their decoder as they came.
struct Envelope {
    private var members: [String: Range<Int>] = [:]
    let bytes: [UInt8]

    enum Malformed: Error { case notJSON, notAnObject }

    /// Takes `bytes` apart. Values are only skipped here; whoever decodes them checks them.
    init(_ bytes: [UInt8]) throws(Malformed) {
        self.bytes = bytes
        var scanner = Scanner(bytes: bytes)
        scanner.skipSpace()
        guard scanner.take(UInt8(ascii: "{")) else {
            throw scanner.atEnd ? .notJSON : .notAnObject
        }
        scanner.skipSpace()
        if !scanner.take(UInt8(ascii: "}")) {
            repeat {
                scanner.skipSpace()
                let key = scanner.position
                guard scanner.skipString() else { throw .notJSON }
                let name = String(decoding: bytes[(key + 1)..<(scanner.position - 1)], as: UTF8.self)
                scanner.skipSpace()
                guard scanner.take(UInt8(ascii: ":")) else { throw .notJSON }
                scanner.skipSpace()
                let start = scanner.position
                guard scanner.skipValue() else { throw .notJSON }
                members[name] = start..<scanner.position
                scanner.skipSpace()
            } while scanner.take(UInt8(ascii: ","))
            guard scanner.take(UInt8(ascii: "}")) else { throw .notJSON }
        }
        scanner.skipSpace()
        guard scanner.atEnd else { throw .notJSON }
    }

    func slice(_ name: String) -> [UInt8]? { members[name].map { Array(bytes[$0]) } }

    /// The member's value where it is text.
    func text(_ name: String) -> String? {
        guard let range = members[name], bytes[range.lowerBound] == UInt8(ascii: "\"") else { return nil }
        let inner = bytes[(range.lowerBound + 1)..<(range.upperBound - 1)]
        if !inner.contains(UInt8(ascii: "\\")) { return String(validating: inner, as: UTF8.self) }
        guard let value = try? JSON(parsing: Array(bytes[range])) else { return nil }
        return value.text
    }
}

private struct Scanner {
    let bytes: [UInt8]
    var position = 0

    var atEnd: Bool { position == bytes.count }

    mutating func skipSpace() {
        while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    mutating func skipString() -> Bool {
        guard take(UInt8(ascii: "\"")) else { return false }
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                position += 1
                return true
            case UInt8(ascii: "\\"): position += 2
            case 0..<0x20: return false
            default: position += 1
            }
        }
        position = bytes.count
        return false
    }

    /// Skips one value; nesting is counted, not recursed into, so depth costs nothing.
    mutating func skipValue() -> Bool {
        guard position < bytes.count else { return false }
        switch bytes[position] {
        case UInt8(ascii: "\""): return skipString()
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            var depth = 0
            while position < bytes.count {
                switch bytes[position] {
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    depth += 1
                    position += 1
                case UInt8(ascii: "}"), UInt8(ascii: "]"):
                    depth -= 1
                    position += 1
                    if depth == 0 { return true }
                case UInt8(ascii: "\""):
                    guard skipString() else { return false }
                default: position += 1
                }
            }
            return false
        default:
            let start = position
            while position < bytes.count, ![0x20, 0x09, 0x0A, 0x0D, 0x2C, 0x7D, 0x5D].contains(bytes[position]) {
                position += 1
            }
            return position > start
        }
    }
}
