import Crypto
import Model
import RPC
import Testing

@testable import Compute

@Suite("The guest's agent", .timeLimit(.minutes(2)))
struct GuestAgentTests {
    /// An instance whose image says this of an agent.
    private static func instance(hasAgent: String?) -> Instance {
        var made = Instance.test()
        made.imageProperties = hasAgent.map { ["hw_qemu_guest_agent": $0] } ?? [:]
        return made
    }

    @Test("is asked by its host on demand")
    func ping() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let answer = try await agent.client.call(PingGuestAgent.self, .init(instance: instance.id))
            #expect(answer.isAnswering && answer.milliseconds >= 0)
            agent.driver.host.change { $0.domains[instance.id]?.hasAgent = false }
            #expect(try await !agent.client.call(PingGuestAgent.self, .init(instance: instance.id)).isAnswering)
            let failure = await #expect(throws: Failure.self) {
                _ = try await agent.client.call(PingGuestAgent.self, .init(instance: InstanceID(makeUUID())))
            }
            #expect(failure?.kind == .notFound)
        }
    }

    @Test(
        "is given no password before it answers; whose fault that is, is told",
        arguments: [("yes", .timeout), ("no", .conflict), (nil, .conflict)] as [(String?, FailureKind)])
    func password(hasAgent: String?, kind: FailureKind) async throws {
        let bench = try Bench()
        let instance = Self.instance(hasAgent: hasAgent)
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.host.change { $0.domains[instance.id]?.hasAgent = false }
            let task = try await agent.operate(.setPassword("n3w-s3cret"), instance.id, generation: 2)
            let outcome = try await agent.conductor.outcome(of: task)
            #expect(outcome.failure?.kind == kind && outcome.vmState == .active)
            #expect(agent.driver.count(.setPassword) == 0)
            try await agent.settled()
            #expect(try await !agent.everyRow().contains("n3w-s3cret"))
        }
    }

    @Test(
        "must answer before a copy that has to be quiesced is begun, unless the guest is off", arguments: [true, false])
    func quiesce(isRunning: Bool) async throws {
        let bench = try Bench()
        let instance = Self.instance(hasAgent: "yes")
        let order = SnapshotOrder(image: ImageID(makeUUID()), format: .qcow2, quiesce: .required)
        try await bench.run { agent in
            try await agent.built(instance)
            if !isRunning {
                _ = try await agent.conductor.outcome(of: agent.operate(.stop, instance.id, generation: 2))
            }
            agent.driver.host.change { $0.domains[instance.id]?.hasAgent = false }
            let task = try await agent.operate(.snapshot(order), instance.id, generation: 3)
            let failure = try await agent.conductor.outcome(of: task).failure
            #expect(isRunning ? failure?.message.contains("os_require_quiesce") == true : failure == nil)
            #expect(agent.driver.count(.takeSnapshot) == (isRunning ? 0 : 1))
        }
    }
}
