internal import Model
internal import RPC
internal import Telemetry

/// Tells the control plane what this agent understands, once each time that it starts.
struct Registration: Sendable {
    /// Conductors of an earlier release do not ask; one of them is replaced some time.
    private static let patience = Duration.seconds(60)
    private static let pauses = RetryPolicy(
        maxAttempts: .max, initialBackoff: .milliseconds(500), maxBackoff: .seconds(30))

    let host: HostName
    let client: RPCClient
    /// Between two attempts where none can succeed before somebody has upgraded something.
    let patience: Duration
    private let log = Logger("agent")

    init(host: HostName, client: RPCClient, patience: Duration = Self.patience) {
        (self.host, self.client, self.patience) = (host, client, patience)
    }

    /// Ends when a conductor has taken it, or by cancellation.
    func run(_ manifest: PeerManifest) async {
        var attempt = 0
        var generator = SystemRandomNumberGenerator()
        while !Task.isCancelled {
            var pause = patience
            do {
                let answer = try await client.call(RegisterAgent.self, .init(host: host, manifest: manifest))
                return log.info(
                    "registered", ["release": manifest.release, "conductor": answer.current, "oldest": answer.oldest])
            } catch {
                switch error.kind {
                case .methodNotFound: log.info("the conductors are of an earlier release")
                case .unsupportedVersion:
                    log.error("the control plane does not work with this agent", ["failure": error])
                default:
                    attempt += 1
                    pause = Self.pauses.backoff(after: attempt, using: &generator)
                }
            }
            do { try await AlarmClock().sleep(for: pause) } catch { return }
        }
    }
}
