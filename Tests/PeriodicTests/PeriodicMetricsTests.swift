import Model
import Telemetry
import Testing

@testable import Periodic

/// Metrics of an owner that no other test has.
@Suite("Metrics of periodic tasks", .timeLimit(.minutes(2)))
struct PeriodicMetricsTests {
    private let clock = PlayedClock()

    /// The value of a sample as it is told; `nil` where there is none.
    private func value(_ owner: String, _ name: String, _ labels: String) -> Double? {
        let head = "\(owner)_periodic_\(name){\(labels)} "
        let lines = String(decoding: Metrics.shared.render(), as: UTF8.self).split(separator: "\n")
        return lines.first { $0.hasPrefix(head) }.flatMap { Double($0.dropFirst(head.count)) }
    }

    private func runner(_ tasks: [PeriodicTask], of owner: String) -> PeriodicRunner {
        PeriodicRunner(tasks, of: owner, fuzz: .zero, clock: clock, random: { ($0.lowerBound + $0.upperBound) / 2 })
    }

    @Test("Failures are counted by task, runs by how long they took, and the last run has its moment")
    func runs() async throws {
        let owner = "metricstest_runs"
        let (begun, sink) = AsyncStream.makeStream(of: String.self)
        let clock = clock
        let runner = runner(
            [
                PeriodicTask("good", interval: .seconds(100), isImmediate: true) {
                    sink.yield("good")
                    try await clock.sleep(for: .seconds(35))
                },
                PeriodicTask("bad", interval: .seconds(100), isImmediate: true) {
                    sink.yield("bad")
                    throw Failure(.hypervisor, "not now")
                },
            ], of: owner)
        let before = Double(WallClock.now().microseconds) / 1e6
        let life = Task { await runner.run() }
        var iterator = begun.makeAsyncIterator()
        for round in 1...2 {
            #expect(Set([await iterator.next(), await iterator.next()]) == ["good", "bad"])
            // The good one and its watch, and the bad one, which waits for its next round.
            while value(owner, "seconds_count", "task=\"bad\"") != Double(round) { await Task.yield() }
            await clock.advance(by: .seconds(35), whenAsleep: 3)
            while value(owner, "seconds_count", "task=\"good\"") != Double(round) { await Task.yield() }
            await clock.advance(by: .seconds(65), whenAsleep: 2)
        }
        #expect(Set([await iterator.next(), await iterator.next()]) == ["good", "bad"])
        while value(owner, "seconds_count", "task=\"bad\"") != 3 { await Task.yield() }
        // Two of the good one have ended, three of the bad one.
        #expect(value(owner, "failures_total", "task=\"bad\"") == 3)
        #expect(value(owner, "failures_total", "task=\"good\"") == nil)
        #expect(value(owner, "seconds_count", "task=\"good\"") == 2)
        #expect(value(owner, "seconds_sum", "task=\"good\"") == 70)
        #expect(value(owner, "seconds_sum", "task=\"bad\"") == 0)
        for task in ["good", "bad"] {
            let last = try #require(value(owner, "last_run_seconds", "task=\"\(task)\""))
            #expect(last >= before && last <= Double(WallClock.now().microseconds) / 1e6)
            #expect(value(owner, "late", "task=\"\(task)\"") == 0)
        }
        life.cancel()
        await life.value
        // What ends with the runner has not failed.
        #expect(value(owner, "failures_total", "task=\"good\"") == nil)
    }

    @Test("A run is late once it takes longer than the time between runs and a minute, until it has ended")
    func late() async {
        let owner = "metricstest_late"
        let (begun, sink) = AsyncStream.makeStream(of: Void.self)
        let clock = clock
        let runner = runner(
            [
                PeriodicTask("slow", interval: .seconds(10), isImmediate: true) {
                    sink.yield()
                    try await clock.sleep(for: .seconds(100))
                }
            ], of: owner)
        let isLate = { value(owner, "late", "task=\"slow\"") }
        let life = Task { await runner.run() }
        var iterator = begun.makeAsyncIterator()
        _ = await iterator.next()
        await clock.advance(by: .seconds(59), whenAsleep: 2)
        // Both still sleep: a minute is not over.
        await clock.advance(by: .seconds(1), whenAsleep: 2)
        while isLate() != 1 { await Task.yield() }
        #expect(value(owner, "last_run_seconds", "task=\"slow\"") == nil, "none has ended")
        await clock.advance(by: .seconds(40), whenAsleep: 1)
        _ = await iterator.next()
        #expect(isLate() == 0)
        #expect(value(owner, "seconds_sum", "task=\"slow\"") == 100)
        life.cancel()
        await life.value
    }
}
