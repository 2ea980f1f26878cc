internal import CSystem
internal import Database
internal import Glibc
internal import Model
internal import Telemetry

extension Command {
    /// `apus db …`
    static let database = Command.group(
        "db", "The control plane's database: version, sync, check, purge, copies.",
        [
            .onDatabase("version", "Say which versions the database's schemas have, and which this program knows.") {
                _, terminal, settings in
                try await showVersions(terminal, settings)
            },
            .onDatabase("sync", "Bring the database's schemas to this program's versions, and make it where none is.") {
                _, terminal, settings in
                try await withDatabase(settings, mustExist: false) { _ in }
                return try await showVersions(terminal, settings)
            },
            .onDatabase(
                "check", "Look for records that contradict each other.",
                details: "Changes nothing; the exit code is 1 when there is something.",
                options: [OptionSpec(name: "json", help: "Print JSON instead of a table.")]
            ) { invocation, terminal, settings in
                let findings = try await withDatabase(settings) { try await $0.check() }
                show(findings, isJSON: invocation.has("json"), terminal)
                return findings.isEmpty ? 0 : 1
            },
            .onDatabase(
                "purge", "Forget servers that were deleted long ago, with their actions and events.",
                details: """
                    A host that comes back later than that takes what it still has of such a server for somebody else's, \
                    and keeps it.
                    """,
                options: [
                    OptionSpec(name: "older-than", value: "DAYS", help: "Deleted so many days ago or longer (90)."),
                    OptionSpec(
                        name: "archive", value: "FILE",
                        help: "Write the rows into this file first, a JSON array a line."),
                ], purge),
            .onDatabase(
                "export", "Write a copy of the whole database, with row counts and checksums.",
                details: """
                    The file holds every secret of the control plane: keep it as you keep the database. What is written \
                    to the database meanwhile is not in it.
                    """,
                arguments: [ArgumentSpec(name: "FILE", help: "Made with mode 0600; must not be there yet.")], export),
            .onDatabase(
                "import", "Fill a new database from such a copy, and compare counts and checksums.",
                details: "All of it or nothing. No daemon may run on the database meanwhile.",
                arguments: [ArgumentSpec(name: "FILE", help: "What export has written.")], importCopy),
        ])

    /// A command on the database of the configuration, not through any daemon.
    private static func onDatabase(
        _ name: String, _ summary: String, details: String = "", arguments: [ArgumentSpec] = [],
        options: [OptionSpec] = [],
        _ body: @escaping @Sendable (Invocation, Terminal, UpSettings) async throws -> Int32
    ) -> Command {
        Command(
            name: name, summary: summary, details: details, arguments: arguments,
            options: options + UpSettings.options.filter { ["config-file", "set", "state-path"].contains($0.name) }
        ) { invocation, terminal in
            let settings = try UpSettings(invocation)
            do {
                return try await body(invocation, terminal, settings)
            } catch let failure as Failure {
                throw CommandError.failure(failure.message)
            } catch let error as FileError {
                throw CommandError.failure("\(error)")
            } catch let error as CommandError {
                throw error
            } catch {
                throw CommandError.failure(UpFailure.explain(error, settings: settings))
            }
        }
    }
}

/// Opens the database, lets `body` use it, and closes it again.
private func withDatabase<T: Sendable>(
    _ settings: UpSettings, mustExist: Bool = true, _ body: (ControlDatabase) async throws -> T
) async throws -> T {
    if mustExist { try requireDatabase(settings) }
    let database = try await openDatabase(settings)
    let result: T
    do {
        result = try await body(database)
    } catch {
        await database.close()
        throw error
    }
    await database.close()
    return result
}

private func requireDatabase(_ settings: UpSettings) throws(CommandError) {
    guard case .file(let path) = settings.database, access(path, F_OK) != 0 else { return }
    throw .failure("There is no database \(path): apus db sync makes one.")
}

/// 1 where a schema is older or newer than this program's.
private func showVersions(_ terminal: Terminal, _ settings: UpSettings) async throws -> Int32 {
    try requireDatabase(settings)
    let states = try await ControlDatabase.schemas(settings.database)
    var table = Table(["SCHEMA", "DATABASE", "PROGRAM", ""], numeric: [1, 2])
    for state in states {
        let remark: String
        switch state.known {
        case nil: remark = "of a newer program"
        case let known? where state.found < known: remark = "apus db sync brings it there"
        case let known? where state.found > known: remark = "this program is too old"
        default: remark = ""
        }
        table.add([state.component, String(state.found), state.known.map(String.init) ?? "-", remark])
    }
    terminal.print(table.text)
    return states.allSatisfy { $0.found == $0.known } ? 0 : 1
}

private func show(_ findings: [DatabaseFinding], isJSON: Bool, _ terminal: Terminal) {
    guard !isJSON else {
        terminal.print(
            .array(
                findings.map {
                    ["rule": .string($0.rule), "subject": .string($0.subject), "message": .string($0.message)]
                }))
        return
    }
    guard !findings.isEmpty else { return terminal.print("Nothing contradicts.") }
    var table = Table(["RULE", "MESSAGE"])
    for finding in findings { table.add([finding.rule, finding.message]) }
    terminal.print(table.text)
}

@Sendable private func purge(
    _ invocation: Invocation, _ terminal: Terminal, _ settings: UpSettings
) async throws -> Int32 {
    let days = try invocation.number("older-than", in: 1...36_500) ?? 90
    let moment = WallClock.now() - .seconds(days * 86_400)
    let archive = try invocation.value("archive").map { try CopyFile(writing: $0) }
    var write: (@Sendable ([String]) throws -> Void)?
    if let archive {
        write = { lines in
            for line in lines { try archive.write(line) }
            // On the disk before the rows are gone.
            try archive.finish()
        }
    }
    let keep = write
    let total = try await withDatabase(settings) { database -> PurgeCount in
        var total = PurgeCount()
        while true {
            let count = try await database.purge(deletedBefore: moment, archive: keep)
            guard count.instances > 0 else { return total }
            total.instances += count.instances
            total.actions += count.actions
            total.events += count.events
        }
    }
    terminal.print(
        "\(total.instances) servers, \(total.actions) actions and \(total.events) events deleted before "
            + "\(moment.iso8601) are forgotten.")
    return 0
}

@Sendable private func export(
    _ invocation: Invocation, _ terminal: Terminal, _ settings: UpSettings
) async throws -> Int32 {
    let file = try CopyFile(writing: invocation.arguments[0])
    let sums = try await withDatabase(settings) { try await $0.export { try file.write($0) } }
    try file.finish()
    show(sums, terminal)
    return 0
}

@Sendable private func importCopy(
    _ invocation: Invocation, _ terminal: Terminal, _ settings: UpSettings
) async throws -> Int32 {
    let file = try CopyFile(reading: invocation.arguments[0])
    let sums = try await withDatabase(settings, mustExist: false) { try await $0.importCopy { try file.next() } }
    show(sums, terminal)
    return 0
}

private func show(_ sums: [TableSum], _ terminal: Terminal) {
    var table = Table(["TABLE", "ROWS", "SHA-256"], numeric: [1])
    for sum in sums { table.add([sum.table, String(sum.rows), sum.sha256]) }
    terminal.print(table.text)
}
