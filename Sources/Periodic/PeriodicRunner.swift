internal import Model
public import Telemetry

/// One thing that is done again and again.
public struct PeriodicTask: Sendable {
    public let name: String
    /// `nil`: never.
    public let interval: Duration?
    /// Whether the first run comes at once instead of after a random delay.
    public let isImmediate: Bool
    public let run: @Sendable () async throws -> Void

    /// Nova's rule for intervals: 0 is a minute, negative is never. More than a year is a year.
    public init(
        _ name: String, interval: Duration, isImmediate: Bool = false, run: @escaping @Sendable () async throws -> Void
    ) {
        self.name = name
        self.interval =
            interval < .zero ? nil : interval == .zero ? .seconds(60) : min(interval, .seconds(365 * 86_400))
        (self.isImmediate, self.run) = (isImmediate, run)
    }
}

/// Runs periodic tasks, each in a round of its own: never twice at once, and none waits for another, so that one that
/// hangs holds up nothing else. Time is the clock's that never goes back; runs that were missed are not made up for.
public struct PeriodicRunner: Sendable {
    public let tasks: [PeriodicTask]
    /// The first run of a task comes after a random part of this.
    public let fuzz: Duration
    private let clock: any Clock<Duration>
    /// A number within a range, for the parts that are left to chance.
    private let random: @Sendable (ClosedRange<Double>) -> Double

    private let log: Logger
    private let lengths: Histogram
    private let lastRun: Gauge
    private let failed: Counter
    private let late: Gauge

    /// - Parameters:
    ///   - owner: `agent`, `conductor`: whose metrics and log lines these are.
    ///   - clock: of the waits; not that of the day.
    ///   - random: a number within a range, for the parts that are left to chance.
    public init(
        _ tasks: [PeriodicTask], of owner: String, fuzz: Duration, clock: any Clock<Duration> = AlarmClock(),
        random: @escaping @Sendable (ClosedRange<Double>) -> Double = { Double.random(in: $0) }
    ) {
        (self.tasks, self.fuzz, self.clock, self.random) = (tasks, fuzz, clock, random)
        log = Logger("\(owner).periodic")
        let metrics = Metrics.shared
        lengths = metrics.histogram("\(owner)_periodic_seconds", help: "How long a periodic task took.")
        lastRun = metrics.gauge("\(owner)_periodic_last_run_seconds", help: "When a task last ran.")
        failed = metrics.counter("\(owner)_periodic_failures_total", help: "Runs that failed.")
        late = metrics.gauge(
            "\(owner)_periodic_late", help: "1 while a run takes longer than the time between runs, and a minute.")
    }

    /// Runs until it is cancelled, and then until what has begun has ended.
    public func run() async {
        await withDiscardingTaskGroup { group in
            for task in tasks {
                guard let interval = task.interval else { continue }
                group.addTask { await rounds(of: task, every: interval) }
            }
        }
    }

    private func rounds(of task: PeriodicTask, every interval: Duration) async {
        var wait = task.isImmediate ? .zero : min(fuzz, interval) * random(0...1)
        while !Task.isCancelled {
            do { try await clock.sleep(for: wait) } catch { return }
            let length = await clock.measure { await once(task, interval) }
            wait = max(.zero, interval * random(0.95...1.05) - length)
        }
    }

    private func once(_ task: PeriodicTask, _ interval: Duration) async {
        let labels = [("task", task.name)]
        let (clock, limit) = (clock, max(interval, .seconds(60)))
        let watch = Task {
            do { try await clock.sleep(for: limit) } catch { return }
            late.set(1, labels: labels)
            log.warning("a periodic task takes long", ["task": task.name, "seconds": limit.inSeconds])
        }
        let length = await clock.measure {
            do {
                try await task.run()
            } catch {
                if !Task.isCancelled {
                    failed.increment(labels: labels)
                    log.warning("a periodic task failed", ["task": task.name, "error": LoggedError(error)])
                }
            }
        }
        watch.cancel()
        await watch.value
        late.set(0, labels: labels)
        lengths.observe(length.inSeconds, labels: labels)
        lastRun.set(Double(WallClock.now().microseconds) / 1e6, labels: labels)
    }
}
