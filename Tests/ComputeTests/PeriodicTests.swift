import Model
import Periodic
import RPC
import SQL
import SQLite
import Synchronization
import Telemetry
import Testing

@testable import Compute

@Suite("Periodic tasks", .timeLimit(.minutes(2)))
struct PeriodicTests {
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

    @Test(
        "Each task is off with a negative interval by its own option, and those of which Nova says so with 0, too",
        arguments: [
            ("DEFAULT.update_resources_interval", "-1", "update_available_resource"),
            ("DEFAULT.sync_power_state_interval", "-1", "sync_power_states"),
            ("DEFAULT.instance_delete_interval", "-1", "run_pending_deletes"),
            ("DEFAULT.running_deleted_instance_poll_interval", "0", "cleanup_running_deleted_instances"),
            ("DEFAULT.heal_instance_info_cache_interval", "-1", "heal_instance_info_cache"),
            ("DEFAULT.heal_instance_info_cache_interval", "0", "heal_instance_info_cache"),
            ("image_cache.manager_interval", "-1", "image_cache_manager"),
        ])
    func off(option: String, value: String, task: String) async throws {
        try await Bench(settings: [option: value]).run { agent in
            let tasks = agent.core.periodicRunner(isCompared: true).tasks
            #expect(tasks.filter { $0.interval == nil }.map(\.name).contains(task))
        }
    }

    @Test("periodic_enable = false leaves nothing that runs by itself")
    func allOff() async throws {
        try await Bench(settings: ["DEFAULT.periodic_enable": "false"]).run { agent in
            #expect(agent.core.periodicRunner(isCompared: true).tasks.isEmpty)
        }
        try await Bench().run { agent in
            #expect(agent.core.periodicRunner(isCompared: true).tasks.count == 9)
        }
    }

    @Test("A move's claim outlives the audit and a restart, is seen by the operator, and is settled in one step")
    func moves() async throws {
        let (host, folder) = (FakeHost(), try Folder())
        let settings = ["compute.memory_overhead_mib": "32"]
        let instance = Instance.test(vcpus: 1, memoryMiB: 512)
        let size = Resources(vcpus: 2, memoryMiB: 1_024, diskGiB: 1)
        let charged = Resources(vcpus: 2, memoryMiB: 1_056, diskGiB: 1)
        try await Bench(host: host, folder: folder, settings: settings).run { agent in
            try await agent.built(instance)
            let (journal, tracker) = (agent.core.journal, agent.core.tracker)
            try await journal.database.write { connection in
                for id in [instance.id, InstanceID("on-its-way")] {
                    let claim = try tracker.claim(size, for: id, purpose: .move(MigrationID("m-\(id)"))).keep()
                    try connection.insert(claim, now: journal.now())
                }
            }
            try await agent.core.audit()
            let ledger = tracker.snapshot
            #expect(ledger.moves.count == 2)
            #expect(ledger.promised == ledger.charge(for: instance.resources) + charged + charged)
        }
        try await Bench(host: host, folder: folder, settings: settings).run { agent in
            let (journal, tracker) = (agent.core.journal, agent.core.tracker)
            let ledger = tracker.snapshot
            #expect(ledger.moves.count == 2)
            #expect(ledger.promised == ledger.charge(for: instance.resources) + charged + charged)
            let told = try await agent.client.call(DescribeClaims.self, .init(host: HostName("host1"), events: 0))
            #expect(told.holdings.compactMap(\.remark).contains("migration m-on-its-way"))
            let move = try #require(ledger.moves[instance.id])
            for isFirst in [true, false] {
                let isSettled = try await journal.database.write { try $0.settle(move) }
                #expect(isSettled == isFirst)
                if isSettled { tracker.settle(move) }
            }
            let other = try #require(ledger.moves[InstanceID("on-its-way")])
            try await journal.database.write { try $0.release(other) }
            tracker.release(other)
            let events = try await journal.database.read { try $0.claimEvents(limit: 3) }
            #expect(events.map(\.change) == [.released, .settled, .released])
            try await agent.core.audit()
            #expect(tracker.snapshot.promised == charged && tracker.snapshot.claims[instance.id]?.id == move.id)
            _ = try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 2))
            #expect(tracker.snapshot.promised == .zero)
        }
    }
}
