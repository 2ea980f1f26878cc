internal import Model

/// Which of several equal peers is asked next: each in its turn, from a place that is another for each client, or the
/// first as long as it answers. One that has failed rests for a while, longer each time, and comes after all others until
/// then.
///
/// Nobody agrees on anything: what is drawn by lot keeps a thousand clients from coming back to one peer at one moment.
struct PeerChoice: Sendable {
    private struct Rest: Sendable {
        var until: ContinuousClock.Instant
        var failures: Int
    }

    static let rest = RetryPolicy(maxAttempts: .max, initialBackoff: .seconds(1), maxBackoff: .seconds(30))

    private let count: Int
    private let isSpread: Bool
    private var turn: Int
    private var rests: [Int: Rest] = [:]

    init(count: Int, isSpread: Bool, using generator: inout some RandomNumberGenerator) {
        (self.count, self.isSpread) = (count, isSpread)
        turn = count > 1 && isSpread ? Int.random(in: 0..<count, using: &generator) : 0
    }

    /// Every peer once, in the order in which they are to be tried.
    mutating func order(at now: ContinuousClock.Instant) -> [Int] {
        guard count > 1 else { return Array(0..<count) }
        if isSpread { turn = (turn + 1) % count }
        let all = (0..<count).map { (turn + $0) % count }
        let resting = all.filter { rests[$0].map { $0.until > now } ?? false }
        guard !resting.isEmpty else { return all }
        // Those that rest are asked when nobody else answers: the one whose rest is over first, first.
        return all.filter { !resting.contains($0) }
            + resting.sorted { (rests[$0]?.until ?? now, $0) < (rests[$1]?.until ?? now, $1) }
    }

    mutating func answered(_ peer: Int) { rests[peer] = nil }

    mutating func failed(
        _ peer: Int, at now: ContinuousClock.Instant, using generator: inout some RandomNumberGenerator
    ) {
        let failures = (rests[peer]?.failures ?? 0) + 1
        rests[peer] = Rest(
            until: now + Self.rest.backoff(after: failures, using: &generator), failures: failures)
    }
}
