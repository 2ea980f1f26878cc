internal import Model
internal import Telemetry

/// Does one thing again and again: at once, and then each time after the interval, up to a tenth of it earlier or later,
/// so that conductors that were started together part.
///
/// A run that fails is logged and counted; the next one comes all the same.
struct PeriodicLoop: Sendable {
    let name: String
    /// `nil`: never.
    let interval: Duration?
    private let clock: any Clock<Duration>
    private let jitter: @Sendable () -> Double
    private let work: @Sendable () async throws -> Void

    private let log = Logger("conductor.periodic")
    private let lengths = Metrics.shared.histogram(
        "conductor_periodic_seconds", help: "How long a periodic task took.")
    private let lastRun = Metrics.shared.gauge("conductor_periodic_last_run_seconds", help: "When a task last ran.")
    private let failed = Metrics.shared.counter("conductor_periodic_failures_total", help: "Runs that failed.")

    /// - Parameters:
    ///   - interval: negative is never.
    ///   - jitter: what an interval is multiplied with.
    init(
        _ name: String, interval: Duration, clock: any Clock<Duration> = AlarmClock(),
        jitter: @escaping @Sendable () -> Double = { Double.random(in: 0.9...1.1) },
        work: @escaping @Sendable () async throws -> Void
    ) {
        (self.name, self.interval) = (name, interval < .zero ? nil : interval)
        (self.clock, self.jitter, self.work) = (clock, jitter, work)
    }

    /// Runs until it is cancelled.
    func run() async {
        guard let interval else { return }
        let labels = [("task", name)]
        while !Task.isCancelled {
            let begin = ContinuousClock.now
            do {
                try await work()
            } catch {
                guard !Task.isCancelled else { return }
                failed.increment(labels: labels)
                log.warning("a periodic task failed", ["task": name, "error": LoggedError(error)])
            }
            lengths.observe((ContinuousClock.now - begin).inSeconds, labels: labels)
            lastRun.set(Double(WallClock.now().microseconds) / 1e6, labels: labels)
            do { try await clock.sleep(for: interval * jitter()) } catch { return }
        }
    }
}
