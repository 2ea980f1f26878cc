import Model
import SQLite
import Synchronization
import Testing

@testable import Compute

@Suite("Periodic tasks")
struct PeriodicTests {
    @Test("An interval of 0 is a minute, a negative one is never")
    func intervals() {
        #expect(PeriodicTask("a", interval: .zero) {}.interval == .seconds(60))
        #expect(PeriodicTask("a", interval: .seconds(-1)) {}.interval == nil)
        #expect(PeriodicTask("a", interval: .milliseconds(5)) {}.interval == .milliseconds(5))
    }

    @Test("Tasks run again and again, never two at once, also after one has failed; disabled ones never run")
    func rounds() async {
        let state = Mutex((running: 0, most: 0, runs: [String: Int]()))
        let (ends, sink) = AsyncStream.makeStream(of: Void.self)
        @Sendable func run(_ name: String, failing: Bool) async throws {
            state.withLock { state in
                state.running += 1
                state.most = max(state.most, state.running)
            }
            await Task.yield()
            let isEnough = state.withLock { state in
                state.running -= 1
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
            ], fuzz: .milliseconds(1))
        let life = Task { await runner.run() }
        for await _ in ends {}
        life.cancel()
        await life.value
        state.withLock { state in
            #expect(state.most == 1)
            #expect(state.runs["c"] == nil)
        }
    }

    @Test("The journal forgets operations once they are as old as the option says, and no fence before a month")
    func journal() async throws {
        let bench = try Bench(settings: ["compute.journal_retention": "7200"])
        let (kept, gone) = (Instance.test(), Instance.test())
        try await bench.run { agent in
            try await agent.built(kept)
            try await agent.built(gone)
            _ = try await agent.conductor.outcome(of: agent.delete(gone.id, generation: 2))
            try await agent.settled()
            let database = agent.core.journal.database
            let ended = { @Sendable () async throws -> Int in
                try await database.read { try $0.first("SELECT count(*) FROM operations") { $0.int(0) } ?? 0 }
            }
            let now = agent.core.journal.now()
            try await agent.core.trim(at: now + .seconds(7_000))
            #expect(try await ended() == 3)
            try await agent.core.trim(at: now + .seconds(7_300))
            #expect(try await ended() == 0)
            let month = Duration.seconds(31 * 86_400)
            #expect(try await agent.core.journal.fence(gone.id) != nil)
            try await agent.core.trim(at: now + month)
            #expect(try await agent.core.journal.fence(gone.id) == nil)
            #expect(try await agent.core.journal.fence(kept.id) != nil)
            try await agent.holdsExactly([kept])
        }
    }
}
