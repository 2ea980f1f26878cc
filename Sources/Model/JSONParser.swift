/// A recursive RFC 8259 parser; its depth is bounded by `JSON.maximumDepth`.
struct JSONParser {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var position = 0
    private var depth = 0

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    mutating func parse() throws(JSONError) -> JSON {
        skipSpace()
        let value = try parseValue()
        skipSpace()
        guard position == bytes.count else { throw JSONError(.trailingBytes, offset: position) }
        return value
    }

    private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

    private var unexpected: JSONError {
        JSONError(position < bytes.count ? .unexpectedByte : .unexpectedEnd, offset: position)
    }

    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private mutating func expect(_ byte: UInt8) throws(JSONError) {
        guard peek == byte else { throw unexpected }
        position += 1
    }

    private mutating func parseValue() throws(JSONError) -> JSON {
        switch peek {
        case UInt8(ascii: "{"): return try nested { (parser) throws(JSONError) in try parser.parseObject() }
        case UInt8(ascii: "["): return try nested { (parser) throws(JSONError) in try parser.parseArray() }
        case UInt8(ascii: "\""): return .string(try parseString())
        case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
        case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
        case UInt8(ascii: "n"): return try parseWord("null", .null)
        default: return try parseNumber()
        }
    }

    private mutating func nested(_ body: (inout Self) throws(JSONError) -> JSON) throws(JSONError) -> JSON {
        guard depth < JSON.maximumDepth else { throw JSONError(.tooDeep, offset: position) }
        depth += 1
        let value = try body(&self)
        depth -= 1
        return value
    }

    private mutating func parseWord(_ word: StaticString, _ value: JSON) throws(JSONError) -> JSON {
        for index in 0..<word.utf8CodeUnitCount { try expect(word.utf8Start[index]) }
        return value
    }

    private mutating func parseObject() throws(JSONError) -> JSON {
        position += 1
        skipSpace()
        var members: [String: JSON] = [:]
        if peek == UInt8(ascii: "}") {
            position += 1
            return .object(members)
        }
        while true {
            guard peek == UInt8(ascii: "\"") else { throw unexpected }
            let key = try parseString()
            skipSpace()
            try expect(UInt8(ascii: ":"))
            skipSpace()
            members[key] = try parseValue()
            skipSpace()
            guard peek == UInt8(ascii: ",") else {
                try expect(UInt8(ascii: "}"))
                return .object(members)
            }
            position += 1
            skipSpace()
        }
    }

    private mutating func parseArray() throws(JSONError) -> JSON {
        position += 1
        skipSpace()
        var elements: [JSON] = []
        if peek == UInt8(ascii: "]") {
            position += 1
            return .array(elements)
        }
        while true {
            elements.append(try parseValue())
            skipSpace()
            guard peek == UInt8(ascii: ",") else {
                try expect(UInt8(ascii: "]"))
                return .array(elements)
            }
            position += 1
            skipSpace()
        }
    }

    private mutating func parseNumber() throws(JSONError) -> JSON {
        let start = position
        if peek == UInt8(ascii: "-") { position += 1 }
        let firstDigit = position
        try skipDigits()
        // A leading zero stands alone: "01" is not a number.
        if bytes[firstDigit] == UInt8(ascii: "0"), position - firstDigit > 1 {
            throw JSONError(.unexpectedByte, offset: firstDigit + 1)
        }
        var isInteger = true
        if peek == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            try skipDigits()
        }
        if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
            isInteger = false
            position += 1
            if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { position += 1 }
            try skipDigits()
        }
        let text = String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
        if isInteger, let value = Int64(text) { return .integer(value) }
        guard let value = Double(text), value.isFinite else { throw JSONError(.numberOutOfRange, offset: start) }
        return .number(value)
    }

    private mutating func skipDigits() throws(JSONError) {
        let start = position
        while let byte = peek, byte >= 0x30, byte <= 0x39 { position += 1 }
        guard position > start else { throw unexpected }
    }

    private mutating func parseString() throws(JSONError) -> String {
        position += 1
        let start = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                defer { position += 1 }
                return try text(UnsafeBufferPointer(rebasing: bytes[start..<position]), at: start)
            case UInt8(ascii: "\\"):
                return try parseEscapedString(from: start)
            case 0..<0x20:
                throw JSONError(.controlCharacter, offset: position)
            default:
                position += 1
            }
        }
        throw unexpected
    }

    /// Goes on behind the first backslash of the string that began at `start`.
    private mutating func parseEscapedString(from start: Int) throws(JSONError) -> String {
        var decoded = Array(bytes[start..<position])
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                defer { position += 1 }
                return try decoded.withUnsafeBufferPointer { (buffer) throws(JSONError) in
                    try text(buffer, at: start)
                }
            case UInt8(ascii: "\\"):
                position += 1
                try parseEscape(into: &decoded)
            case 0..<0x20:
                throw JSONError(.controlCharacter, offset: position)
            default:
                decoded.append(byte)
                position += 1
            }
        }
        throw unexpected
    }

    private mutating func parseEscape(into decoded: inout [UInt8]) throws(JSONError) {
        guard let byte = peek else { throw unexpected }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): decoded.append(byte)
        case UInt8(ascii: "b"): decoded.append(0x08)
        case UInt8(ascii: "f"): decoded.append(0x0C)
        case UInt8(ascii: "n"): decoded.append(0x0A)
        case UInt8(ascii: "r"): decoded.append(0x0D)
        case UInt8(ascii: "t"): decoded.append(0x09)
        case UInt8(ascii: "u"): decoded.append(contentsOf: try parseUnicodeEscape())
        default: throw JSONError(.invalidEscape, offset: position - 2)
        }
    }

    private mutating func parseUnicodeEscape() throws(JSONError) -> Unicode.UTF8.EncodedScalar {
        let start = position - 2
        var code = try parseHexadecimal()
        if (0xD800..<0xDC00).contains(code) {
            guard peek == UInt8(ascii: "\\") else { throw JSONError(.loneSurrogate, offset: start) }
            position += 1
            guard peek == UInt8(ascii: "u") else { throw JSONError(.loneSurrogate, offset: start) }
            position += 1
            let low = try parseHexadecimal()
            guard (0xDC00..<0xE000).contains(low) else { throw JSONError(.loneSurrogate, offset: start) }
            code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        }
        // A low half without its high half is no scalar.
        guard let scalar = Unicode.Scalar(code), let encoded = UTF8.encode(scalar) else {
            throw JSONError(.loneSurrogate, offset: start)
        }
        return encoded
    }

    private mutating func parseHexadecimal() throws(JSONError) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek else { throw unexpected }
            let digit: UInt8
            switch byte {
            case 0x30...0x39: digit = byte - 0x30
            case 0x41...0x46: digit = byte - 0x41 + 10
            case 0x61...0x66: digit = byte - 0x61 + 10
            default: throw JSONError(.invalidEscape, offset: position)
            }
            code = code << 4 | UInt32(digit)
            position += 1
        }
        return code
    }

    private func text(_ buffer: UnsafeBufferPointer<UInt8>, at start: Int) throws(JSONError) -> String {
        guard let text = String(validating: buffer, as: UTF8.self) else {
            throw JSONError(.invalidUTF8, offset: start)
        }
        return text
    }
}
