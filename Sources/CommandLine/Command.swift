/// One command of the program, or a group of them.
struct Command: Sendable {
    typealias Run = @Sendable (Invocation, Terminal) async throws -> Int32

    var name: String
    var summary: String
    /// Further sentences for `--help`.
    var details = ""
    var arguments: [ArgumentSpec] = []
    var options: [OptionSpec] = []
    var children: [Command] = []
    /// `nil` for a group.
    var run: Run?

    static func group(_ name: String, _ summary: String, _ children: [Command]) -> Command {
        Command(name: name, summary: summary, children: children)
    }

    /// Runs what `words` name and returns the exit code: 0 done, 1 failed, 2 not understood.
    func execute(_ words: [String], _ terminal: Terminal, path: [String] = []) async -> Int32 {
        let path = path + [name]
        if run == nil { return await choose(words, terminal, path: path) }
        if words.prefix(while: { $0 != "--" }).contains(where: { $0 == "--help" || $0 == "-h" }) {
            terminal.print(help(path))
            return 0
        }
        do {
            let invocation = try Invocation(words, options: options, arguments: arguments)
            guard let run else { return 2 }
            return try await run(invocation, terminal)
        } catch {
            return report(error, terminal, path: path)
        }
    }

    private func choose(_ words: [String], _ terminal: Terminal, path: [String]) async -> Int32 {
        guard let word = words.first else {
            terminal.complain(help(path))
            return 2
        }
        if word == "--help" || word == "-h" || word == "help" {
            terminal.print(help(path))
            return 0
        }
        if let child = children.first(where: { $0.name == word }) {
            return await child.execute(Array(words.dropFirst()), terminal, path: path)
        }
        let what = word.hasPrefix("-") ? "option" : "command"
        let near = suggestion(word, among: children.map(\.name), prefix: (path + [""]).joined(separator: " "))
        return report(
            CommandError.usage("There is no \(what) '\(word)' in '\(path.joined(separator: " "))'.\(near)"), terminal,
            path: path)
    }

    private func report(_ error: any Error, _ terminal: Terminal, path: [String]) -> Int32 {
        let command = path.joined(separator: " ")
        if error is CancellationError {
            terminal.complain("Interrupted.")
            return 1
        }
        let failure = error as? CommandError ?? .failure(describe(error))
        terminal.complain(failure.message)
        if case .usage = failure { terminal.complain("Try: \(command) --help") }
        return failure.exitCode
    }

    /// The text of `--help`.
    func help(_ path: [String]) -> String {
        var lines = ["\(summary)", ""]
        if !children.isEmpty {
            lines += ["Usage: \(path.joined(separator: " ")) COMMAND …", "", "Commands:"]
            lines += columns(children.map { ($0.name, $0.summary) })
            lines += ["", "\(path.joined(separator: " ")) COMMAND --help tells more."]
            return lines.joined(separator: "\n")
        }
        lines.append(
            "Usage: " + ([path.joined(separator: " ")] + arguments.map(\.usage) + ["[options]"]).joined(separator: " "))
        if !details.isEmpty { lines += ["", details] }
        if !arguments.isEmpty {
            lines += ["", "Arguments:"] + columns(arguments.map { ($0.name, $0.help) })
        }
        lines += ["", "Options:"]
        lines += columns(options.map(\.usage) + [("--help", "Show this.")])
        return lines.joined(separator: "\n")
    }

    private func columns(_ rows: [(String, String)]) -> [String] {
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { "  \(padded($0.0, to: width))  \($0.1)" }
    }
}

extension ArgumentSpec {
    fileprivate var usage: String {
        let plain = isRepeated ? "\(name) …" : name
        return isOptional ? "[\(plain)]" : plain
    }
}

extension OptionSpec {
    fileprivate var usage: (String, String) { ("--\(name)\(value.map { " \($0)" } ?? "")", help) }
}
