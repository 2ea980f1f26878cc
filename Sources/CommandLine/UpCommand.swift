internal import Configuration
internal import Database
internal import HTTP
internal import SQL
internal import Telemetry

/// Options that concern the start and not the process that is started.
private let starting = [
    OptionSpec(name: "detach", help: "Return when everything serves, and leave it running."),
    OptionSpec(name: "log-file", value: "FILE", help: "Write the log there; standard error when absent."),
]

extension Command {
    /// `apus up`
    static let up = Command(
        name: "up", summary: "Run API, conductor, scheduler and agent in one process.",
        details: """
            Everything is kept in the state folder: the database, the agent's journal, guests' disks, and the \
            administrator's login in openrc and clouds.yaml. SIGTERM or SIGINT end it; guests run on.
            """,
        options: UpSettings.options + starting + [
            OptionSpec(name: "debug", help: "Log everything that is done."),
            OptionSpec(name: "print-config", help: "Print every option, its value and where it came from, and end."),
        ],
        run: runUp)
}

@Sendable private func runUp(_ invocation: Invocation, _ terminal: Terminal) async throws -> Int32 {
    let settings = try UpSettings(invocation)
    if invocation.has("print-config") {
        terminal.out(settings.configuration.printed())
        return 0
    }
    let folder = settings.statePath
    // Others may pass through: QEMU, which is another user, reaches the guests' disks below.
    try makeFolder(folder, mode: 0o711)
    let logFile = invocation.value("log-file")
    if invocation.has("detach") {
        if let pid = PidFile.runningProcess(statePath: folder) {
            throw PidFile.Held(statePath: folder, holder: ProcessTable.describe(pid))
        }
        let pid = try await Detached.start(
            arguments: ["up"] + invocation.words(without: starting), logFile: logFile ?? "\(folder)/apus.log")
        terminal.print("apus up runs as process \(pid), the API at \(try Endpoints.read(from: folder).api).")
        terminal.print("Load the login with: . \(folder)/openrc")
        return 0
    }
    var sink: (@Sendable (String) -> Void)?
    if let logFile {
        let file = try LogFile(path: logFile)
        sink = { file.write($0) }
    }
    LogSystem.configure(minimum: invocation.has("debug") ? .debug : .info, format: .text, sink: sink)
    let up = Up(settings: try settings.connected())
    do {
        try await untilSignalled { try await up.run { terminal.complain($0) } }
    } catch {
        throw CommandError.failure(UpFailure.explain(error, settings: up.settings))
    }
    return 0
}

/// What `apus up` could not start for, as a sentence that says what to do.
enum UpFailure {
    /// The database, or the agent's journal, as `apus up` opens it.
    struct DatabaseFailure: Error {
        var error: SQLError
    }

    static func explain(_ error: any Error, settings: UpSettings) -> String {
        switch error {
        case HTTPServerError.portInUse(let address, let port):
            let holder = ProcessTable.listener(port: port).map {
                $0 == 0 ? "another process" : ProcessTable.describe($0)
            }
            let role = settings.listens.first { $0.address.port == port }
            let flag = role.map { ", or give \($0.role) another port with --\($0.role)-port" } ?? ""
            return "\(address):\(port) is in use by \(holder ?? "a process that has just ended"). Stop it\(flag)."
        case let failure as DatabaseFailure:
            if case .file(let path) = settings.database, failure.error.code == .busy {
                return "The database \(path) is locked by another process. Find it with: fuser \(path)"
            }
            return "The database \(settings.database) cannot be used: \(failure.error.message)."
        default:
            return describe(error)
        }
    }
}
