import Model
import RPC
import SQLite
import Synchronization
import Telemetry
import Testing

@testable import Compute

@Suite("Periodic tasks", .timeLimit(.minutes(2)))
struct PeriodicTests {
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
            ], fuzz: .zero, clock: clock, random: { ($0.lowerBound + $0.upperBound) / 2 })
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
            ], fuzz: .zero, clock: clock, random: { ($0.lowerBound + $0.upperBound) / 2 })
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
            fuzz: .seconds(60), clock: clock, random: { $0.upperBound })
        let life = Task { await runner.run() }
        var iterator = runs.makeAsyncIterator()
        await clock.advance(by: .seconds(60), whenAsleep: 1)
        #expect(await iterator.next() == .seconds(60))
        await clock.advance(by: .seconds(105), whenAsleep: 1)
        #expect(await iterator.next() == .seconds(165))
        life.cancel()
        await life.value
    }

    @Test("The audit makes one bulk call, however many guests there are")
    func bulk() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            for _ in 1...5 { try await agent.built(.test(memoryMiB: 64)) }
            try await agent.settled()
            let before = DriverCall.allCases.map { agent.driver.count($0) }
            try await agent.core.updateAvailableResource()
            let after = DriverCall.allCases.map { agent.driver.count($0) }
            let made = zip(DriverCall.allCases, zip(before, after)).filter { $0.1.0 != $0.1.1 }
            #expect(made.map(\.0) == [.capacity] && made.first.map { $0.1.1 - $0.1.0 } == 1)
        }
    }

    @Test("A host that cannot be measured is audited all the same, and the failure is told")
    func unmeasured() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            try await agent.settled()
            try await agent.core.journal.database.write { connection in
                try connection.execute("DELETE FROM claims")
            }
            agent.core.tracker.restore([])
            agent.driver.fail(.capacity, Failure(.storage, "the file system is gone"))
            await #expect(throws: Failure.self) { try await agent.core.updateAvailableResource() }
            #expect(agent.core.tracker.snapshot.promised == instance.resources)
        }
    }

    @Test("A host that has less than it has promised goes on, and promises nothing more")
    func shrunk() async throws {
        let bench = try Bench()
        let (instance, other) = (Instance.test(vcpus: 2, memoryMiB: 2_048), Instance.test())
        try await bench.run { agent in
            try await agent.built(instance)
            agent.core.tracker.measured(Resources(vcpus: 1, memoryMiB: 1_024, diskGiB: 0), nil)
            try await agent.core.audit()
            let ledger = agent.core.tracker.snapshot
            #expect(ledger.promised == instance.resources && ledger.limit.memoryMiB < ledger.promised.memoryMiB)
            await #expect(throws: Failure.self) { try await agent.build(other) }
            #expect(agent.core.tracker.snapshot.claims.count == 1)
        }
    }

    @Test("What cannot be removed is tried as often as the option says, and no more in this life")
    func leftovers() async throws {
        let bench = try Bench(settings: ["DEFAULT.instance_delete_interval": "-1"])
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(.removeDisks, Failure(.storage, "busy"))
            _ = try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 2))
            try await agent.settled()
            let removal = LeftoverRemoval(
                limit: 2, journal: agent.core.journal, dispatcher: agent.core.dispatcher)
            var tries: [Int] = []
            for _ in 1...4 {
                let before = agent.driver.count(.removeDisks)
                try await removal.run()
                try await agent.settled()
                tries.append(agent.driver.count(.removeDisks) > before ? 1 : 0)
            }
            #expect(tries == [1, 1, 0, 0])
            agent.driver.heal()
            let next = LeftoverRemoval(limit: 2, journal: agent.core.journal, dispatcher: agent.core.dispatcher)
            try await next.run()
            try await agent.settled()
            try await agent.holdsExactly([])
        }
    }

    @Test("Interfaces are told again, of one guest after the other")
    func healing() async throws {
        let bench = try Bench()
        let instances = [Instance.test(), .test(), .test()].sorted { $0.id < $1.id }
        try await bench.run { agent in
            for instance in instances { try await agent.built(instance) }
            try await agent.settled()
            let healing = NetworkHealing(
                journal: agent.core.journal, host: HostName("host1"), sequence: { agent.core.sequence.next() },
                wakeOutbox: { agent.core.outbox.wake() })
            for number in 0...3 {
                let count = agent.conductor.heard.instances.count
                try await healing.run()
                let heard = try await agent.conductor.until { $0.instances.count > count }
                #expect(heard.instances.last?.instance == instances[number % 3].id)
                #expect(heard.instances.last?.interfaces?.isEmpty == false)
            }
        }
    }

    @Test(
        "Absurd values stop the start, with the option's name",
        arguments: [
            ("DEFAULT.periodic_fuzzy_delay", "-1"), ("DEFAULT.periodic_fuzzy_delay", "1000000"),
            ("DEFAULT.report_interval", "0"), ("DEFAULT.cpu_allocation_ratio", "-4"),
            ("DEFAULT.cpu_allocation_ratio", "nan"), ("DEFAULT.initial_ram_allocation_ratio", "0"),
            ("DEFAULT.reserved_host_memory_mb", "-1"), ("DEFAULT.maximum_instance_delete_attempts", "0"),
            ("DEFAULT.compute_monitors", "cpu.virt_driver,gpu"), ("DEFAULT.periodic_enable", "perhaps"),
        ])
    func absurd(option: String, value: String) throws {
        let bench = try Bench(settings: [option: value])
        let error = #expect(throws: (any Error).self) { try bench.configuration() }
        #expect(error.map { "\($0)" }?.contains(option.drop { $0 != "." }.dropFirst()) == true)
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
