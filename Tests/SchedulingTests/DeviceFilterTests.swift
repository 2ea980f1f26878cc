import HostTopology
import Model
import PCIDevices
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

@Suite("Devices that policies and other devices shut out")
struct DeviceFilterTests {
    private let filter = PciPassthroughFilter()

    /// A pool for each of the physical function and its virtual ones.
    private func functions(_ address: String, node: Int, virtual: Int = 2) -> [PCIPool] {
        [
            PCIPool(
                vendorID: "8086", productID: "1", kind: .physicalFunction, numaNode: node, total: 1, free: 1,
                aliases: ["pf": "legacy"], physicalFunction: address),
            PCIPool(
                vendorID: "8086", productID: "2", kind: .virtualFunction, numaNode: node, total: virtual, free: virtual,
                aliases: ["vf": "legacy"], physicalFunction: address),
        ]
    }

    @Test("The policy socket wants a device on a package that the guest is on, where the host tells its packages")
    func socket() {
        let asked = asks([
            "hw:cpu_policy": "dedicated", "hw:pci_numa_affinity_policy": "socket", "pci_passthrough:alias": "nic:1",
        ])
        func state(_ sockets: [Int?], node: Int?) -> HostState {
            host { state in
                for (cell, socket) in sockets.enumerated() { state.cells?[cell].socket = socket }
                // The guest comes onto cell 0.
                state.cells?[1].takenCPUs = CPUSet(Set(12..<16))
                state.pciPools?[0].free = 0
                state.pciPools?[1].numaNode = node
            }
        }
        #expect(filter.reject(state([0, 0], node: 1), for: asked) == nil)
        #expect(filter.reject(state([0, 1], node: 1), for: asked)?.reason == "short of devices of nic")
        #expect(filter.reject(state([0, 1], node: 0), for: asked) == nil)
        #expect(filter.reject(state([nil, nil], node: 1), for: asked) == nil)
        #expect(filter.reject(state([0, 0], node: nil), for: asked)?.reason == "short of devices of nic")
        let alias = asks(["hw:cpu_policy": "dedicated", "pci_passthrough:alias": "nic:1"])
        var own = state([0, 1], node: 1)
        own.pciPools?[1].aliases = ["nic": "socket"]
        #expect(filter.reject(own, for: alias)?.reason == "short of devices of nic")
    }

    @Test("A physical function and its virtual ones exclude each other, in one request and after another")
    func exclusion() {
        var state = host { $0.pciPools = functions("a", node: 0) }
        let (pf, vf) = (asks(["pci_passthrough:alias": "pf:1"]), asks(["pci_passthrough:alias": "vf:1"]))
        #expect(filter.reject(state, for: pf) == nil && filter.reject(state, for: vf) == nil)
        #expect(filter.reject(state, for: asks(["pci_passthrough:alias": "pf:1,vf:1"]))?.shortage == 1)
        let weigher = FigureWeigher.pci()
        #expect(weigher.weigh(state, for: vf) == 97)
        filter.consume(&state, chosenAs: state, for: vf)
        #expect(state.pciPools?.map(\.free) == [0, 1])
        #expect(weigher.weigh(state, for: vf) == 99)
        #expect(filter.reject(state, for: pf)?.reason == "short of devices of pf")
        #expect(filter.reject(state, for: vf) == nil)
        state = host { $0.pciPools = functions("a", node: 0) }
        filter.consume(&state, chosenAs: state, for: pf)
        #expect(state.pciPools?.map(\.free) == [0, 0])
        #expect(filter.reject(state, for: vf)?.reason == "short of devices of vf")
        // With a second one there is a way for both, and only one: the one physical function, the other's virtual ones.
        state = host { $0.pciPools = functions("a", node: 0, virtual: 1) + functions("b", node: 1, virtual: 3) }
        #expect(filter.reject(state, for: asks(["pci_passthrough:alias": "pf:1,vf:3"])) == nil)
        #expect(filter.reject(state, for: asks(["pci_passthrough:alias": "pf:1,vf:4"])) != nil)
        filter.consume(&state, chosenAs: state, for: asks(["pci_passthrough:alias": "pf:1,vf:3"]))
        #expect(state.pciPools?.map(\.free) == [0, 0, 0, 0])
        // From an agent that does not tell, the claim decides.
        state = host { state in
            state.pciPools = functions("a", node: 0).map { pool in
                var pool = pool
                pool.physicalFunction = nil
                return pool
            }
        }
        #expect(filter.reject(state, for: asks(["pci_passthrough:alias": "pf:1,vf:2"])) == nil)
    }

