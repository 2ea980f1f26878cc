/// One `--name` that a command takes.
struct OptionSpec: Sendable {
    var name: String
    /// What stands for the value in the help; `nil` for a flag.
    var value: String?
    var help: String
    /// May be given several times.
    var isRepeated = false
}

/// One positional argument that a command takes.
struct ArgumentSpec: Sendable {
    var name: String
    var help: String
    var isOptional = false
    /// Takes all that follows; at least one unless optional.
    var isRepeated = false
}

/// What a person typed, sorted by the command's specification.
struct Invocation: Sendable {
    fileprivate var flags: Set<String> = []
    fileprivate var values: [String: [String]] = [:]
    var arguments: [String] = []
    fileprivate var words: [String] = []

    /// What was typed, without the named options and their values.
    func words(without left: [OptionSpec]) -> [String] {
        var kept: [String] = []
        var rest = words[...]
        while let word = rest.popFirst() {
            if let flag = left.first(where: { word == "--\($0.name)" }) {
                if flag.value != nil { _ = rest.popFirst() }
            } else if !left.contains(where: { word.hasPrefix("--\($0.name)=") }) {
                kept.append(word)
            }
        }
        return kept
    }

    func has(_ flag: String) -> Bool { flags.contains(flag) }

    func value(_ name: String) -> String? { values[name]?.last }

    func all(_ name: String) -> [String] { values[name] ?? [] }

    /// A whole number in `range`, or a usage error that names the option.
    func number(_ name: String, in range: ClosedRange<Int>) throws(CommandError) -> Int? {
        guard let text = value(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw .usage("--\(name) takes a number from \(range.lowerBound) to \(range.upperBound), not '\(text)'.")
        }
        return number
    }
}

/// Why a command ended without success: the sentence for the person, and with it the exit code.
enum CommandError: Error, Sendable, Equatable {
    /// The command was not understood: exit code 2.
    case usage(String)
    /// It was understood and did not succeed: exit code 1.
    case failure(String)

    var message: String {
        switch self {
        case .usage(let message), .failure(let message): message
        }
    }

    var exitCode: Int32 {
        switch self {
        case .usage: 2
        case .failure: 1
        }
    }
}

extension Invocation {
    /// Sorts `words` by what the command takes. Options may stand anywhere; `--` ends them.
    init(_ words: [String], options: [OptionSpec], arguments specs: [ArgumentSpec]) throws(CommandError) {
        self.words = words
        let known = Dictionary(options.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        var rest = words[...]
        var optionsEnded = false
        while let word = rest.popFirst() {
            if optionsEnded || !word.hasPrefix("-") || word == "-" {
                arguments.append(word)
                continue
            }
            if word == "--" {
                optionsEnded = true
                continue
            }
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = parts[0].drop { $0 == "-" }
            guard word.hasPrefix("--"), let option = known[String(name)] else {
                throw .usage(
                    "There is no option \(parts[0]).\(suggestion(String(name), among: known.keys, prefix: "--"))")
            }
            guard option.value != nil else {
                guard parts.count == 1 else { throw .usage("--\(name) takes no value.") }
                flags.insert(option.name)
                continue
            }
            guard let value = parts.count == 2 ? String(parts[1]) : rest.popFirst() else {
                throw .usage("--\(name) needs a value.")
            }
            guard option.isRepeated || values[option.name] == nil else {
                throw .usage("--\(name) is given twice.")
            }
            values[option.name, default: []].append(value)
        }
        try check(specs)
    }

    private func check(_ specs: [ArgumentSpec]) throws(CommandError) {
        let needed = specs.filter { !$0.isOptional }
        if arguments.count < needed.count { throw .usage("\(needed[arguments.count].name) is missing.") }
        if arguments.count > specs.count, specs.last?.isRepeated != true {
            throw .usage("'\(arguments[specs.count])' is one argument too many.")
        }
    }
}

/// ` Did you mean --json?`, or nothing when no known name is near.
func suggestion(_ word: String, among known: some Sequence<String>, prefix: String = "") -> String {
    let ranked = known.map { (name: $0, distance: editDistance(word, $0)) }
        .sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }
    guard let best = ranked.first, best.distance <= max(1, word.count / 3) else { return "" }
    return " Did you mean \(prefix)\(best.name)?"
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour.
func editDistance(_ left: String, _ right: String) -> Int {
    let (a, b) = (Array(left.prefix(64)), Array(right.prefix(64)))
    guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
    var rows = [Array(0...b.count)]
    for i in 1...a.count {
        var row = [i]
        for j in 1...b.count {
            var cost = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1))
            if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] { cost = min(cost, rows[i - 2][j - 2] + 1) }
            row.append(cost)
        }
        rows.append(row)
    }
    return rows[a.count][b.count]
}
