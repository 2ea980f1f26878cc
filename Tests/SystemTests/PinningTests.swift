import Compute
import GuestHardware
import HostTopology
import Libvirt
import LibvirtDriver
import Model
import Testing

@Suite("Processors of one's own, on a real host", .serialized, .enabled(if: isHypervisorTier), .timeLimit(.minutes(5)))
struct PinningTests {
    private static func topology(_ specs: [String: String], vcpus: Int) throws -> TopologyRequest {
        let flavor = Flavor(
            id: FlavorID("1"), name: "m", vcpus: vcpus, memoryMiB: 96, rootGiB: 1, extraSpecs: specs)
        return try #require(try GuestHardware(flavor: flavor, imageProperties: [:]).topology)
    }

    @Test("A guest's vCPUs run where its claim put them, and libvirt says so")
    func pinned() async throws {
        let image = try await TestImage.build()
        try await LibvirtDriverSystemTests.withDriver { driver, host in
            let capacity = try await driver.capacity()
            try #require(!capacity.cells.isEmpty, "the hypervisor tells the host's cells")
            let online = HostTopology(cells: capacity.cells).online
            try #require(online.count >= 2)
            // The last two processors are dedicated, one to each vCPU.
            let own = CPUSet(Set(online.sorted.suffix(2)))
            let cells = HostTopology(cells: capacity.cells, dedicated: own)
            let placement = try cells.place(
                try Self.topology(["hw:cpu_policy": "dedicated"], vcpus: 2), beside: TopologyUsage(),
                ratios: AllocationRatios())
            #expect(placement.dedicatedCPUs == own)

            var instance = LibvirtDriverSystemTests.instance()
            instance.flavor.vcpus = 2
            instance.flavor.extraSpecs["hw:cpu_policy"] = "dedicated"
            let guest = try await LibvirtDriverSystemTests.build(driver, instance, image, placement: placement)
            let connection = try await LibvirtConnection.open(uri: host.uri)
            let pins = try await connection.vcpuPins(of: .uuid(instance.id.rawValue), count: 2, hostCPUs: 64)
            let told = placement.cells[0].pins.sorted { $0.vcpu < $1.vcpu }.map { Set([$0.cpu]) }
            #expect(pins.map { $0.intersection(online.numbers) } == told)
            #expect(Set(told).count == 2, "no processor is two vCPUs'")
            let document = try await connection.xml(of: .uuid(instance.id.rawValue))
            #expect(document.contains("<memnode cellid='0' mode='strict'"))
            #expect(await connection.close() == .closed)
            _ = try await LibvirtDriverSystemTests.console(driver, instance.id, until: "tick")
            try await LibvirtDriverSystemTests.remove(driver, guest)
        }
    }

    @Test("What guests can have here is told by the names of traits, and the processors are measured")
    func traits() async throws {
        try await LibvirtDriverSystemTests.withDriver { driver, _ in
            let capacity = try await driver.capacity()
            #expect(capacity.traits.contains("COMPUTE_STORAGE_BUS_VIRTIO"))
            #expect(capacity.traits.contains("COMPUTE_ARCH_X86_64"))
            #expect(capacity.traits.contains("HW_CPU_X86_SSE2"))
            #expect(capacity.traits == capacity.traits.sorted())
            // A machine may have none; what it has is told whole.
            for device in try await driver.hostDevices() {
                #expect(device.vendorID.utf8.count == 4 && device.productID.utf8.count == 4)
            }
            let metrics = try await driver.hostMetrics()
            let percent = try #require(metrics.first { $0.name == "cpu.percent" })
            #expect((0...1).contains(percent.value))
            #expect(try #require(metrics.first { $0.name == "cpu.idle.time" }).value > 0)
        }
    }
}
