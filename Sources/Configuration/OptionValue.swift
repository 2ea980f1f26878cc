internal import Model

/// A text that is not a value of an option's type.
public struct OptionError: Error, Sendable, Hashable {
    /// What would have been a value: `a whole number`.
    public let allowed: String

    public init(allowed: String) { self.allowed = allowed }
}

/// A type that options may have.
public protocol OptionValue: Sendable {
    /// The value that `text` says, with white space around it already removed.
    static func parse(_ text: String) throws(OptionError) -> Self
    /// The value as text that `parse` reads back.
    var optionText: String { get }
    /// What may be written, for people: `a whole number`.
    static var allowed: String { get }
}

/// An enumeration of texts as an option: `enum LogFormat: String, ChoiceOption`.
public protocol ChoiceOption: OptionValue, CaseIterable, RawRepresentable where RawValue == String {}

extension ChoiceOption {
    public static func parse(_ text: String) throws(OptionError) -> Self {
        guard let value = Self(rawValue: text) ?? Self(rawValue: text.lowercased()) else {
            throw OptionError(allowed: allowed)
        }
        return value
    }

    public var optionText: String { rawValue }

    public static var allowed: String { "one of " + allCases.map(\.rawValue).joined(separator: ", ") }
}

extension String: OptionValue {
    public static func parse(_ text: String) throws(OptionError) -> String { text }
    public var optionText: String { self }
    public static var allowed: String { "any text" }
}

extension Int: OptionValue {
    public static func parse(_ text: String) throws(OptionError) -> Int {
        guard let value = Int(text) else { throw OptionError(allowed: allowed) }
        return value
    }

    public var optionText: String { String(self) }
    public static var allowed: String { "a whole number" }
}

extension Double: OptionValue {
    public static func parse(_ text: String) throws(OptionError) -> Double {
        guard let value = Double(text), value.isFinite else { throw OptionError(allowed: allowed) }
        return value
    }

    public var optionText: String { "\(self)" }
    public static var allowed: String { "a number" }
}

extension Bool: OptionValue {
    public static func parse(_ text: String) throws(OptionError) -> Bool {
        switch text.lowercased() {
        case "true", "yes", "on", "1": return true
        case "false", "no", "off", "0": return false
        default: throw OptionError(allowed: allowed)
        }
    }

    public var optionText: String { self ? "true" : "false" }
    public static var allowed: String { "true or false (also yes/no, on/off, 1/0)" }
}

extension Duration: OptionValue {
    /// A number is seconds, as in Nova; with a unit also `500ms`, `10s`, `5m`, `2h`, `1d`.
    public static func parse(_ text: String) throws(OptionError) -> Duration {
        let unit = String(text.reversed().prefix { $0.isLetter }.reversed())
        let seconds: [String: Double] = ["": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400]
        guard let factor = seconds[unit], let number = Double(text.dropLast(unit.count)), number.isFinite,
            abs(number * factor) <= 100 * 366 * 86_400
        else { throw OptionError(allowed: allowed) }
        return .microseconds(Int64((number * factor * 1_000_000).rounded()))
    }

    public var optionText: String {
        let micros = microseconds
        if micros % 1_000_000 == 0 { return "\(micros / 1_000_000)s" }
        return micros % 1_000 == 0 ? "\(micros / 1_000)ms" : "\(inSeconds)s"
    }

    public static var allowed: String { "a duration: seconds, or a number with ms, s, m, h or d" }
}

extension Array: OptionValue where Element == String {
    /// Separated by commas; empty parts are left out.
    public static func parse(_ text: String) throws(OptionError) -> [String] {
        text.split(separator: ",").map { trimmed($0) }.filter { !$0.isEmpty }
    }

    public var optionText: String { joined(separator: ",") }
    public static var allowed: String { "texts separated by commas" }
}

extension Optional: OptionValue where Wrapped: OptionValue {
    /// An empty text is no value.
    public static func parse(_ text: String) throws(OptionError) -> Wrapped? {
        text.isEmpty ? nil : try Wrapped.parse(text)
    }

    public var optionText: String { self?.optionText ?? "" }
    public static var allowed: String { Wrapped.allowed + ", or nothing" }
}

/// `text` without white space at both ends.
func trimmed(_ text: some StringProtocol) -> String {
    let start = text.drop { $0.isWhitespace }
    guard let last = start.lastIndex(where: { !$0.isWhitespace }) else { return "" }
    return String(start[...last])
}
