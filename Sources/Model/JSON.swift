/// A JSON value, for bodies whose shape is decided while they are read.
public enum JSON: Sendable, Hashable {
    case null
    case bool(Bool)
    /// A number written without fraction and exponent that fits into 64 bits.
    case integer(Int64)
    /// Every other number; always finite.
    case number(Double)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    /// The deepest nesting of arrays and objects that `init(parsing:)` accepts.
    public static let maximumDepth = 64

    /// Reads one RFC 8259 text: UTF-8 without byte order mark, nothing after the value, nesting up to `maximumDepth`.
    /// Of members with the same name the last one wins. A lone surrogate escape and a number beyond the range of
    /// `Double` are errors.
    public init(parsing bytes: [UInt8]) throws(JSONError) {
        self = try bytes.withUnsafeBufferPointer { (buffer) throws(JSONError) in
            var parser = JSONParser(buffer)
            return try parser.parse()
        }
    }

    /// The member `key` of an object; `nil` when there is none or this is no object.
    public subscript(_ key: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members[key]
    }

    /// The element at `index` of an array; `nil` beyond its end or when this is no array.
    public subscript(_ index: Int) -> JSON? {
        guard case .array(let elements) = self, elements.indices.contains(index) else { return nil }
        return elements[index]
    }

    public var isNull: Bool { self == .null }

    /// The string, or `nil` when this is something else.
    public var text: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }

    /// The integer, or `nil` when this is something else (also for `1.0`: it was not written as an integer).
    public var int: Int? {
        guard case .integer(let value) = self else { return nil }
        return Int(value)
    }

    /// The number, whether it was written with a fraction or without.
    public var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    public var boolean: Bool? {
        guard case .bool(let value) = self else { return nil }
        return value
    }

    public var list: [JSON]? {
        guard case .array(let value) = self else { return nil }
        return value
    }

    public var members: [String: JSON]? {
        guard case .object(let value) = self else { return nil }
        return value
    }

    /// What kind of value this is, in the words of JSON Schema: `null`, `boolean`, `integer`, `number` …
    public var typeName: String {
        switch self {
        case .null: "null"
        case .bool: "boolean"
        case .integer: "integer"
        case .number: "number"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }

    /// The value as compact JSON, members sorted by name, so that equal values give equal bytes.
    public func serialized() -> [UInt8] {
        var writer = JSONWriter()
        writer.value(self)
        return writer.finish()
    }
}

/// Why a text is not JSON, and where.
public struct JSONError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Reason: String, Sendable, Hashable {
        case unexpectedEnd = "the text ends too early"
        case unexpectedByte = "unexpected character"
        case trailingBytes = "more text after the value"
        case tooDeep = "nested too deeply"
        case invalidUTF8 = "not UTF-8"
        case invalidEscape = "unknown escape sequence"
        case loneSurrogate = "half of a surrogate pair"
        case controlCharacter = "control character in a string"
        case numberOutOfRange = "number out of range"
    }

    public let reason: Reason
    /// Bytes from the beginning of the text.
    public let offset: Int

    public init(_ reason: Reason, offset: Int) { (self.reason, self.offset) = (reason, offset) }

    public var description: String { "\(reason.rawValue) at byte \(offset)" }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(floatLiteral value: Double) { self = .number(value) }
    public init(arrayLiteral elements: JSON...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
    }
    public init(nilLiteral: ()) { self = .null }
}

extension JSON: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSON].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSON].self))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}
