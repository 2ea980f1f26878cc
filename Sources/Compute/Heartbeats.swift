internal import Model
internal import RPC
internal import Telemetry

/// Says that the agent works. Each beat first asks the journal, so that an agent whose work stands still goes silent.
struct Heartbeats: Sendable {
    /// What clients know an agent as.
    static let binary = "nova-compute"
    /// Rises with each release.
    static let version = 1

    let host: HostName
    let interval: Duration
    let journal: Journal
    let client: RPCClient
    let sequence: @Sendable () -> Int64
    /// Called after each beat that was heard.
    let heard: @Sendable () async -> Void

    private let log = Logger("agent.heartbeat")

    init(
        host: HostName, interval: Duration, journal: Journal, client: RPCClient,
        sequence: @escaping @Sendable () -> Int64, heard: @escaping @Sendable () async -> Void
    ) {
        (self.host, self.interval, self.journal, self.client) = (host, interval, journal, client)
        (self.sequence, self.heard) = (sequence, heard)
    }

    /// Beats until it is cancelled; the first beat comes at once.
    func run() async {
        var isHeard = true
        let last = Metrics.shared.gauge("agent_heartbeat_heard_seconds", help: "When a heartbeat was last heard.")
        while !Task.isCancelled {
            do {
                try await journal.ping()
                let beat = Heartbeat.Params(
                    host: host, binary: Self.binary, version: Self.version, sequence: sequence())
                _ = try await client.call(Heartbeat.self, beat)
                last.set(Double(journal.now().microseconds) / 1e6)
                if !isHeard { log.notice("heartbeats are heard again") }
                isHeard = true
                await heard()
            } catch {
                if isHeard, !Task.isCancelled {
                    log.warning("heartbeats are not heard", ["error": LoggedError(error)])
                }
                isHeard = false
            }
            do { try await AlarmClock().sleep(for: interval * Double.random(in: 0.9...1)) } catch { return }
        }
    }
}
