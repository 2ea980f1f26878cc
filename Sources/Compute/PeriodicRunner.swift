internal import Model
internal import Telemetry

/// One thing that is done again and again.
struct PeriodicTask: Sendable {
    let name: String
    /// `nil`: never.
    let interval: Duration?
    /// Whether the first run comes at once instead of after a random delay.
    let isImmediate: Bool
    let run: @Sendable () async throws -> Void

    /// Nova's rule for intervals: 0 is a minute, negative is never.
    init(
        _ name: String, interval: Duration, isImmediate: Bool = false, run: @escaping @Sendable () async throws -> Void
    ) {
        self.name = name
        self.interval = interval < .zero ? nil : interval == .zero ? .seconds(60) : interval
        (self.isImmediate, self.run) = (isImmediate, run)
    }
}

/// Runs all periodic tasks, one after another and so never two at once.
struct PeriodicRunner: Sendable {
    let tasks: [PeriodicTask]
    /// The first run of a task comes after a random part of this.
    let fuzz: Duration

    private let log = Logger("agent.periodic")
    private let lengths = Metrics.shared.histogram("agent_periodic_seconds", help: "How long a periodic task took.")
    private let lastRun = Metrics.shared.gauge("agent_periodic_last_run_seconds", help: "When a task last ran.")
    private let failed = Metrics.shared.counter("agent_periodic_failures_total", help: "Runs that failed.")

    init(_ tasks: [PeriodicTask], fuzz: Duration) { (self.tasks, self.fuzz) = (tasks, fuzz) }

    /// Runs until it is cancelled.
    func run() async {
        let start = ContinuousClock.now
        var due = tasks.compactMap { task in
            task.interval.map { interval in
                (task, interval, task.isImmediate ? start : start + min(fuzz, interval) * Double.random(in: 0...1))
            }
        }
        while let index = due.indices.min(by: { due[$0].2 < due[$1].2 }) {
            let (task, interval, moment) = due[index]
            do { try await AlarmClock().sleep(until: moment) } catch { return }
            let begin = ContinuousClock.now
            do {
                try await task.run()
            } catch {
                guard !Task.isCancelled else { return }
                failed.increment(labels: [("task", task.name)])
                log.warning("a periodic task failed", ["task": task.name, "error": LoggedError(error)])
            }
            lengths.observe((ContinuousClock.now - begin).inSeconds, labels: [("task", task.name)])
            lastRun.set(Double(WallClock.now().microseconds) / 1e6, labels: [("task", task.name)])
            due[index].2 = max(moment + interval * Double.random(in: 0.95...1.05), .now)
        }
    }
}
