internal import Database
internal import Model
internal import Telemetry

/// Brings the notifications that wait to one sink, in their order, again until it has taken them. Of several conductors
/// one does it at a time, and another goes on when that one is gone.
struct NotificationPump: Sendable {
    static let batch = 100
    static let lease = Duration.seconds(30)
    /// Between looks where nothing waits, or another conductor has the sink.
    static let pause = Duration.seconds(1)
    private static let retry = RetryPolicy(
        maxAttempts: .max, initialBackoff: .seconds(1), maxBackoff: .seconds(60))

    let store: NotificationStore
    let sink: any NotificationSink
    let owner: String
    let now: Now
    let clock: any Clock<Duration>

    private static let delivered = Metrics.shared.counter(
        "notifications_delivered_total", help: "Notifications that a sink has taken, by kind of sink.")
    private let log = Logger("notifications")

    init(
        store: NotificationStore, sink: any NotificationSink, owner: String, now: @escaping Now,
        clock: any Clock<Duration> = AlarmClock()
    ) {
        (self.store, self.sink, self.owner, self.now, self.clock) = (store, sink, owner, now, clock)
    }

    /// Delivers until it is cancelled.
    func run() async {
        var failures = 0
        var generator = SystemRandomNumberGenerator()
        while !Task.isCancelled {
            let pause: Duration
            do {
                let count = try await deliver()
                if failures > 0, count != nil { log.notice("a sink takes notifications again", ["sink": sink.name]) }
                failures = 0
                // A full batch: more may wait.
                pause = count == Self.batch ? .zero : Self.pause
            } catch {
                if Task.isCancelled { return }
                failures += 1
                if failures == 1 {
                    log.warning("a sink takes no notifications", ["sink": sink.name, "error": LoggedError(error)])
                }
                pause = Self.retry.backoff(after: failures, using: &generator)
            }
            do { try await clock.sleep(for: pause) } catch { return }
        }
    }

    /// One round: how many were taken; `nil` while another conductor has the sink.
    func deliver() async throws -> Int? {
        // A look costs no write; most of them find nothing.
        guard try await !store.waiting(for: sink.name, limit: 1).isEmpty else { return 0 }
        guard try await store.lease(sink.name, owner: owner, until: now() + Self.lease, now: now()) else { return nil }
        let waiting = try await store.waiting(for: sink.name, limit: Self.batch)
        guard !waiting.isEmpty else { return 0 }
        let taken: Int
        do {
            taken = try await sink.deliver(waiting)
        } catch {
            if !Task.isCancelled { try await store.failed(sink.name, "\(error)") }
            throw error
        }
        guard taken > 0 else { return 0 }
        // Lost to another in the meantime: it tells these once more, which is allowed.
        if try await store.delivered(waiting[taken - 1].position, to: sink.name, by: owner) {
            Self.delivered.increment(
                by: taken, labels: [("sink", String(sink.name.prefix { $0 != ":" }))])
        }
        return taken
    }
}
