import HostTopology
import Model
import Testing

@testable import Scheduling

/// A host with two cells of four shared and four dedicated processors.
private func host(_ change: (inout HostState) -> Void = { _ in }) -> HostState {
    var made = HostState(name: HostName("h"), total: Resources(vcpus: 16, memoryMiB: 8_192, diskGiB: 100))
    made.cells = [0, 8].map { first in
        HostCellReport(
            id: first / 8, memoryMiB: 4_096, memoryUsedMiB: 0, sharedCPUs: CPUSet(Set(first..<first + 4)),
            sharedVCPUs: 0, dedicatedCPUs: CPUSet(Set(first + 4..<first + 8)), takenCPUs: CPUSet(),
            cores: stride(from: first, to: first + 8, by: 2).map { CPUSet([$0, $0 + 1]) },
            pages: [.init(sizeKiB: 4, total: 1_048_576, reserved: 0, used: 0)])
    }
    made.pciPools = [0, 1].map { node in
        PCIPool(
            vendorID: "8086", productID: "10ed", kind: .plain, numaNode: node, total: 2, free: 2,
            aliases: ["nic": "legacy"])
    }
    change(&made)
    return made
}

private func asks(_ specs: [String: String], vcpus: Int = 2) -> PlacementRequest {
    var made = PlacementRequest(
        instances: [InstanceID("i")], resources: Resources(vcpus: vcpus, memoryMiB: 512, diskGiB: 1),
        projectID: ProjectID("p"), alternates: 0)
    made.flavor = Flavor(
        id: FlavorID("1"), name: "f", vcpus: vcpus, memoryMiB: 512, rootGiB: 1, extraSpecs: specs)
    return made
}

@Suite("A demand of cells and devices")
struct HardwareDemandTests {
    @Test("The two filters of a decision read the flavor once, and look for a guest's place on a host once")
    func shared() throws {
        let asked = asks(["hw:cpu_policy": "dedicated", "pci_passthrough:alias": "nic:1"])
        let plan = FilterPlan([NUMATopologyFilter(), PciPassthroughFilter()])
        let asking = plan.asking(asked)
        let cells = try #require(asking.first?.prepared as? PreparedTopology)
        let devices = try #require(asking.last?.prepared as? PreparedDevices)
        #expect(cells.demand === devices.demand)
        #expect(cells.demand.placedHosts == [])
        #expect(cells.reject(host(), for: asked) == nil)
        #expect(devices.demand.placedHosts == [HostName("h")])
        // Another decision may be about another request.
        let next = try #require(plan.asking(asked).first?.prepared as? PreparedTopology)
        #expect(next.demand !== cells.demand)
    }

    @Test("A host that has changed since is looked at again")
    func changed() throws {
        let asked = asks(["hw:cpu_policy": "dedicated"], vcpus: 4)
        let demand = RequestReading().hardware(of: asked)
        #expect(try demand.place(on: host())?.cells.map(\.hostCell) == [0])
        #expect(try demand.place(on: host())?.cells.map(\.hostCell) == [0])
        let busy = host { $0.cells?[0].takenCPUs = CPUSet([4]) }
        #expect(try demand.place(on: busy)?.cells.map(\.hostCell) == [1])
        let near = RequestReading().hardware(
            of: asks(["hw:cpu_policy": "dedicated", "pci_passthrough:alias": "nic:1"], vcpus: 4))
        #expect(try near.place(on: host())?.cells.map(\.hostCell) == [0])
        #expect(try near.place(on: host { $0.pciPools?[0].free = 0 })?.cells.map(\.hostCell) == [1])
        let full = host { state in
            state.cells = state.cells?.map { cell in
                var cell = cell
                cell.takenCPUs = cell.dedicatedCPUs
                return cell
            }
        }
        #expect(throws: (any Error).self) { try demand.place(on: full) }
        #expect(throws: (any Error).self) { try demand.place(on: full) }
    }
}
