internal import CSystem
internal import HTTP
internal import Model
internal import Telemetry

/// What every client command has: a login, and the choice between a table and JSON.
struct ClientContext: Sendable {
    var client: CloudClient
    var terminal: Terminal
    var wantsJSON: Bool

    /// Prints the table, or the JSON where it was asked for.
    func show(_ json: JSON, _ text: @autoclosure () -> String) {
        if wantsJSON { terminal.print(json) } else { terminal.print(text()) }
    }

    /// A remark for the person, kept away from programs.
    func remark(_ text: String) {
        if !wantsJSON { terminal.complain(text) }
    }
}

extension Command {
    /// The options of every client command.
    private static let common = [
        OptionSpec(name: "json", help: "Print JSON instead of a table."),
        OptionSpec(name: "os-cloud", value: "NAME", help: "The cloud of clouds.yaml to speak to."),
    ]

    /// A command that speaks to the API.
    static func client(
        _ name: String, _ summary: String, details: String = "", arguments: [ArgumentSpec] = [],
        options: [OptionSpec] = [],
        _ body: @escaping @Sendable (Invocation, ClientContext) async throws -> Void
    ) -> Command {
        Command(
            name: name, summary: summary, details: details, arguments: arguments, options: options + common
        ) { invocation, terminal in
            try await asClient(invocation, terminal, body)
            return 0
        }
    }

    /// As `client`; `alone` says of what was typed that no cloud is needed, and runs it then.
    static func client(
        _ name: String, _ summary: String, details: String, arguments: [ArgumentSpec], options: [OptionSpec],
        alone: @escaping @Sendable (Invocation, Terminal) throws -> Bool,
        _ body: @escaping @Sendable (Invocation, ClientContext) async throws -> Void
    ) -> Command {
        Command(
            name: name, summary: summary, details: details, arguments: arguments, options: options + common
        ) { invocation, terminal in
            if try alone(invocation, terminal) { return 0 }
            try await asClient(invocation, terminal, body)
            return 0
        }
    }

    private static func asClient(
        _ invocation: Invocation, _ terminal: Terminal,
        _ body: @escaping @Sendable (Invocation, ClientContext) async throws -> Void
    ) async throws {
        let settings = try CloudSettings.load(
            cloud: invocation.value("os-cloud"), environment: processEnvironment(), readFile: { try readTextFile($0) })
        let authority = settings.caFile.map { ClientTLS(caPath: $0) } ?? ClientTLS()
        let http = HTTPClient(tls: authority)
        let client = CloudClient(settings: settings) { request throws(HTTPClientError) in
            try await http.send(request)
        }
        let context = ClientContext(client: client, terminal: terminal, wantsJSON: invocation.has("json"))
        do { try await body(invocation, context) } catch {
            await http.shutdown()
            throw error
        }
        await http.shutdown()
    }
}

/// Calls `probe` until it gives a value, with growing pauses of 0.2 to 2 s.
func poll<Value: Sendable>(
    for limit: Duration, what: String, _ probe: () async throws -> Value?
) async throws -> Value {
    let end = ContinuousClock.now + limit
    var pause = Duration.milliseconds(200)
    while true {
        if let value = try await probe() { return value }
        guard ContinuousClock.now < end else {
            throw CommandError.failure("\(what) took longer than \(limit.components.seconds) s; it may still go on.")
        }
        try await AlarmClock().sleep(for: pause)
        pause = min(pause * 1.5, .seconds(2))
    }
}
