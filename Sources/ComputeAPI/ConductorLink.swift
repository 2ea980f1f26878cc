public import Model
public import RPC
internal import Telemetry

/// What the API asks of the conductor.
public final class ConductorLink: Sendable {
    private let wakeConductor: @Sendable () async throws -> Void
    private let fetchConsole: @Sendable (InstanceID, Int?) async throws -> String
    private let fetchDiagnostics: @Sendable (InstanceID) async throws -> GuestDiagnostics
    private let fetchTopology: @Sendable (InstanceID) async throws -> GuestTopology
    private let pingAgent: @Sendable (InstanceID) async throws -> PingGuestAgent.Result
    private let injectCrash: @Sendable (InstanceID) async throws -> Void
    private let forceEnd: @Sendable (InstanceID, MigrationID) async throws -> Void
    private let fetchClaims: @Sendable (HostName, Int) async throws -> DescribeClaims.Result
    private let forget: @Sendable (HostName) async throws -> Void
    private let wakes: AsyncStream<Void>
    private let waker: AsyncStream<Void>.Continuation

    /// A link made of functions; they throw `Failure`.
    public init(
        wake: @escaping @Sendable () async throws -> Void,
        consoleOutput: @escaping @Sendable (InstanceID, Int?) async throws -> String,
        diagnostics: @escaping @Sendable (InstanceID) async throws -> GuestDiagnostics,
        topology: @escaping @Sendable (InstanceID) async throws -> GuestTopology,
        guestAgent: @escaping @Sendable (InstanceID) async throws -> PingGuestAgent.Result,
        crashDump: @escaping @Sendable (InstanceID) async throws -> Void,
        forceMigration: @escaping @Sendable (InstanceID, MigrationID) async throws -> Void,
        claims: @escaping @Sendable (HostName, Int) async throws -> DescribeClaims.Result,
        forget: @escaping @Sendable (HostName) async throws -> Void
    ) {
        (wakeConductor, fetchConsole, self.forget) = (wake, consoleOutput, forget)
        (fetchClaims, fetchTopology) = (claims, topology)
        (fetchDiagnostics, pingAgent, injectCrash) = (diagnostics, guestAgent, crashDump)
        forceEnd = forceMigration
        // One pending wake says as much as a thousand.
        (wakes, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// A link over RPC.
    public convenience init(_ client: RPCClient) {
        self.init(
            wake: { _ = try await client.call(WakeConductor.self, WakeConductor.Params()) },
            consoleOutput: { instance, lines in
                try await client.call(
                    FetchConsoleOutput.self, FetchConsoleOutput.Params(instance: instance, lines: lines)
                ).output
            },
            diagnostics: { try await client.call(FetchDiagnostics.self, FetchDiagnostics.Params(instance: $0)) },
            topology: { try await client.call(FetchTopology.self, FetchTopology.Params(instance: $0)) },
            guestAgent: { try await client.call(FetchGuestAgent.self, FetchGuestAgent.Params(instance: $0)) },
            crashDump: { _ = try await client.call(TriggerCrashDump.self, TriggerCrashDump.Params(instance: $0)) },
            forceMigration: {
                _ = try await client.call(
                    ForceLiveMigration.self, ForceLiveMigration.Params(instance: $0, migration: $1))
            },
            claims: {
                try await client.call(FetchClaims.self, FetchClaims.Params(host: $0, events: $1))
            },
            forget: { _ = try await client.call(ForgetHost.self, ForgetHost.Params(host: $0)) })
    }

    /// Says that tasks were inserted. Returns at once; `run` tells the conductor, which would find them by itself a little
    /// later.
    func wake() { waker.yield() }

    /// Delivers wakes until cancelled, one at a time.
    public func run() async {
        let log = Logger("api")
        for await _ in wakes {
            do {
                try await wakeConductor()
            } catch {
                log.debug("conductor not woken", ["error": String(describing: error)])
            }
        }
    }

    func consoleOutput(_ instance: InstanceID, lines: Int?) async throws -> String {
        try await fetchConsole(instance, lines)
    }

    func diagnostics(_ instance: InstanceID) async throws -> GuestDiagnostics {
        try await fetchDiagnostics(instance)
    }

    /// Where the guest's cells are, from its host.
    func topology(_ instance: InstanceID) async throws -> GuestTopology { try await fetchTopology(instance) }

    /// Whether the guest's agent answers.
    func pingGuestAgent(_ instance: InstanceID) async throws -> PingGuestAgent.Result {
        try await pingAgent(instance)
    }

    /// Who holds what of a host, and its newest claims and releases, from the host itself.
    func claims(of host: HostName, events: Int) async throws -> DescribeClaims.Result {
        try await fetchClaims(host, events)
    }

    /// Sends the guest a non-maskable interrupt.
    func triggerCrashDump(_ instance: InstanceID) async throws { try await injectCrash(instance) }

    /// Has the host that a guest comes from end its live migration soon.
    func forceMigration(_ instance: InstanceID, _ migration: MigrationID) async throws {
        try await forceEnd(instance, migration)
    }

    /// Tells the conductor that what it knows of `host` has changed; it also notices by itself.
    func forget(_ host: HostName) async {
        do {
            try await forget(host)
        } catch {
            Logger("api").notice("conductor not told of a host's change", ["host": host, "error": "\(error)"])
        }
    }
}
