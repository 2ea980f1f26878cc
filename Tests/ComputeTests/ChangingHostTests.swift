import HostTopology
import Model
import RPC
import Telemetry
import Testing

@testable import Compute

@Suite("Hosts that become others while they run", .timeLimit(.minutes(2)))
struct ChangingHostTests {
    /// Two cells of four processors each, the last two of each for pinned guests. Numbers of `cells` that no other test
    /// has make its lines of the log its own.
    private func capacity(cells numbers: [Int] = [0, 1], largePageKiB: Int? = nil) -> HostCapacity {
        var capacity = HostCapacity.fake
        capacity.cells = zip(numbers, HostTopology.twoCells.cells).map { number, cell in
            var cell = cell
            cell.id = number
            if let largePageKiB {
                cell.pages = [
                    .init(sizeKiB: 4, total: 262_144), .init(sizeKiB: largePageKiB, total: 1_048_576 / largePageKiB),
                ]
            }
            return cell
        }
        return capacity
    }

    private static let sets = ["compute.cpu_shared_set": "0-1,4-5", "compute.cpu_dedicated_set": "2-3,6-7"]

    private func instance(
        _ specs: [String: String] = [:], vcpus: Int = 2, memoryMiB: Int = 512
    ) -> Instance {
        var instance = Instance.test(vcpus: vcpus, memoryMiB: memoryMiB)
        instance.flavor.extraSpecs = specs
        return instance
    }

    private func refusal(_ instance: Instance, _ agent: AgentHandle) async -> String? {
        await #expect(throws: Failure.self) { _ = try await agent.build(instance) }?.message
    }

