import Model
import RPC
import Telemetry
import Testing

@testable import Compute

@Suite("Guests whose instance is deleted", .timeLimit(.minutes(2)))
struct RunningDeletedTests {
    private static let action = "DEFAULT.running_deleted_instance_action"

    /// A host that looks only when a test says so.
    private static func bench(_ settings: [String: String]) throws -> Bench {
        try Bench(settings: settings.merging(["DEFAULT.running_deleted_instance_poll_interval": "0"]) { $1 })
    }

    /// The database's word that an instance was deleted, two hours ago.
    private static func deleted(
        _ id: InstanceID, generation: Int64 = 2, ago: Duration = .seconds(7_200)
    ) -> DescribeInstances.Standing {
        .init(
            instance: id, fence: Fence(generation: generation, epoch: 0),
            deletedAt: WallClock.now() - ago)
    }

    @Test("are left as they are by noop and log, of which the second tells of each", arguments: [nil, "noop", "log"])
    func left(action: String?) async throws {
        let log = LogLines.shared
        let bench = try Self.bench(action.map { [Self.action: $0] } ?? [:])
        let instance = Instance.test()
        bench.conductor.script { $0.standings = [Self.deleted(instance.id)] }
        try await bench.run { agent in
            try await agent.built(instance)
            try await agent.core.runningDeleted.run()
            try await agent.settled()
            #expect(agent.driver.host.state.domains[instance.id]?.powerState == .running)
            #expect(agent.conductor.heard.described == (action == "noop" ? [] : [instance.id]))
            let told = log.lines { $0.contains("\(instance.id)") && $0.contains("whose instance is deleted") }
            #expect(told.count == (action == "noop" ? 0 : 1))
            #expect(told.allSatisfy { $0.contains("WARNING") && $0.contains("a guest is here") })
            try await agent.holdsExactly([instance])
        }
    }

    @Test("are off after shutdown, with all that they had")
    func shutdown() async throws {
        let bench = try Self.bench([Self.action: "shutdown"])
        let instance = Instance.test()
        bench.conductor.script { $0.standings = [Self.deleted(instance.id)] }
        try await bench.run { agent in
            try await agent.built(instance)
            for _ in 0..<2 {
                try await agent.core.runningDeleted.run()
                try await agent.settled()
            }
            #expect(agent.driver.host.state.domains[instance.id]?.powerState == .shutdown)
            #expect(agent.driver.count(.powerOff) == 1)
            try await agent.holdsExactly([instance])
        }
    }

    @Test("are gone after reap, with all that they had, and no earlier command brings them back")
    func reap() async throws {
        let bench = try Self.bench([Self.action: "reap"])
        let (instance, other) = (Instance.test(), Instance.test())
        bench.conductor.script {
            $0.standings = [
                Self.deleted(instance.id), .init(instance: other.id, fence: other.fence, deletedAt: nil),
            ]
        }
        try await bench.run { agent in
            try await agent.built(instance)
            try await agent.built(other)
            try await agent.core.runningDeleted.run()
            try await agent.settled()
            try await agent.holdsExactly([other])
            let failure = await #expect(throws: Failure.self) { _ = try await agent.build(instance) }
            #expect(failure?.kind == .conflict)
        }
    }

    @Test("without a record here are dealt with as well: the database knows them", arguments: ["shutdown", "reap"])
    func withoutRecord(action: String) async throws {
        let bench = try Self.bench([Self.action: action])
        let instance = Instance.test()
        bench.driver.host.change {
            $0.domains[instance.id] = .init(name: "instance-00000001", powerState: .running, isOurs: true)
        }
        bench.conductor.script { $0.standings = [Self.deleted(instance.id)] }
        try await bench.run { agent in
            try await agent.core.runningDeleted.run()
            try await agent.settled()
            let domain = agent.driver.host.state.domains[instance.id]
            #expect(action == "reap" ? domain == nil : domain?.powerState == .shutdown)
        }
    }

    @Test("are only those that the database says are deleted: no orphan, nobody else's, no older word, not too early")
    func evidence() async throws {
        let bench = try Self.bench([Self.action: "reap", "DEFAULT.running_deleted_instance_timeout": "3600"])
        let (unknown, alive, older, early) = (Instance.test(), Instance.test(), Instance.test(), Instance.test())
        let foreign = Instance.test()
        bench.driver.host.change {
            $0.domains[foreign.id] = .init(name: "somebody-elses", powerState: .running, isOurs: false)
        }
        bench.conductor.script {
            $0.standings = [
                .init(instance: alive.id, fence: Fence(generation: 9, epoch: 0), deletedAt: nil),
                Self.deleted(older.id, generation: 1), Self.deleted(early.id, ago: .seconds(60)),
                Self.deleted(foreign.id),
            ]
        }
        try await bench.run { agent in
            for instance in [unknown, alive, older, early] { try await agent.built(instance) }
            let stop = try await agent.operate(.stop, older.id, generation: 2)
            _ = try await agent.conductor.outcome(of: stop)
            try await agent.settled()
            let before = agent.driver.host.state
            try await agent.core.runningDeleted.run()
            try await agent.settled()
            #expect(agent.driver.host.state == before)
            #expect(!agent.conductor.heard.described.contains(foreign.id))
        }
    }

    @Test("are left to the operation that is under way")
    func busy() async throws {
        let bench = try Self.bench([Self.action: "reap"])
        let instance = Instance.test()
        bench.conductor.script { $0.standings = [Self.deleted(instance.id)] }
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.hold(.pause)
            let task = try await agent.operate(.pause, instance.id, generation: 2)
            await agent.driver.reached(.pause)
            try await agent.core.runningDeleted.run()
            let deletion = Fence(generation: 3, epoch: 0)
            #expect(try await !agent.core.dispatcher.reap(instance.id, deletedAt: deletion))
            agent.driver.release(.pause)
            #expect(try await agent.conductor.outcome(of: task).failure == nil)
            #expect(agent.driver.host.state.domains[instance.id]?.powerState == .paused)
        }
    }

    @Test("stay while no conductor answers, or the hypervisor does not")
    func unreachable() async throws {
        let bench = try Self.bench([Self.action: "reap"])
        let instance = Instance.test()
        bench.conductor.script { $0.standings = [Self.deleted(instance.id)] }
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(.guests, Failure(.hypervisor, "gone"))
            await #expect(throws: Failure.self) { try await agent.core.runningDeleted.run() }
            agent.driver.heal()
            await agent.conductor.stop()
            await #expect(throws: Failure.self) { try await agent.core.runningDeleted.run() }
            try await agent.holdsExactly([instance])
        }
    }
}
