import HostTopology
import Model
import RPC
import SQL
import SQLite
import Testing

@testable import Compute

@Suite("What an instance has been promised outlives its rebuild", .timeLimit(.minutes(2)))
struct RebuildClaimTests {
    private func bench() throws -> Bench {
        var capacity = HostCapacity.fake
        capacity.cells = HostTopology.twoCells.cells
        return try Bench(
            capacity: capacity,
            settings: ["compute.cpu_shared_set": "0-1,4-5", "compute.cpu_dedicated_set": "2-3,6-7"])
    }

    private var pinned: Instance {
        var instance = Instance.test(vcpus: 2)
        instance.flavor.extraSpecs["hw:cpu_policy"] = "dedicated"
        return instance
    }

    /// The claims in memory and in the journal, which are the same.
    private func claims(_ agent: AgentHandle) async throws -> [Claim] {
        let kept = try await agent.core.journal.claims()
        #expect(kept == Array(agent.core.tracker.snapshot.claims.values))
        #expect(agent.core.tracker.snapshot.moves.isEmpty)
        return kept
    }

    @Test(
        "An image that wants other cells or processors is refused, and everything is as it was",
        arguments: [["hw_numa_nodes": "2"], ["hw_numa_nodes": "1"], ["hw_cpu_policy": "dedicated"]])
    func otherTopology(properties: [String: String]) async throws {
        let bench = try bench()
        let instance = Instance.test(vcpus: 2)
        try await bench.run { agent in
            try await agent.built(instance)
            try await agent.settled()
            let before = (try await claims(agent), agent.driver.host.state)
            let record = try await agent.core.journal.guest(instance.id)
            var image = ImageReference.other
            image.properties = properties
            let failure = await #expect(throws: Failure.self) {
                try await agent.operate(.rebuild(GuestMaterial(image: image)), instance.id, generation: 2)
            }
            #expect(failure?.kind == .invalidParameters)
            #expect(failure?.message.contains("other NUMA cells or processors") == true)
            #expect(try await claims(agent) == before.0 && agent.driver.host.state == before.1)
            #expect(try await agent.core.journal.guest(instance.id)?.specification == record?.specification)
            // It was no command, so the next of that generation is none that came before.
            let next = try await agent.operate(.stop, instance.id, generation: 2)
            #expect(try await agent.conductor.outcome(of: next).failure == nil)
        }
    }

    @Test("One that succeeds, one whose image cannot be had and one that fails half-way leave the claim as it was")
    func same() async throws {
        let bench = try bench()
        let instance = pinned
        try await bench.run { agent in
            try await agent.built(instance)
            let before = try await claims(agent)
            #expect(before.first?.placement?.dedicatedCPUs.count == 2)
            let used = agent.core.tracker.snapshot.used
            func rebuild(_ generation: Int64) async throws -> ReportOperation.Params {
                let outcome = try await agent.conductor.outcome(
                    of: agent.operate(.rebuild(CommandCase.material), instance.id, generation: generation))
                try await agent.settled()
                return outcome
            }
            agent.conductor.script { $0.imageStatus = 404 }
            #expect(try await rebuild(2).failure?.kind == .imageUnacceptable)
            #expect(try await claims(agent) == before)
            agent.conductor.script { $0.imageStatus = 200 }
            agent.driver.fail(.createDisks, Failure(.storage, "the disk is full"))
            #expect(try await rebuild(3).vmState == .error)
            #expect(try await claims(agent) == before)
            agent.driver.heal()
            #expect(try await rebuild(4).failure == nil)
            #expect(try await claims(agent) == before)
            #expect(agent.core.tracker.snapshot.used == used)
            #expect(agent.driver.host.state.domains[instance.id]?.cpus == before.first?.placement?.dedicatedCPUs)
            #expect(agent.driver.host.state.domains[instance.id]?.image == CommandCase.material.image.id)
            let events = try await agent.core.journal.database.read { try $0.claimEvents(limit: 10) }
            #expect(events.map(\.change) == [.claimed], "nothing was given back in between")
        }
    }
}