    @Test("One that has lost memory and processors keeps its promises, and promises no more until it grows")
    func size() async throws {
        let bench = try Bench(settings: ["DEFAULT.reserved_host_memory_mb": "0", "DEFAULT.cpu_allocation_ratio": "1"])
        let (first, other) = (instance(memoryMiB: 2_048), instance(memoryMiB: 4_096))
        try await bench.run { agent in
            try await agent.built(first)
            let before = agent.core.tracker.snapshot.claims
            agent.driver.changeCapacity { $0.total = Resources(vcpus: 1, memoryMiB: 1_024, diskGiB: 0) }
            try await agent.core.reporter.measure()
            let small = Resources(vcpus: 1, memoryMiB: 1_024, diskGiB: 0)
            let heard = try await agent.conductor.until { $0.hosts.last?.total == small }
            let report = try #require(heard.hosts.last)
            #expect(report.used == first.resources, "more than there is")
            try report.check()
            let now = agent.core.tracker.snapshot
            #expect(now.claims == before)
            #expect(
                now.broken == [
                    "vcpus: 2 promised of 1", "memory_mib: 2048 promised of 1024", "disk_gib: 1 promised of 0",
                ])
            #expect(
                await refusal(other, agent)
                    == "vcpus: 2 requested, 0 free of 1; memory_mib: 4096 requested, 0 free of 1024; "
                    + "disk_gib: 1 requested, 0 free of 0")
            #expect(agent.core.tracker.snapshot.claims == before)
            // More than it had at first.
            agent.driver.changeCapacity { $0.total = Resources(vcpus: 4, memoryMiB: 6_144, diskGiB: 2) }
            try await agent.core.reporter.measure()
            #expect(agent.core.tracker.snapshot.broken.isEmpty)
            try await agent.built(other)
            let sum = first.resources + other.resources
            _ = try await agent.conductor.until { $0.hosts.last?.used == sum && $0.hosts.last?.total.vcpus == 4 }
        }
    }

    @Test("A cell that is gone keeps its guests, is told once, and is nobody else's when it is back")
    func cell() async throws {
        let log = LogLines.shared
        let whole = capacity(cells: [0, 5_117])
        let bench = try Bench(capacity: whole, settings: Self.sets)
        let specs = ["hw:cpu_policy": "dedicated"]
        let (first, second, third) = (instance(specs), instance(specs), instance(specs))
        try await bench.run { agent in
            for instance in [first, second] { try await agent.built(instance) }
            let before = agent.core.tracker.snapshot.claims
            #expect(Set(before.values.compactMap { $0.placement?.cells.first?.hostCell }) == [0, 5_117])
            agent.driver.changeCapacity { $0.cells.removeLast() }
            for _ in 1...2 { try await agent.core.reporter.measure() }
            let heard = try await agent.conductor.until { $0.hosts.last?.cells?.map(\.id) == [0] }
            #expect(heard.hosts.last?.total.vcpus == 2, "the shared ones that are left")
            try #require(heard.hosts.last).check()
            #expect(agent.core.tracker.snapshot.claims == before)
            #expect(agent.core.tracker.snapshot.broken == ["cell 5117: gone"])
            #expect(log.lines { $0.contains("more is promised than the host has") && $0.contains("5117") }.count == 1)
            #expect(await refusal(third, agent) == "dedicated_cpus: 2 requested, 0 free of 2")
            let cells = instance(["hw:numa_nodes": "2"])
            #expect(await refusal(cells, agent) == "cells: 2 requested, 1 free of 1")
            agent.driver.changeCapacity { $0.cells = whole.cells }
            try await agent.core.reporter.measure()
            _ = try await agent.conductor.until {
                $0.hosts.last?.cells?.map { "\($0.id): \($0.takenCPUs)" } == ["0: 2-3", "5117: 6-7"]
            }
            #expect(agent.core.tracker.snapshot.broken.isEmpty)
            #expect(await refusal(third, agent) == "dedicated_cpus: 2 requested, 0 free of 2")
        }
    }

    @Test("A processor that goes offline is promised to nobody, and whose it was keeps it")
    func processor() async throws {
        let bench = try Bench(capacity: capacity(), settings: Self.sets)
        let specs = ["hw:cpu_policy": "dedicated"]
        let (first, second) = (instance(specs), instance(specs))
        try await bench.run { agent in
            try await agent.built(first)
            let before = agent.core.tracker.snapshot.claims
            #expect(before[first.id]?.placement?.dedicatedCPUs == CPUSet([2, 3]))
            agent.driver.changeCapacity { capacity in
                for (cell, cpu) in [(0, 3), (1, 7)] {
                    capacity.cells[cell].cpus = CPUSet(capacity.cells[cell].cpus.numbers.subtracting([cpu]))
                    capacity.cells[cell].cores.removeAll { $0 == CPUSet([cpu]) }
                }
            }
            try await agent.core.reporter.measure()
            _ = try await agent.conductor.until {
                $0.hosts.last?.cells?.map(\.dedicatedCPUs) == [CPUSet([2]), CPUSet([6])]
            }
            #expect(agent.core.tracker.snapshot.claims == before)
            #expect(agent.core.tracker.snapshot.broken == ["cell 0: no CPUs 3"])
            #expect(await refusal(second, agent) == "dedicated_cpus: 2 requested, 1 free of 1")
        }
    }

    @Test("A page size that is gone, though pages of it are reserved, keeps nothing else from being told")
    func pages() async throws {
        let log = LogLines.shared
        // No other test has pages of 32 MiB.
        let whole = capacity(largePageKiB: 32_768)
        let bench = try Bench(
            capacity: whole, settings: ["DEFAULT.reserved_huge_pages": "node:0,size:32768,count:4"])
        let specs = ["hw:mem_page_size": "32768"]
        let (first, second) = (instance(specs), instance(specs))
        let missing = { @Sendable in
            log.lines {
                $0.contains("the host has not all that is configured")
                    && $0.contains("cell 0 has no pages of 32768 KiB")
            }.count
        }
        try await bench.run { agent in
            try await agent.built(first)
            let before = agent.core.tracker.snapshot.claims
            // Cell 0 has 4 of 32 reserved; the guest has its 16 in the first cell that has them.
            let home = try #require(before[first.id]?.placement?.cells.first?.hostCell)
            agent.driver.changeCapacity { capacity in
                for cell in capacity.cells.indices { capacity.cells[cell].pages.removeLast() }
                capacity.total.memoryMiB = 8_192
            }
            for _ in 1...3 { try await agent.core.reporter.measure() }
            let heard = try await agent.conductor.until { $0.hosts.last?.total.memoryMiB == 8_192 }
            #expect(heard.hosts.last?.cells?.map { $0.pages.map(\.sizeKiB) } == [[4], [4]])
            try #require(heard.hosts.last).check()
            #expect(agent.core.tracker.snapshot.claims == before)
            #expect(
                agent.core.tracker.snapshot.broken == ["cell \(home): 16 pages of 32768 KiB promised of 0"])
            #expect(missing() == 1)
            #expect(await refusal(second, agent) == "pages_32768_kib: 16 requested, 0 free of 0")
            try await agent.built(instance())
            // The audit as a whole goes well, again and again.
            for _ in 1...2 { try await agent.core.updateAvailableResource() }
            agent.driver.changeCapacity { $0 = whole }
            try await agent.core.reporter.measure()
            _ = try await agent.conductor.until { heard in
                heard.hosts.last?.cells?.map { $0.pages.last?.reserved } == [4, 0]
                    && heard.hosts.last?.cells?.first { $0.id == home }?.pages.last?.used == 16
            }
            #expect(agent.core.tracker.snapshot.broken.isEmpty && missing() == 1)
        }
    }

    @Test("A hypervisor that no longer tells the cells gives nobody processors that may not be guests'")
    func noCells() async throws {
        let whole = capacity()
        let bench = try Bench(capacity: whole, settings: Self.sets)
        let (first, second) = (instance(["hw:cpu_policy": "dedicated"]), instance())
        try await bench.run { agent in
            try await agent.built(first)
            let before = agent.core.tracker.snapshot.claims
            agent.driver.changeCapacity { $0.cells = [] }
            try await agent.core.reporter.measure()
            let heard = try await agent.conductor.until { $0.hosts.last.map { $0.cells == nil } ?? false }
            #expect(heard.hosts.last?.total.vcpus == 0)
            #expect(agent.core.tracker.snapshot.claims == before)
            #expect(await refusal(second, agent) == "vcpus: 2 requested, 0 free of 0")
            agent.driver.changeCapacity { $0.cells = whole.cells }
            try await agent.core.reporter.measure()
            _ = try await agent.conductor.until { $0.hosts.last?.cells?.count == 2 && $0.hosts.last?.total.vcpus == 4 }
            try await agent.built(second)
        }
    }

    @Test("Instances' storage is told as shared or as the host's own, also when another is mounted there")
    func storage() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let heard = try await agent.conductor.until { !$0.hosts.isEmpty }
            #expect(heard.hosts.last?.sharedStorage == nil)
            for (kind, reports) in [("nfs", 2), (nil, 3)] {
                agent.driver.changeCapacity { $0.sharedStorage = kind }
                try await agent.core.reporter.measure()
                let heard = try await agent.conductor.until { $0.wholeHostReports == reports }
                #expect(heard.hosts.last?.sharedStorage == kind)
            }
        }
    }

    @Test("What guests take that are in no record is told and kept from others, until they are gone or off")
    func orphans() async throws {
        let bench = try Bench(settings: ["DEFAULT.reserved_host_memory_mb": "0"])
        let (id, size) = (InstanceID("ours"), Resources(vcpus: 2, memoryMiB: 4_096, diskGiB: 0))
        bench.driver.host.change {
            $0.domains[id] = .init(name: "instance-1", powerState: .running, isOurs: true, size: size)
            $0.domains[InstanceID("theirs")] = .init(
                name: "other", powerState: .running, isOurs: false, size: Resources(vcpus: 1, memoryMiB: 1, diskGiB: 0))
        }
        try await bench.run { agent in
            let heard = try await agent.conductor.until {
                $0.hosts.last?.strays?.orphans == .init([id]) && $0.hosts.last?.used == size
            }
            #expect(heard.hosts.last?.runningInstances == 0)
            #expect(agent.core.tracker.snapshot.promised == .zero)
            let failure = await #expect(throws: Failure.self) {
                _ = try await agent.build(instance(vcpus: 1, memoryMiB: 12_289))
            }
            #expect(failure?.message.hasPrefix("memory_mib: 12289 requested, 12288 free of 16384") == true)
            // A look at the journal's claims leaves it as it is.
            try await agent.core.audit()
            #expect(agent.core.tracker.snapshot.used == size)
            agent.driver.guestChanged(id, to: .shutdown)
            _ = try await agent.conductor.until { $0.hosts.last?.used == .zero }
            let whole = instance(vcpus: 1, memoryMiB: 16_384)
            try await agent.built(whole)
            #expect(agent.core.tracker.snapshot.used == whole.resources)
        }
    }
}
