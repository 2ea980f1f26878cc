/// The `apus` program: its commands, and the run of one of them.
public enum ApusProgram {
    static let commands = Command.group(
        "apus", "A compute cloud for KVM hosts.",
        [.up, .bootstrap, .doctor, .server, .host, .image, .flavor, .task, .scheduler, .database, .simulate, .version])

    /// The release, as `--version` and the API's banner tell it.
    public static let version = "0.1.0"

    /// Runs what `arguments` (without the program's name) say; the result is the process's exit code.
    public static func run(_ arguments: [String]) async -> Int32 { await run(arguments, .standard) }

    static func run(_ arguments: [String], _ terminal: Terminal) async -> Int32 {
        await commands.execute(arguments.first == "--version" ? ["version"] : arguments, terminal)
    }
}

extension Command {
    fileprivate static let version = Command(name: "version", summary: "Print the version.") { _, terminal in
        terminal.print("apus \(ApusProgram.version)")
        return 0
    }
}
