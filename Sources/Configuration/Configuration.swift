/// The options in force, each checked, and where each came from.
public struct Configuration: Sendable {
    private struct Setting: Sendable {
        var text: String
        var source: String
        /// One value per declaration of the option; two targets may declare the same one with different types.
        var values: [any Sendable]
    }

    private let options: [String: [AnyOption]]
    private let order: [AnyOption]
    private var settings: [String: Setting] = [:]

    /// What a person should know though it does not stop the start: options that nobody knows, with the nearest name.
    public private(set) var warnings: [String] = []

    /// Reads the files in order, later ones winning, then applies the overrides (`section.option=value`).
    ///
    /// Throws at the first value that is not allowed, at a secret among the overrides, and at a file that holds secrets
    /// and is readable by others than its owner. An option that nobody declared is only a warning in a file, but an
    /// error in an override.
    public static func load(
        files: [String], overrides: [String], options: [AnyOption]
    ) throws(ConfigurationError) -> Configuration {
        var configuration = Configuration(declared: options)
        for path in files { try configuration.read(path) }
        for text in overrides {
            guard let equals = text.firstIndex(of: "=") else { throw .badOverride(text: text) }
            let key = trimmed(text[..<equals]).replacing("-", with: "_")
            guard key.contains(".") else { throw .badOverride(text: text) }
            guard let known = configuration.options[key] else {
                throw .unknownOption(key: key, nearest: configuration.nearest(to: key))
            }
            if known.contains(where: \.isSecret) { throw .secretOverride(key: key) }
            try configuration.set(key, to: trimmed(text[text.index(after: equals)...]), source: "--set")
        }
        return configuration
    }

    /// A configuration of given values by `section.option`. Without `options`, any option may be set and read.
    public init(options: [AnyOption] = [], values: [String: String] = [:]) throws(ConfigurationError) {
        self.init(declared: options)
        for (key, value) in values.sorted(by: { $0.key < $1.key }) { self = try setting(key, to: value) }
    }

    private init(declared: [AnyOption]) {
        options = Dictionary(grouping: declared, by: \.key)
        var seen: Set<String> = []
        order = declared.filter { seen.insert($0.key).inserted }
    }

    /// The value in force.
    public subscript<Value>(_ option: Option<Value>) -> Value {
        guard let setting = settings[option.key] else { return option.defaultValue }
        if let value = setting.values.lazy.compactMap({ $0 as? Value }).first { return value }
        do {
            return try option.parse(setting.text)
        } catch {
            preconditionFailure("\(option.key) was set without being declared, and is not \(error.allowed)")
        }
    }

    /// The same with one option changed.
    public func setting(_ key: String, to value: String) throws(ConfigurationError) -> Configuration {
        guard options.isEmpty || options[key] != nil else { throw .unknownOption(key: key, nearest: nearest(to: key)) }
        var changed = self
        try changed.set(key, to: value, source: "set by the program")
        return changed
    }

    /// Every option with its value and where it came from, in a form that can be read as a file; secrets are masked.
    public func printed() -> String {
        var sections: [String] = []
        for option in order where !sections.contains(option.section) { sections.append(option.section) }
        return sections.map { section in
            let lines = order.filter { $0.section == section }.map { option in
                let setting = settings[option.key]
                let text = setting?.text ?? option.defaultText
                let shown = option.isSecret && !text.isEmpty ? "****" : text.replacing("\n", with: "\n    ")
                return "# \(option.help) (\(setting?.source ?? "default"))\n\(option.name) = \(shown)\n"
            }
            return "[\(section)]\n" + lines.joined()
        }.joined(separator: "\n")
    }

    /// The value of an option as it would be written in a file.
    public func text(of option: AnyOption) -> String { settings[option.key]?.text ?? option.defaultText }

    /// Where an option's value came from: `PATH:LINE`, `--set`, `default`.
    public func source(of key: String) -> String { settings[key]?.source ?? "default" }

    private mutating func read(_ path: String) throws(ConfigurationError) {
        let (text, isExposed) = try readFile(path, limit: INIFile.largest)
        let file = try INIFile(text, path: path)
        let secrets = file.entries.filter { entry in
            options[entry.key]?.contains(where: \.isSecret) == true && !entry.value.isEmpty
                && !entry.value.hasPrefix("file:")
        }
        if isExposed, !secrets.isEmpty { throw .exposedSecrets(path: path, keys: secrets.map(\.key)) }
        for entry in file.entries {
            let source = "\(path):\(entry.line)"
            guard options[entry.key] != nil else {
                let hint = nearest(to: entry.key).map { "; the nearest is \($0)" } ?? ""
                warnings.append("\(source): there is no option \(entry.key)\(hint)")
                continue
            }
            try set(entry.key, to: entry.value, source: source)
        }
    }

    private mutating func set(_ key: String, to text: String, source: String) throws(ConfigurationError) {
        let declarations = options[key] ?? []
        let isSecret = declarations.contains(where: \.isSecret)
        var (text, source) = (text, source)
        if isSecret, text.hasPrefix("file:") {
            let path = String(text.dropFirst(5))
            let (content, isExposed) = try readFile(path, limit: 65_536)
            if isExposed { throw .exposedSecrets(path: path, keys: [key]) }
            (text, source) = (trimmed(content), "file:\(path)")
        }
        var setting = Setting(text: text, source: source, values: [])
        for option in declarations {
            do throws(OptionError) {
                let (value, usual) = try option.parse(text)
                setting.values.append(value)
                setting.text = usual
            } catch {
                throw .badValue(source: source, key: key, value: isSecret ? "****" : text, allowed: error.allowed)
            }
        }
        settings[key] = setting
    }

    /// The declared option whose name is most like `key`: the same name in another section, else the fewest edits.
    private func nearest(to key: String) -> String? {
        let parts = key.split(separator: ".", maxSplits: 1)
        guard parts.count == 2 else { return nil }
        if let moved = order.first(where: { $0.name == parts[1] }) { return moved.key }
        let distances = order.map { (key: $0.key, edits: editDistance(key, $0.key)) }
        guard let best = distances.min(by: { $0.edits < $1.edits }), best.edits <= max(2, key.count / 3) else {
            return nil
        }
        return best.key
    }
}

/// How many insertions, deletions and replacements make `b` of `a`; texts are cut at 128 characters.
func editDistance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a.prefix(128)), Array(b.prefix(128)))
    var row = Array(0...b.count)
    for (i, left) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, right) in b.enumerated() {
            let replaced = diagonal + (left == right ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
        }
    }
    return row[b.count]
}
