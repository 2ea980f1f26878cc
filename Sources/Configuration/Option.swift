/// One option: where it stands in the file, its type and its default.
///
/// Each target declares its own, with Nova's section and name wherever Nova has the option.
public struct Option<Value: OptionValue>: Sendable {
    public let section: String
    public let name: String
    public let defaultValue: Value
    public let help: String
    /// Secret values are masked when printed, refused by `--set`, and may be `file:PATH`.
    public let isSecret: Bool
    let check: (@Sendable (Value) -> String?)?

    /// `check` returns what is allowed when the value is not.
    public init(
        _ section: String, _ name: String, default: Value, help: String, isSecret: Bool = false,
        check: (@Sendable (Value) -> String?)? = nil
    ) {
        (self.section, self.name, self.help, self.isSecret) = (section, name, help, isSecret)
        self.check = check
        defaultValue = `default`
    }

    /// `section.name`.
    public var key: String { "\(section).\(name)" }

    /// The option without its type, for lists.
    public var erased: AnyOption {
        AnyOption(
            section: section, name: name, help: help, isSecret: isSecret, defaultText: defaultValue.optionText
        ) { text throws(OptionError) in
            let value = try parse(text)
            return (value, value.optionText)
        }
    }

    func parse(_ text: String) throws(OptionError) -> Value {
        let value = try Value.parse(text)
        if let allowed = check?(value) { throw OptionError(allowed: allowed) }
        return value
    }
}

/// An option without its type.
public struct AnyOption: Sendable {
    public let section: String
    public let name: String
    public let help: String
    public let isSecret: Bool
    /// The default as it would be written in a file.
    public let defaultText: String
    /// The value and its usual text.
    let parse: @Sendable (String) throws(OptionError) -> (value: any Sendable, text: String)

    /// `section.name`.
    public var key: String { "\(section).\(name)" }

    init(
        section: String, name: String, help: String, isSecret: Bool, defaultText: String,
        parse: @escaping @Sendable (String) throws(OptionError) -> (value: any Sendable, text: String)
    ) {
        (self.section, self.name, self.help, self.isSecret) = (section, name, help, isSecret)
        (self.defaultText, self.parse) = (defaultText, parse)
    }
}
