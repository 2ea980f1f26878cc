internal import Model

/// Reads a JSON object member by member and refuses what is left over: types, lengths and unknown members are checked,
/// and each refusal names the member.
struct BodyFields {
    private let name: String
    private var members: [String: JSON]

    /// - Parameter name: how the object is called in refusals: "server".
    init(_ value: JSON, as name: String) throws(APIError) {
        guard let members = value.members else {
            throw .badRequest("Invalid input for \(name): an object is wanted, not \(value.typeName).")
        }
        (self.name, self.members) = (name, members)
    }

    /// The object under the one member `name` of a request's body; `others` may stand beside it.
    static func body(
        _ bytes: [UInt8], member name: String, others: Set<String> = []
    ) throws(APIError) -> (fields: BodyFields, others: [String: JSON]) {
        let document = try parse(bytes)
        guard var members = document.members else { throw .badRequest("Malformed request body: an object is wanted.") }
        guard let value = members.removeValue(forKey: name) else {
            throw .badRequest("Invalid input: '\(name)' is a required member.")
        }
        if let unknown = members.keys.filter({ !others.contains($0) }).sorted().first {
            throw .badRequest("Additional properties are not allowed ('\(unknown)' was unexpected).")
        }
        return (try BodyFields(value, as: name), members)
    }

    /// The list that is the only member of a request's body.
    static func bodyList(_ bytes: [UInt8], member name: String) throws(APIError) -> [JSON] {
        var fields = try BodyFields(try parse(bytes), as: "body")
        guard let list = try fields.list(name) else { throw fields.missing(name) }
        try fields.finish()
        return list
    }

    /// All members, each a text.
    func allTexts() throws(APIError) -> [String: String] { try Self.texts(.object(members), name) }

    static func parse(_ bytes: [UInt8]) throws(APIError) -> JSON {
        do {
            return try JSON(parsing: bytes)
        } catch {
            throw .badRequest("Malformed request body: \(error).")
        }
    }

    /// Throws 400 when members are left that nobody took.
    func finish() throws(APIError) {
        guard let unknown = members.keys.sorted().first else { return }
        throw .badRequest("Additional properties are not allowed ('\(unknown)' was unexpected).")
    }

    mutating func take(_ key: String) -> JSON? { members.removeValue(forKey: key) }

    private func invalid(_ key: String, _ wanted: String, _ value: JSON) -> APIError {
        let shown: String =
            switch value {
            case .string(let text): "'\(text.prefix(64))'"
            case .integer(let number): "\(number)"
            default: value.typeName
            }
        return .badRequest("Invalid input for field/attribute \(key). Value: \(shown). Wanted: \(wanted).")
    }

    private func missing(_ key: String) -> APIError {
        .badRequest("Invalid input for field/attribute \(name). '\(key)' is a required property.")
    }

    // MARK: - Texts

    /// A text of up to `length` characters, without NUL.
    mutating func text(_ key: String, length: ClosedRange<Int> = 0...255) throws(APIError) -> String? {
        guard let value = take(key) else { return nil }
        return try text(key, value, length)
    }

    /// A text or null: the outer optional says whether the member was there.
    mutating func nullableText(_ key: String, length: ClosedRange<Int> = 0...255) throws(APIError) -> String?? {
        guard let value = take(key) else { return nil }
        return value.isNull ? .some(nil) : try text(key, value, length)
    }

    mutating func requiredText(_ key: String, length: ClosedRange<Int> = 1...255) throws(APIError) -> String {
        guard let text = try text(key, length: length) else { throw missing(key) }
        return text
    }

