internal import Model
internal import RPC
internal import Telemetry

/// Says that the agent works. Each beat first asks the journal, so that an agent whose work stands still goes silent.
struct Heartbeats: Sendable {
    /// What clients know an agent as.
    static let binary = "nova-compute"
    let host: HostName
    let uuid: String
    let interval: Duration
    let journal: Journal
    let client: RPCClient
    let sequence: @Sendable () -> Int64
    /// Called after each beat that was heard.
    let heard: @Sendable () async -> Void
    /// Called before the first beat, and before the next one whenever one was not heard: who was not heard may have been
    /// given up meanwhile. Returns when nothing of what was evacuated is left here.
    let answer: @Sendable () async throws -> Void

    private let log = Logger("agent.heartbeat")

    init(
        host: HostName, uuid: String, interval: Duration, journal: Journal, client: RPCClient,
        sequence: @escaping @Sendable () -> Int64, heard: @escaping @Sendable () async -> Void,
        answer: @escaping @Sendable () async throws -> Void
    ) {
        self.answer = answer
        self.uuid = uuid
        (self.host, self.interval, self.journal, self.client) = (host, interval, journal, client)
        (self.sequence, self.heard) = (sequence, heard)
    }

    /// Beats until it is cancelled; the first beat comes at once. Throws `.conflict` when the host's name belongs to
    /// another machine: an agent that nobody may listen to must not work.
    func run() async throws {
        var isHeard = true
        var isTooOld = false
        var hasAnswered = false
        let last = Metrics.shared.gauge("agent_heartbeat_heard_seconds", help: "When a heartbeat was last heard.")
        while !Task.isCancelled {
            do {
                try await journal.ping()
                if !hasAnswered { try await answer() }
                hasAnswered = true
                let beat = Heartbeat.Params(
                    host: host, binary: Self.binary, version: AgentVersion.current, sequence: sequence(), uuid: uuid)
                guard try await client.call(Heartbeat.self, beat).mustAnswer != true else {
                    log.notice("the control plane has given this host up, and wants an answer")
                    hasAnswered = false
                    try await AlarmClock().sleep(for: min(interval, .seconds(1)))
                    continue
                }
                last.set(Double(journal.now().microseconds) / 1e6)
                if !isHeard { log.notice("heartbeats are heard again") }
                (isHeard, isTooOld) = (true, false)
                await heard()
            } catch let failure as Failure where failure.kind == .conflict {
                throw failure
            } catch let failure as Failure where failure.kind == .unsupportedVersion {
                // Its guests run on; it takes part again when one of both has been replaced.
                if !isTooOld { log.error("the control plane does not work with this agent", ["failure": failure]) }
                (isTooOld, isHeard, hasAnswered) = (true, false, false)
            } catch {
                if isHeard, !Task.isCancelled {
                    log.warning("heartbeats are not heard", ["error": LoggedError(error)])
                }
                (isHeard, hasAnswered) = (false, false)
            }
            do { try await AlarmClock().sleep(for: interval * Double.random(in: 0.9...1)) } catch { return }
        }
    }
}
