import Model
import PCIDevices
import RPC
import SQL
import SQLite
import Testing

@testable import Compute

@Suite("Guests with devices of their own", .timeLimit(.minutes(2)))
struct DeviceTests {
    private static let settings = [
        "pci.device_spec": #"{"vendor_id": "10de"}"#, "pci.alias": #"{"name": "gpu", "product_id": "1eb8"}"#,
    ]

    private func bench(_ count: Int = 2) throws -> Bench {
        let host = FakeHost()
        host.change { state in
            state.devices = (0..<count).map {
                PCIDevice(address: "0000:4\($0):00.0", vendorID: "10de", productID: "1eb8", kind: .plain)
            }
            state.devices.append(
                PCIDevice(address: "0000:00:01.0", vendorID: "8086", productID: "1eb8", kind: .plain))
        }
        return try Bench(host: host, settings: Self.settings)
    }

    private func guest(_ alias: String = "gpu:1") -> Instance {
        var instance = Instance.test(memoryMiB: 64)
        instance.flavor.extraSpecs["pci_passthrough:alias"] = alias
        return instance
    }

    @Test("Each has its own, which the domain, the journal, the report and the record of the host show")
    func own() async throws {
        let bench = try bench()
        let (first, second, third) = (guest(), guest(), guest())
        try await bench.run { agent in
            for instance in [first, second] { try await agent.built(instance) }
            let failure = await #expect(throws: Failure.self) { try await agent.build(third) }
            #expect(failure?.message == "pci_gpu: 1 requested, 0 free of 2")
            let held = [first, second].map { agent.driver.host.state.domains[$0.id]?.devices ?? [] }
            #expect(held == [["0000:40:00.0"], ["0000:41:00.0"]])
            let told = try await agent.client.call(DescribeClaims.self, .init(host: HostName("host1"), events: 0))
            #expect(Set(told.holdings.compactMap(\.remark)) == ["0000:40:00.0", "0000:41:00.0"])
            let heard = try await agent.conductor.until { $0.hosts.last?.pciPools?.first?.free == 0 }
            #expect(heard.hosts.last?.pciPools?.map(\.total) == [2])
            _ = try await agent.conductor.outcome(of: agent.delete(first.id, generation: 2))
            try await agent.built(third)
        }
    }

    @Test("One that vanishes stays with its holder, and is nobody else's when it returns")
    func vanished() async throws {
        let bench = try bench(1)
        let (holder, other) = (guest(), guest())
        try await bench.run { agent in
            try await agent.built(holder)
            let devices = agent.driver.host.state.devices
            agent.driver.host.change { $0.devices = [] }
            try await agent.core.reporter.measure()
            #expect(agent.core.tracker.snapshot.claims[holder.id]?.devices?.map(\.address) == ["0000:40:00.0"])
            await #expect(throws: Failure.self) { try await agent.build(other) }
            agent.driver.host.change { $0.devices = devices }
            try await agent.core.reporter.measure()
            await #expect(throws: Failure.self) { try await agent.build(other) }
            try await agent.core.journal.database.write { try $0.execute("DELETE FROM claims") }
            try await agent.core.audit()
            #expect(agent.core.tracker.snapshot.claims[holder.id]?.devices?.count == 1)
        }
    }

    @Test("Devices that cannot be listed stay what they were, and hold up nothing of the report")
    func unlisted() async throws {
        let bench = try bench(1)
        try await bench.run { agent in
            _ = try await agent.conductor.until { $0.hosts.last?.pciPools?.first?.total == 1 }
            agent.driver.fail(.hostDevices, Failure(.hypervisor, "libvirt does not list its devices"))
            await #expect(throws: Failure.self) { try await agent.core.reporter.measure() }
            _ = try await agent.conductor.until { !$0.hostChanges.isEmpty }
            #expect(agent.core.tracker.snapshot.pci.devices.count == 1)
        }
    }

    @Test("An alias that the host does not know is named; without a configuration the host is not even asked")
    func unknown() async throws {
        let bench = try bench()
        let instance = guest("tpu:1")
        try await bench.run { agent in
            let failure = await #expect(throws: Failure.self) { try await agent.build(instance) }
            #expect(failure?.message.contains("PCI alias tpu is not configured") == true)
        }
        let plain = try Bench()
        try await plain.run { agent in #expect(agent.driver.count(.hostDevices) == 0) }
    }

    @Test("A configuration that cannot be read stops the start", arguments: ["pci.device_spec", "pci.alias"])
    func wrong(option: String) throws {
        let bench = try Bench(settings: [option: "{"])
        #expect(throws: (any Error).self) { try bench.configuration() }
    }
}