    /// A name: 1 to 255 printable characters, neither first nor last of them a space.
    mutating func name(_ key: String) throws(APIError) -> String? {
        guard let value = take(key) else { return nil }
        let name = try text(key, value, 1...255)
        let isPrintable = name.unicodeScalars.allSatisfy { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
            default: true
            }
        }
        guard isPrintable, name.first?.isWhitespace == false, name.last?.isWhitespace == false else {
            throw invalid(key, "printable characters, without spaces around them", value)
        }
        return name
    }

    mutating func requiredName(_ key: String) throws(APIError) -> String {
        guard let name = try name(key) else { throw missing(key) }
        return name
    }

    private func text(_ key: String, _ value: JSON, _ length: ClosedRange<Int>) throws(APIError) -> String {
        guard let text = value.text, length.contains(text.unicodeScalars.count), !text.utf8.contains(0) else {
            throw invalid(key, "a text of \(length.lowerBound) to \(length.upperBound) characters", value)
        }
        return text
    }

    /// An id given as text or as a number; of a URL the last segment.
    mutating func reference(_ key: String) throws(APIError) -> String {
        guard let value = take(key) else { throw missing(key) }
        if case .integer(let number) = value, number >= 0 { return String(number) }
        let text = try text(key, value, 0...1_024)
        guard text.contains("/") else { return text }
        return text.split(separator: "/").last.map(String.init) ?? ""
    }

    // MARK: - Numbers and flags

    /// A whole number, or its digits as text.
    mutating func integer(_ key: String, _ range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = take(key) else { return nil }
        let number: Int? =
            switch value {
            case .integer(let number): Int(exactly: number)
            case .string(let text): isDecimal(text) ? Int(text) : nil
            default: nil
            }
        guard let number, range.contains(number) else {
            throw invalid(key, "a whole number from \(range.lowerBound) to \(range.upperBound)", value)
        }
        return number
    }

    mutating func requiredInteger(_ key: String, _ range: ClosedRange<Int>) throws(APIError) -> Int {
        guard let number = try integer(key, range) else { throw missing(key) }
        return number
    }

    mutating func number(_ key: String) throws(APIError) -> Double? {
        guard let value = take(key) else { return nil }
        guard let number = value.double ?? value.text.flatMap(Double.init), number.isFinite else {
            throw invalid(key, "a number", value)
        }
        return number
    }

    mutating func flag(_ key: String) throws(APIError) -> Bool? {
        guard let value = take(key) else { return nil }
        guard let flag = value.boolean ?? value.text.flatMap(parseFlag) ?? value.int.flatMap({ parseFlag("\($0)") })
        else { throw invalid(key, "true or false", value) }
        return flag
    }

    /// A flag that must be there; `nil` where the word `other` stands in its place.
    mutating func requiredFlag(_ key: String, or other: String? = nil) throws(APIError) -> Bool? {
        if let other, members[key]?.text == other {
            members[key] = nil
            return nil
        }
        guard let flag = try flag(key) else { throw missing(key) }
        return flag
    }

    mutating func choice(_ key: String, _ choices: [String]) throws(APIError) -> String? {
        guard let value = take(key) else { return nil }
        guard let text = value.text, choices.contains(text) else {
            throw invalid(key, "one of " + choices.joined(separator: ", "), value)
        }
        return text
    }

    // MARK: - Collections

    mutating func list(_ key: String) throws(APIError) -> [JSON]? {
        guard let value = take(key) else { return nil }
        guard let list = value.list else { throw invalid(key, "a list", value) }
        return list
    }

    /// Names and texts, each 1 to 255 and up to 255 characters long.
    mutating func texts(_ key: String) throws(APIError) -> [String: String]? {
        guard let value = take(key) else { return nil }
        return try Self.texts(value, key)
    }

    static func texts(_ value: JSON, _ name: String) throws(APIError) -> [String: String] {
        guard let members = value.members else {
            throw .badRequest("Invalid input for \(name): an object is wanted, not \(value.typeName).")
        }
        var found: [String: String] = [:]
        for (key, value) in members {
            guard (1...255).contains(key.unicodeScalars.count), !key.utf8.contains(0) else {
                throw .badRequest("Invalid input for \(name): a key has 1 to 255 characters.")
            }
            guard let text = value.text, text.unicodeScalars.count <= 255, !text.utf8.contains(0) else {
                throw .badRequest("Invalid input for \(name): the value of \(key) is a text of up to 255 characters.")
            }
            found[key] = text
        }
        return found
    }

    private func isDecimal(_ text: String) -> Bool {
        let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
        return (1...18).contains(digits.utf8.count) && digits.utf8.allSatisfy { (48...57).contains($0) }
    }
}

/// A flag in the many forms that Nova's clients send.
func parseFlag(_ text: String) -> Bool? {
    switch text.lowercased() {
    case "true", "t", "yes", "y", "on", "1": true
    case "false", "f", "no", "n", "off", "0": false
    default: nil
    }
}
