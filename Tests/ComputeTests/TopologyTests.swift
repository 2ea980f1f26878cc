import HostTopology
import Model
import RPC
import SQL
import SQLite
import Testing

@testable import Compute

@Suite("Guests with processors of their own", .timeLimit(.minutes(2)))
struct TopologyTests {
    private static var capacity: HostCapacity {
        var capacity = HostCapacity.fake
        capacity.cells = HostTopology.twoCells.cells
        return capacity
    }

    private func bench(_ settings: [String: String] = ["compute.cpu_dedicated_set": "2,3,6,7"]) throws -> Bench {
        try Bench(
            capacity: Self.capacity, settings: settings.merging(["compute.cpu_shared_set": "0-1"]) { own, _ in own })
    }

    private func pinned(vcpus: Int = 2) -> Instance {
        var instance = Instance.test(vcpus: vcpus)
        instance.flavor.extraSpecs["hw:cpu_policy"] = "dedicated"
        return instance
    }

    @Test("Two guests never have one processor; who has which is in the journal, the report and the record")
    func pins() async throws {
        let bench = try bench()
        let (first, second, third) = (pinned(), pinned(), pinned())
        try await bench.run { agent in
            for instance in [first, second] { try await agent.built(instance) }
            await #expect(throws: Failure.self) { try await agent.build(third) }
            let records = try await agent.core.journal.guests()
            let held = records.compactMap { $0.specification.placement?.dedicatedCPUs.numbers }
            #expect(held.count == 2 && held[0].union(held[1]) == [2, 3, 6, 7])
            let defined = [first, second].map { agent.driver.host.state.domains[$0.id]?.cpus }
            #expect(Set(defined.compactMap(\.self)) == Set(held.map { CPUSet($0) }))
            #expect(agent.core.tracker.snapshot.promised.vcpus == 0)
            let heard = try await agent.conductor.until {
                $0.hosts.last?.cells?.allSatisfy { $0.takenCPUs.count == 2 } == true
            }
            #expect(heard.hosts.last?.total.vcpus == 2)
            let told = try await agent.client.call(DescribeClaims.self, .init(host: HostName("host1"), events: 0))
            #expect(Set(told.holdings.compactMap(\.remark)) == ["cell 0, CPUs 2-3", "cell 1, CPUs 6-7"])
            // Those of one that is gone are free again.
            _ = try await agent.conductor.outcome(of: agent.delete(first.id, generation: 2))
            try await agent.built(third)
        }
    }

    @Test("After a restart everybody has what he had, and an audit that makes a lost claim anew keeps the place")
    func restart() async throws {
        let bench = try bench()
        let instance = pinned()
        let before = try await bench.run { agent in
            try await agent.built(instance)
            return agent.core.tracker.snapshot.claims
        }
        let again = try Bench(
            host: bench.driver.host, folder: bench.folder, capacity: Self.capacity,
            settings: ["compute.cpu_dedicated_set": "2,3,6,7"])
        try await again.run { agent in
            #expect(agent.core.tracker.snapshot.claims == before)
            try await agent.core.journal.database.write { try $0.execute("DELETE FROM claims") }
            try await agent.core.audit()
            #expect(agent.core.tracker.snapshot.claims[instance.id]?.placement == before[instance.id]?.placement)
        }
    }

    @Test(
        "Sets that the host does not have, or that overlap, stop the start",
        arguments: [
            (["compute.cpu_dedicated_set": "7-9"], "cpu_dedicated_set: the host has no CPUs 8-9"),
            (["compute.cpu_dedicated_set": "1-2"], "both have the CPUs 1"),
            (["DEFAULT.reserved_huge_pages": "node:0,size:2048,count:1"], "cell 0 has no pages of 2048 KiB"),
        ])
    func refused(settings: [String: String], message: String) async throws {
        let bench = try bench(settings)
        let agent = Agent(
            configuration: try bench.configuration(), driver: bench.driver, conductors: [bench.conductor.url])
        let error = await #expect(throws: Failure.self) { try await agent.run() }
        #expect(error?.message.contains(message) == true)
        await bench.conductor.stop()
    }

    @Test("An image that asks for another topology is not what such a guest is rebuilt of")
    func rebuild() async throws {
        let bench = try bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            var image = ImageReference.test
            image.properties["hw_cpu_policy"] = "dedicated"
            let command = GuestCommand.rebuild(GuestMaterial(image: image, adminPassword: nil))
            await #expect(throws: Failure.self) {
                try await agent.operate(command, instance.id, generation: 2)
            }
        }
    }
}
