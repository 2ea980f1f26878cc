/// Header fields in the order they were added; names compare without letter case, and one name may come several times.
public struct HTTPFields: Sendable, Hashable, Sequence, ExpressibleByDictionaryLiteral {
    private struct Field: Sendable, Hashable {
        var name: String
        var value: String
    }

    private var fields: [Field] = []

    public init() {}

    public init(_ pairs: KeyValuePairs<String, String>) {
        fields = pairs.map { Field(name: $0.key, value: $0.value) }
    }

    public init(dictionaryLiteral elements: (String, String)...) {
        fields = elements.map { Field(name: $0.0, value: $0.1) }
    }

    public var count: Int { fields.count }
    public var isEmpty: Bool { fields.isEmpty }

    /// The first value of `name`. Setting replaces every value; setting `nil` removes them.
    public subscript(_ name: String) -> String? {
        get { fields.first { sameName($0.name, name) }?.value }
        set {
            guard let newValue else { return fields.removeAll { sameName($0.name, name) } }
            if let first = fields.firstIndex(where: { sameName($0.name, name) }) {
                fields[first].value = newValue
                if fields.dropFirst(first + 1).contains(where: { sameName($0.name, name) }) {
                    let rest = fields[(first + 1)...].filter { !sameName($0.name, name) }
                    fields.replaceSubrange((first + 1)..., with: rest)
                }
            } else {
                fields.append(Field(name: name, value: newValue))
            }
        }
    }

    /// Every value of `name`, in order.
    public func all(_ name: String) -> [String] {
        fields.filter { sameName($0.name, name) }.map(\.value)
    }

    /// Adds one more field, whatever is there already.
    public mutating func add(_ name: String, _ value: String) {
        fields.append(Field(name: name, value: value))
    }

    public func makeIterator() -> AnyIterator<(name: String, value: String)> {
        var rest = fields.makeIterator()
        return AnyIterator { rest.next().map { (name: $0.name, value: $0.value) } }
    }

    /// The name of a field that cannot be sent: its name is no token, or its value holds a control character with which
    /// more fields could be smuggled in.
    var firstUnsendable: String? {
        fields.first { !isToken($0.name) || $0.value.utf8.contains { ($0 < 0x20 && $0 != 0x09) || $0 == 0x7F } }?.name
    }
}

private func sameName(_ left: String, _ right: String) -> Bool {
    let (left, right) = (left.utf8, right.utf8)
    guard left.count == right.count else { return false }
    return zip(left, right).allSatisfy { lowered($0) == lowered($1) }
}

private func lowered(_ byte: UInt8) -> UInt8 { (0x41...0x5A).contains(byte) ? byte | 0x20 : byte }

/// Whether `text` is a token of RFC 9110, as field names and methods must be.
func isToken(_ text: String) -> Bool {
    !text.isEmpty
        && text.utf8.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
            default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
        }
}
