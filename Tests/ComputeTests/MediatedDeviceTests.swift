import HostTopology
import Model
import PCIDevices
import RPC
import SQL
import SQLite
import Testing

@testable import Compute

@Suite("Guests with shares of the host's devices", .timeLimit(.minutes(2)))
struct MediatedDeviceTests {
    private static let settings = ["devices.enabled_mdev_types": "nvidia-35,nvidia-36"]
    private static let address = "0000:84:00.0"

    private func host(_ available: Int = 1, of type: String = "nvidia-35") -> FakeHost {
        let host = FakeHost()
        host.change { state in
            state.mediatedParents = [
                MediatedDeviceParent(
                    address: Self.address, numaNode: 0,
                    types: [.init(id: type, deviceAPI: "vfio-pci", availableInstances: available)])
            ]
        }
        return host
    }

    private func guest(_ count: Int = 1) -> Instance {
        var instance = Instance.test(memoryMiB: 64)
        instance.flavor.extraSpecs["resources:VGPU"] = String(count)
        return instance
    }

    @Test("One is made for a guest, the next is refused, and a removal gives it back")
    func own() async throws {
        let host = host()
        let bench = try Bench(host: host, settings: Self.settings)
        let (first, second) = (guest(), guest())
        try await bench.run { agent in
            _ = try await agent.conductor.until { $0.hosts.last?.mediatedDevicePools?.map(\.total) == [1] }
            try await agent.built(first)
            let held = try #require(agent.core.tracker.snapshot.claims[first.id]?.mediatedDevices)
            #expect(held.map(\.parentAddress) == [Self.address] && held.map(\.type) == ["nvidia-35"])
            #expect(host.state.domains[first.id]?.mediatedDevices == held.map(\.uuid))
            #expect(host.state.mediatedDevices == Set(held.map(\.uuid)))
            let failure = await #expect(throws: Failure.self) { try await agent.build(second) }
            #expect(failure?.message == "vgpu: 1 requested, 0 free of 1" && failure?.isRetriable == true)
            let told = try await agent.client.call(DescribeClaims.self, .init(host: HostName("host1"), events: 0))
            #expect(told.holdings.map(\.remark) == ["nvidia-35 of 0000:84:00.0"])
            let pool = MediatedDevicePool(
                parentAddress: Self.address, type: "nvidia-35", numaNode: 0, total: 1, used: 1)
            _ = try await agent.conductor.until { $0.hosts.last?.mediatedDevicePools == [pool] }
            // What exists counts as it did when it did not.
            try await agent.core.reporter.measure()
            #expect(agent.core.tracker.snapshot.mediatedPools == [pool])
            let outcome = try await agent.conductor.outcome(of: agent.delete(first.id, generation: 2))
            #expect(outcome.failure == nil)
            #expect(host.state.mediatedDevices.isEmpty)
            try await agent.built(second)
        }
    }

