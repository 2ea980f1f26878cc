internal import Model

/// The members of one JSON object as slices of its bytes, found without decoding the values: `params` and `result` go
/// to their decoder as they came. Hostile input costs one pass over it.
struct Envelope {
    /// More members than any request has; beyond it somebody is playing.
    private static let memberLimit = 64

    private var members: [(name: String, value: Range<Int>)] = []
    let bytes: [UInt8]

    enum Malformed: Error { case notJSON, notAnObject }

    /// Takes `bytes` apart. Strings, brackets and their depth are checked here; the rest by whoever decodes the values.
    init(_ bytes: [UInt8]) throws(Malformed) {
        self.bytes = bytes
        members = try bytes.withUnsafeBufferPointer { (buffer) throws(Malformed) in
            var scanner = Scanner(buffer)
            return try Self.read(&scanner)
        }
    }

    private static func read(_ scanner: inout Scanner) throws(Malformed) -> [(name: String, value: Range<Int>)] {
        var members: [(name: String, value: Range<Int>)] = []
        scanner.skipSpace()
        guard scanner.take(UInt8(ascii: "{")) else { throw scanner.atEnd ? .notJSON : .notAnObject }
        scanner.skipSpace()
        if !scanner.take(UInt8(ascii: "}")) {
            repeat {
                scanner.skipSpace()
                guard let name = scanner.name() else { throw .notJSON }
                scanner.skipSpace()
                guard scanner.take(UInt8(ascii: ":")) else { throw .notJSON }
                scanner.skipSpace()
                let start = scanner.position
                guard scanner.skipValue(), members.count < memberLimit else { throw .notJSON }
                members.append((name: name, value: start..<scanner.position))
                scanner.skipSpace()
            } while scanner.take(UInt8(ascii: ","))
            guard scanner.take(UInt8(ascii: "}")) else { throw .notJSON }
        }
        scanner.skipSpace()
        guard scanner.atEnd else { throw .notJSON }
        return members
    }

    /// Of members with the same name the last one counts.
    private func range(_ name: String) -> Range<Int>? { members.last { $0.name == name }?.value }

    func slice(_ name: String) -> [UInt8]? { range(name).map { Array(bytes[$0]) } }

    /// The member's value where it is text.
    func text(_ name: String) -> String? {
        guard let range = range(name), bytes[range.lowerBound] == UInt8(ascii: "\"") else { return nil }
        return (try? JSON(parsing: Array(bytes[range])))?.text
    }
}

private struct Scanner {
    private let bytes: UnsafeBufferPointer<UInt8>
    private(set) var position = 0

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    var atEnd: Bool { position == bytes.count }

    mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    /// A member's name, decoded.
    mutating func name() -> String? {
        let start = position
        guard skipString() else { return nil }
        let inner = UnsafeBufferPointer(rebasing: bytes[(start + 1)..<(position - 1)])
        if !inner.contains(UInt8(ascii: "\\")) { return String(validating: inner, as: UTF8.self) }
        return (try? JSON(parsing: Array(bytes[start..<position])))?.text
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

    /// Skips one value; nesting is counted, not recursed into.
    mutating func skipValue() -> Bool {
        guard position < bytes.count else { return false }
        switch bytes[position] {
        case UInt8(ascii: "\""): return skipString()
        case UInt8(ascii: "{"), UInt8(ascii: "["): return skipNested()
        default:
            let start = position
            while position < bytes.count {
                switch bytes[position] {
                case 0x20, 0x09, 0x0A, 0x0D, UInt8(ascii: ","), UInt8(ascii: "}"), UInt8(ascii: "]"):
                    return position > start
                default: position += 1
                }
            }
            return position > start
        }
    }

    private mutating func skipNested() -> Bool {
        // One bit a level: whether the bracket that is open there is a brace.
        var (depth, braces): (Int, UInt64) = (0, 0)
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                guard depth < JSON.maximumDepth else { return false }
                braces = braces << 1 | (bytes[position] == UInt8(ascii: "{") ? 1 : 0)
                depth += 1
                position += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                guard (braces & 1 == 1) == (bytes[position] == UInt8(ascii: "}")) else { return false }
                braces >>= 1
                depth -= 1
                position += 1
                if depth == 0 { return true }
            case UInt8(ascii: "\""):
                guard skipString() else { return false }
            default: position += 1
            }
        }
        return false
    }
}
