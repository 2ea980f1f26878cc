import Model
import Synchronization
import Telemetry
import Testing

@testable import Periodic

@Suite("Periodic tasks", .timeLimit(.minutes(2)))
struct PeriodicRunnerTests {
    @Test("An interval of 0 is a minute, a negative one is never")
    func intervals() {
        #expect(PeriodicTask("a", interval: .zero) {}.interval == .seconds(60))
        #expect(PeriodicTask("a", interval: .seconds(-1)) {}.interval == nil)
        #expect(PeriodicTask("a", interval: .milliseconds(5)) {}.interval == .milliseconds(5))
    }

    @Test("Tasks run again and again, none twice at once, also after one has failed; disabled ones never run")
    func rounds() async {
        let state = Mutex((running: [String: Int](), most: 0, runs: [String: Int]()))
        let (ends, sink) = AsyncStream.makeStream(of: Void.self)
        @Sendable func run(_ name: String, failing: Bool) async throws {
            state.withLock { state in
                state.running[name, default: 0] += 1
                state.most = max(state.most, state.running[name, default: 0])
            }
            await Task.yield()
            let isEnough = state.withLock { state in
                state.running[name, default: 0] -= 1
                state.runs[name, default: 0] += 1
                return (state.runs["a"] ?? 0) >= 3 && (state.runs["b"] ?? 0) >= 3
            }
            if isEnough { sink.finish() }
            if failing { throw Failure(.hypervisor, "not now") }
        }
        let runner = PeriodicRunner(
            [
                PeriodicTask("a", interval: .milliseconds(1), isImmediate: true) { try await run("a", failing: true) },
                PeriodicTask("b", interval: .milliseconds(1)) { try await run("b", failing: false) },
                PeriodicTask("c", interval: .seconds(-1), isImmediate: true) { try await run("c", failing: false) },
            ], of: "agent", fuzz: .milliseconds(1))
        let life = Task { await runner.run() }
        for await _ in ends {}
        life.cancel()
        await life.value
        state.withLock { state in
            #expect(state.most == 1)
            #expect(state.runs["c"] == nil)
        }
    }

    @Test("One that hangs holds up no other, is told as late, and ends with the runner")
    func hanging() async {
        let (hung, hangs) = AsyncStream.makeStream(of: Void.self)
        let (runs, sink) = AsyncStream.makeStream(of: Void.self)
        let clock = PlayedClock()
        let runner = PeriodicRunner(
            [
                PeriodicTask("hangs", interval: .seconds(10), isImmediate: true) {
                    hangs.yield()
                    try await Task.sleep(for: .seconds(86_400))
                },
                PeriodicTask("runs", interval: .seconds(10), isImmediate: true) { sink.yield() },
            ], of: "agent", fuzz: .zero, clock: clock, random: { ($0.lowerBound + $0.upperBound) / 2 })
        let life = Task { await runner.run() }
        var (hanging, running) = (hung.makeAsyncIterator(), runs.makeAsyncIterator())
        _ = await hanging.next()
        for round in 1...10 {
            _ = await running.next()
            // The one that runs, and for a minute the watch over the one that hangs.
            await clock.advance(by: .seconds(10), whenAsleep: round <= 6 ? 2 : 1)
        }
        let isLate = {
            String(decoding: Metrics.shared.render(), as: UTF8.self).contains(
                "agent_periodic_late{task=\"hangs\"} 1")
        }
        while !isLate() { await Task.yield() }
        life.cancel()
        await life.value
        #expect(!isLate())
    }

    @Test("A run that took longer than the interval is followed by one other, not by all that were missed")
    func missed() async {
        let clock = PlayedClock()
        let (runs, sink) = AsyncStream.makeStream(of: Duration.self)
        let runner = PeriodicRunner(
            [
                PeriodicTask("slow", interval: .seconds(10), isImmediate: true) {
                    sink.yield(clock.now.offset)
                    try await clock.sleep(for: .seconds(35))
                }
            ], of: "agent", fuzz: .zero, clock: clock, random: { ($0.lowerBound + $0.upperBound) / 2 })
        let life = Task { await runner.run() }
        var iterator = runs.makeAsyncIterator()
        var starts: [Duration] = []
        for _ in 1...3 {
            if let start = await iterator.next() { starts.append(start) }
            await clock.advance(by: .seconds(35), whenAsleep: 2)
        }
        life.cancel()
        await life.value
        #expect(starts == [.zero, .seconds(35), .seconds(70)])
    }

    @Test("The first run comes after a part of the fuzz, no later than the interval; later ones up to 5 % off")
    func jitter() async {
        let clock = PlayedClock()
        let (runs, sink) = AsyncStream.makeStream(of: Duration.self)
        let runner = PeriodicRunner(
            [PeriodicTask("a", interval: .seconds(100)) { sink.yield(clock.now.offset) }],
            of: "agent", fuzz: .seconds(60), clock: clock, random: { $0.upperBound })
        let life = Task { await runner.run() }
        var iterator = runs.makeAsyncIterator()
        await clock.advance(by: .seconds(60), whenAsleep: 1)
        #expect(await iterator.next() == .seconds(60))
        await clock.advance(by: .seconds(105), whenAsleep: 1)
        #expect(await iterator.next() == .seconds(165))
        life.cancel()
        await life.value
    }
}
