/// How often, and after what pauses, a failed attempt is repeated.
public struct RetryPolicy: Sendable, Hashable {
    /// Attempts in all; 1 means no second one.
    public var maxAttempts: Int
    public var initialBackoff: Duration
    public var maxBackoff: Duration

    public init(maxAttempts: Int, initialBackoff: Duration, maxBackoff: Duration) {
        (self.maxAttempts, self.initialBackoff, self.maxBackoff) = (maxAttempts, initialBackoff, maxBackoff)
    }

    public static let none = RetryPolicy(maxAttempts: 1, initialBackoff: .zero, maxBackoff: .zero)
    public static let standard = RetryPolicy(
        maxAttempts: 5, initialBackoff: .milliseconds(500), maxBackoff: .seconds(30))

    /// The pause after the `attempt`th failure (from 1): doubled each time, then between half of it and all of it.
    public func backoff(after attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
        var pause = initialBackoff
        for _ in 1..<max(1, min(attempt, 40)) where pause < maxBackoff { pause = pause * 2 }
        let whole = min(pause, maxBackoff).microseconds
        guard whole > 1 else { return .microseconds(whole) }
        return .microseconds(Int64.random(in: whole / 2...whole, using: &generator))
    }
}
