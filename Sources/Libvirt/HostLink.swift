/// When to try to reconnect.
public struct ReconnectPolicy: Sendable, Hashable {
    public var initialDelay: Duration = .milliseconds(100)
    public var maximumDelay: Duration = .seconds(5)

    public init() {}

    public init(initialDelay: Duration, maximumDelay: Duration) {
        self.initialDelay = initialDelay
        self.maximumDelay = maximumDelay
    }
}

/// Decides over the connection to a hypervisor: what state it is in, and how long to wait before the next attempt.
/// Does nothing itself.
struct HostLink: Sendable {
    enum State: Sendable, Hashable {
        case connecting
        case connected(generation: Int)
        case lost(reason: String)
        case stopped
    }

    private(set) var state = State.connecting
    private(set) var generation = 0
    private var attempts = 0
    private var connectedAt: Duration?
    private let policy: ReconnectPolicy

    init(policy: ReconnectPolicy) { self.policy = policy }

    /// A connection was opened `now` (since any fixed moment).
    mutating func opened(at now: Duration) {
        generation += 1
        connectedAt = now
        state = .connected(generation: generation)
    }

    /// No connection could be opened.
    /// - Returns: how long to wait; between half and all of a delay that doubles with each failure.
    mutating func failed(reason: String, using generator: inout some RandomNumberGenerator) -> Duration {
        state = .lost(reason: reason)
        return nextDelay(using: &generator)
    }

    /// The connection broke.
    /// - Returns: how long to wait. A connection that did not hold counts as a failure, so that a daemon which
    ///   accepts and drops us is not asked without a pause.
    mutating func lost(
        reason: String, at now: Duration, using generator: inout some RandomNumberGenerator
    ) -> Duration {
        if let connectedAt, now - connectedAt > policy.maximumDelay { attempts = 0 }
        connectedAt = nil
        state = .lost(reason: reason)
        return nextDelay(using: &generator)
    }

    mutating func stopped() { state = .stopped }

    private mutating func nextDelay(using generator: inout some RandomNumberGenerator) -> Duration {
        let doubled = policy.initialDelay * Double(1 << min(attempts, 20))
        attempts += 1
        return min(doubled, policy.maximumDelay) * Double.random(in: 0.5...1, using: &generator)
    }
}