    @Test("A restart of the agent keeps them, and a boot of the host has them made again, under the same uuid")
    func restart() async throws {
        let (host, folder, instance) = (host(), try Folder(), guest())
        try await Bench(host: host, folder: folder, settings: Self.settings).run { try await $0.built(instance) }
        let uuids = host.state.mediatedDevices
        #expect(uuids.count == 1)
        host.change { state in
            state.domains[instance.id]?.powerState = .shutdown
            state.loseMediatedDevices()
        }
        let other = guest()
        try await Bench(host: host, folder: folder, settings: Self.settings).run { agent in
            try await agent.settled()
            #expect(host.state.mediatedDevices.isEmpty)
            await #expect(throws: Failure.self) { try await agent.build(other) }
            let outcome = try await agent.conductor.outcome(of: agent.operate(.hardReboot, instance.id, generation: 2))
            #expect(outcome.failure == nil && outcome.powerState == .running)
            #expect(host.state.mediatedDevices == uuids)
            try await agent.core.journal.database.write { try $0.execute("DELETE FROM claims") }
            try await agent.core.audit()
            #expect(
                agent.core.tracker.snapshot.claims[instance.id]?.mediatedDevices.map { Set($0.map(\.uuid)) } == uuids)
        }
    }

    @Test("A suspended guest has its own again before it is resumed")
    func resumed() async throws {
        let (host, instance) = (host(), guest())
        try await Bench(host: host, settings: Self.settings).run { agent in
            try await agent.built(instance)
            let uuids = host.state.mediatedDevices
            _ = try await agent.conductor.outcome(of: agent.operate(.suspend, instance.id, generation: 2))
            host.change { $0.loseMediatedDevices() }
            let outcome = try await agent.conductor.outcome(of: agent.operate(.resume, instance.id, generation: 3))
            #expect(outcome.failure == nil)
            #expect(host.state.mediatedDevices == uuids)
        }
    }

    @Test("A build that fails leaves none; one that cannot be made fails the build, and is nobody's afterwards")
    func failed() async throws {
        for call in [DriverCall.powerOn, .define, .createMediatedDevices] {
            let (host, instance) = (host(), guest())
            let bench = try Bench(host: host, settings: Self.settings)
            try await bench.run { agent in
                agent.driver.fail(call, Failure(.hypervisor, "not today"), afterEffect: true)
                let outcome = try await agent.conductor.outcome(of: agent.build(instance))
                #expect(outcome.failure?.message == "not today")
                try await agent.settled()
                #expect(host.state.mediatedDevices.isEmpty, "\(call)")
                #expect(agent.core.tracker.snapshot.heldMediatedDevices.isEmpty)
            }
        }
    }

    @Test("One that cannot be removed keeps its claim, until the removal is tried again")
    func stuck() async throws {
        let (host, instance) = (host(), guest())
        try await Bench(host: host, settings: Self.settings).run { agent in
            try await agent.built(instance)
            agent.driver.fail(.removeMediatedDevices, Failure(.hypervisor, "it is in use"))
            let outcome = try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 2))
            #expect(outcome.failure?.message == "it is in use")
            #expect(agent.core.tracker.snapshot.heldMediatedDevices.count == 1)
            agent.driver.heal()
            let again = try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 3))
            #expect(again.failure == nil)
            #expect(host.state.mediatedDevices.isEmpty)
            #expect(agent.core.tracker.snapshot.heldMediatedDevices.isEmpty)
        }
    }

    @Test("A physical device that vanishes stays with its holder; where they cannot be listed nothing changes")
    func vanished() async throws {
        let (host, holder, other) = (host(2), guest(), guest())
        try await Bench(host: host, settings: Self.settings).run { agent in
            try await agent.built(holder)
            let parents = host.state.mediatedParents
            host.change { $0.mediatedParents = [] }
            try await agent.core.reporter.measure()
            #expect(agent.core.tracker.snapshot.claims[holder.id]?.mediatedDevices?.count == 1)
            #expect(agent.core.tracker.snapshot.mediatedPools?.map { [$0.total, $0.used] } == [[0, 1]])
            await #expect(throws: Failure.self) { try await agent.build(other) }
            host.change { $0.mediatedParents = parents }
            try await agent.core.reporter.measure()
            agent.driver.fail(.mediatedDeviceParents, Failure(.hypervisor, "libvirt does not list its devices"))
            await #expect(throws: Failure.self) { try await agent.core.reporter.measure() }
            #expect(agent.core.tracker.snapshot.mediatedPools?.map { [$0.total, $0.used] } == [[2, 1]])
            try await agent.built(other)
        }
    }

    @Test("Without an enabled type the host is not asked, and nobody has any")
    func none() async throws {
        let bench = try Bench(host: host())
        let instance = guest()
        try await bench.run { agent in
            let failure = await #expect(throws: Failure.self) { try await agent.build(instance) }
            #expect(failure?.message == "vgpu: 1 requested, 0 free of 0")
            #expect(agent.driver.count(.mediatedDeviceParents) == 0)
        }
    }

    @Test(
        "A configuration that contradicts itself stops the start",
        arguments: [
            ["devices.enabled_mdev_types": "a,a"], ["devices.enabled_mdev_types": "a b"],
            ["devices.enabled_mdev_types": "a", "devices.mdev_type_addresses": "b=0000:84:00.0"],
            ["devices.enabled_mdev_types": "a,b", "devices.mdev_type_addresses": "a=0000:84:00.0;b=0000:84:00.0"],
        ])
    func wrong(settings: [String: String]) throws {
        let bench = try Bench(settings: settings)
        #expect(throws: (any Error).self) { try DeviceSettings(try bench.configuration()) }
    }

    // MARK: - The ledger

    private func ledger(_ supplies: [MediatedDeviceSupply]) -> ResourceLedger {
        ResourceLedger(
            total: Resources(vcpus: 8, memoryMiB: 4_096, diskGiB: 100), reserved: .zero, ratios: AllocationRatios(),
            mediated: MediatedDeviceInventory(supplies))
    }

    private let size = Resources(vcpus: 1, memoryMiB: 1, diskGiB: 1)

    @Test("A move counts beside the residence, and takes its place when it is settled")
    func moves() throws {
        var ledger = ledger([.init(parentAddress: Self.address, type: "a", total: 2)])
        let instance = InstanceID("i")
        func add(_ id: String, _ instance: InstanceID, _ purpose: Claim.Purpose) throws -> Claim {
            try ledger.add(ClaimID(id), for: instance, size, vgpuNames: [id], purpose: purpose)
        }
        _ = try add("1", instance, .residence)
        let move = try add("2", instance, .move(MigrationID("m")))
        #expect(ledger.mediatedPools?.map(\.used) == [2])
        let short = ClaimError.Shortage(resource: "vgpu", requested: 1, free: 0, total: 2, limit: 2)
        #expect(throws: ClaimError.insufficient([short])) { try add("3", InstanceID("j"), .residence) }
        let isSettled = ledger.settle(move)
        #expect(isSettled)
        #expect(ledger.heldMediatedDevices.map(\.uuid) == ["2"])
        _ = try add("3", InstanceID("j"), .residence)
        ledger.remove(instance)
        #expect(ledger.heldMediatedDevices.map(\.uuid) == ["3"])
    }

    @Test("What is restored counts even where it no longer fits")
    func restored() throws {
        var ledger = ledger([.init(parentAddress: Self.address, type: "a", total: 1)])
        let devices = ["x", "y"].map { MediatedDevice(parentAddress: Self.address, type: "a", uuid: $0) }
        ledger.restore(
            Claim(id: ClaimID("1"), instance: InstanceID("i"), resources: size, mediatedDevices: devices))
        #expect(ledger.mediatedPools?.map { [$0.total, $0.used] } == [[1, 2]])
        #expect(throws: ClaimError.self) {
            try ledger.add(ClaimID("2"), for: InstanceID("j"), size, vgpuNames: ["z"])
        }
    }

    @Test("The journal gives back what was claimed, moves among them")
    func journal() async throws {
        let journal = try await Journal.open(.memory, now: { Timestamp(seconds: 1) })
        let device = MediatedDevice(parentAddress: Self.address, type: "a", uuid: "u")
        let claims = [
            Claim(id: ClaimID("1"), instance: InstanceID("i"), resources: size, mediatedDevices: [device]),
            Claim(
                id: ClaimID("2"), instance: InstanceID("j"), resources: size, mediatedDevices: [device],
                purpose: .move(MigrationID("m"))),
            Claim(id: ClaimID("3"), instance: InstanceID("k"), resources: size),
        ]
        try await journal.database.write { connection in
            for claim in claims { try connection.insert(claim, now: Timestamp(seconds: 1)) }
        }
        #expect(try await journal.claims() == claims)
        await journal.database.close()
    }
}
