import Foundation
import GuestHardware
import HostTopology
import Model
import Testing
import XML

@testable import LibvirtDriver

/// Machines as libvirt describes them, cut to the parts that tell the processor and the cells. `Capabilities/README.md`
/// says of each where it comes from.
@Suite("A host's cells, read from libvirt's capabilities")
struct HostCellTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Capabilities"

    private func capabilities(_ name: String) throws -> HostCapabilities {
        HostCapabilities(try XMLNode(parsing: try contents(Self.folder + "/\(name).xml")))
    }

    private func place(
        _ specs: [String: String], vcpus: Int, memoryMiB: Int, on host: HostTopology,
        beside others: [TopologyPlacement] = []
    ) throws -> TopologyPlacement {
        let flavor = Flavor(
            id: FlavorID("1"), name: "m", vcpus: vcpus, memoryMiB: memoryMiB, rootGiB: 1, extraSpecs: specs)
        let request = try #require(try GuestHardware(flavor: flavor, imageProperties: [:]).topology)
        return try host.place(request, beside: TopologyUsage(others, on: host), ratios: AllocationRatios(cpu: 4))
    }

    @Test("Two sockets with two threads a core")
    func twoSockets() throws {
        let host = try capabilities("two-sockets")
        #expect(host.topology.cells == 2 && host.topology.cores == 24 && host.topology.threads == 2)
        #expect(host.cells.map(\.id) == [0, 1] && host.cells.map(\.memoryMiB) == [31_881, 32_209])
        #expect(host.cells.map(\.cpus.description) == ["0-23,48-71", "24-47,72-95"])
        #expect(host.cells.map(\.cores.count) == [24, 24])
        #expect(host.cells[1].cores.first == CPUSet([24, 72]) && host.cells[1].cores.last == CPUSet([47, 95]))
        #expect(host.cells[0].pages.map(\.sizeKiB) == [4, 2_048, 1_048_576])
        #expect(host.cells[0].pages.map(\.total) == [8_161_648, 0, 0])
    }

    @Test("Guests get whole cores of it, in the cell that has most memory, until there are none")
    func cores() throws {
        let host = HostTopology(
            cells: try capabilities("two-sockets").cells, shared: CPUSet(parsing: "0-1,24-25,48-49,72-73"),
            dedicated: CPUSet(parsing: "2-23,26-47,50-71,74-95"))
        let specs = ["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "require", "hw:numa_nodes": "2"]
        let both = try place(specs, vcpus: 4, memoryMiB: 1_024, on: host)
        #expect(both.cells.map(\.hostCell) == [1, 0])
        #expect(both.cells.map { $0.pins.map(\.cpu) } == [[26, 74], [2, 50]])

        let alone = ["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate"]
        var held = [both]
        // Each takes seven of the 21 cores that are left in a cell.
        for _ in 0..<6 { held.append(try place(alone, vcpus: 7, memoryMiB: 1_024, on: host, beside: held)) }
        let taken = held.flatMap { $0.dedicatedCPUs.sorted }
        #expect(taken.count == 88 && Set(taken) == host.dedicated.numbers)
        let error = #expect(throws: TopologyShortage.self) {
            try place(alone, vcpus: 1, memoryMiB: 1_024, on: host, beside: held)
        }
        #expect(error?.items == [.init(resource: "dedicated_cpus", requested: 1, free: 0, total: 44)])
    }

    @Test("Huge pages are those of the cell, by their size")
    func hugePages() throws {
        let cells = try capabilities("epyc").cells
        #expect(cells.map { $0.pages.map(\.total) } == [[2_048, 4_096, 6_144], [4_096, 6_144, 8_192]])
        #expect(cells.map(\.cpus.description) == ["0-15,32-47", "16-31,48-63"])
        #expect(cells.map(\.cores) == [0, 16].map { first in (first..<first + 16).map { CPUSet([$0, $0 + 32]) } })
        let host = HostTopology(cells: cells)
        let large = try place(["hw:mem_page_size": "large"], vcpus: 2, memoryMiB: 4_096, on: host)
        #expect(large.cells[0].hostCell == 1 && large.cells[0].pageSizeKiB == 1_048_576)
        let few = try place(["hw:mem_page_size": "2MB"], vcpus: 2, memoryMiB: 12_276, on: host)
        #expect(few.cells[0].hostCell == 1 && few.cells[0].pageSizeKiB == 2_048)
        let error = #expect(throws: TopologyShortage.self) {
            try place(["hw:mem_page_size": "2MB"], vcpus: 2, memoryMiB: 8_194, on: host, beside: [few])
        }
        #expect(error?.items == [.init(resource: "pages_2048_kib", requested: 4_097, free: 4_096, total: 4_096)])
    }

    @Test("Processors that are offline, cells of memory alone, and figures that no machine has")
    func odd() throws {
        let document = try XMLNode(
            parsing: """
                <capabilities><host><topology><cells num='3'>
                <cell id='0'><memory unit='KiB'>1048576</memory>
                <cpus num='2'><cpu id='0' siblings='0'/><cpu id='1'/></cpus></cell>
                <cell id='1'><memory unit='MiB'>512</memory><cpus num='0'/></cell>
                <cell id='2'><memory unit='GiB'>9223372036854775807</memory>
                <pages unit='b' size='512'>7</pages><pages unit='KiB' size='4'>-1</pages></cell>
                <cell><memory unit='KiB'>1</memory></cell>
                </cells></topology></host></capabilities>
                """)
        let cells = HostCapabilities(document).cells
        #expect(cells.map(\.id) == [0, 1, 2])
        #expect(cells[0].cpus == CPUSet([0]) && cells[0].cores == [CPUSet([0])] && cells[0].memoryMiB == 1_024)
        #expect(cells[1].cpus.isEmpty && cells[1].memoryMiB == 512)
        #expect(cells[2].pages.isEmpty && cells[2].memoryMiB > 0)
        let placed = try place(["hw:numa_nodes": "1"], vcpus: 1, memoryMiB: 64, on: HostTopology(cells: cells))
        #expect(placed.cells.map(\.hostCell) == [0], "the only one with processors")
    }
}