    @Test("What the pools let pass is what the host's own claim finds devices for", arguments: 1...40)
    func asTheHost(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let aliases = try PCIAlias.list(
            parsing: """
                [{"name": "vf", "product_id": "0002"}, {"name": "pf", "product_id": "0001", "device_type": "type-PF"},
                 {"name": "any", "vendor_id": "8086", "numa_policy": "preferred"}]
                """)
        var devices: [PCIDevice] = []
        for bus in 1...Int.random(in: 1...3, using: &generator) {
            let parent = "0000:0\(bus):00.0"
            let node = Int.random(in: 0...1, using: &generator)
            devices.append(
                PCIDevice(
                    address: parent, vendorID: "8086", productID: "0001", kind: .physicalFunction, numaNode: node))
            for number in 0..<Int.random(in: 0...3, using: &generator) {
                devices.append(
                    PCIDevice(
                        address: "0000:0\(bus):10.\(number)", vendorID: "8086", productID: "0002",
                        kind: .virtualFunction, parentAddress: parent, numaNode: node))
            }
        }
        let inventory = PCIInventory(devices: devices, aliases: aliases)
        var taken: [PCIDevice] = []
        for _ in 0..<12 {
            let counts = ["vf", "pf", "any"].map { ($0, Int.random(in: 0...3, using: &generator)) }.filter { $0.1 > 0 }
            guard !counts.isEmpty else { continue }
            let text = counts.map { "\($0):\($1)" }.joined(separator: ",")
            let state = host { $0.pciPools = inventory.pools(beside: taken) }
            let rejection = filter.reject(state, for: asks(["pci_passthrough:alias": text]))
            let found = try? inventory.choose(
                counts.map { PCIRequest(alias: $0, count: $1) }, near: nil, beside: taken)
            #expect((rejection == nil) == (found != nil), "seed \(seed): \(text) beside \(taken.map(\.address))")
            // Now and then a guest takes one device alone.
            if let one = found?.randomElement(using: &generator), Bool.random(using: &generator) { taken.append(one) }
        }
    }

    @Test(
        "What a replay takes of functions and gives back leaves them as they were, in whatever order", arguments: 1...20
    )
    func replayed(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var scheduler = try FilterScheduler(SchedulingOptions())
        // Of one function somebody has a virtual one from the start; another has none to give.
        scheduler.update(
            host { state in
                var busy = functions("c", node: 1, virtual: 3)
                (busy[0].free, busy[1].free) = (0, 2)
                state.total = Resources(vcpus: 99, memoryMiB: 99_999, diskGiB: 999)
                state.pciPools = functions("a", node: 0) + functions("b", node: 1, virtual: 3) + busy
                state.pciPools?.append(functions("d", node: 1)[0])
            })
        let start = try #require(scheduler.hosts[0].pciPools)
        var replay = Replay(scheduler)
        var placed: [InstanceID] = []
        for number in 0..<60 {
            if Bool.random(using: &generator), let index = placed.indices.randomElement(using: &generator) {
                replay.run(.delete(placed.remove(at: index)), using: &generator)
            } else {
                let alias = ["pf:1", "vf:1", "vf:2", "pf:1,vf:1"].randomElement(using: &generator) ?? ""
                var asked = asks(["pci_passthrough:alias": alias])
                asked.instances = [InstanceID("i\(number)")]
                if case .placed? = replay.run(.request(asked), using: &generator) { placed += asked.instances }
            }
            let pools = try #require(replay.scheduler.hosts[0].pciPools)
            #expect(pools.allSatisfy { (0...$0.total).contains($0.free) })
            for place in [0, 2, 4] where pools[place].free > 0 {
                #expect(pools[place + 1].free == pools[place + 1].total)
            }
        }
        #expect(replay.placedInstances > 5)
        for id in placed.shuffled(using: &generator) { replay.run(.delete(id), using: &generator) }
        #expect(replay.scheduler.hosts[0].pciPools == start)
    }
}
