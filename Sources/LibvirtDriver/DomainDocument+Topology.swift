internal import Compute
internal import HostTopology
internal import Model
internal import XML

/// Where the guest's processors and memory are on the host.
extension DomainDocument {
    /// What a guest without cells of its own may run on; `nil` for all of the host.
    var sharedCPUs: String? {
        guard guest.placement == nil, let shared = settings.sharedCPUs, !shared.isEmpty else { return nil }
        return shared.description
    }

    /// Each vCPU with a processor of its own has that, the others have what their cell shares.
    @XMLBuilder var pins: [XMLNode] {
        if let placement = guest.placement {
            for (vcpu, cpus) in Self.processors(of: placement) {
                XMLNode("vcpupin", ["vcpu": String(vcpu), "cpuset": cpus.description])
            }
            if let cpus = Self.emulatorCPUs(of: placement) {
                XMLNode("emulatorpin", ["cpuset": cpus.description])
            }
        }
    }

    private static func processors(of placement: TopologyPlacement) -> [(Int, CPUSet)] {
        placement.cells.flatMap { cell in
            let pinned = Dictionary(cell.pins.map { ($0.vcpu, CPUSet([$0.cpu])) }, uniquingKeysWith: { $1 })
            return cell.vcpus.sorted.map { ($0, pinned[$0] ?? cell.sharedCPUs) }
        }.filter { !$0.1.isEmpty }.sorted { $0.0 < $1.0 }
    }

    /// Without a policy the emulator runs where the guest's vCPUs do.
    private static func emulatorCPUs(of placement: TopologyPlacement) -> CPUSet? {
        if let own = placement.emulatorCPUs, !own.isEmpty { return own }
        let all = processors(of: placement).reduce(into: Set<Int>()) { $0.formUnion($1.1.numbers) }
        return all.isEmpty ? nil : CPUSet(all)
    }

    var memoryTuning: XMLNode? {
        guard let placement = guest.placement else { return nil }
        let nodes = CPUSet(Set(placement.cells.map(\.hostCell)))
        return XMLNode("numatune") {
            XMLNode("memory", ["mode": "strict", "nodeset": nodes.description])
            for (index, cell) in placement.cells.enumerated() {
                XMLNode(
                    "memnode", ["cellid": String(index), "mode": "strict", "nodeset": String(cell.hostCell)])
            }
        }
    }

    var memoryBacking: XMLNode? {
        guard let placement = guest.placement else { return nil }
        let huge = placement.cells.enumerated().filter { ($0.element.pageSizeKiB ?? 0) > 4 }
        guard !huge.isEmpty || placement.isMemoryLocked else { return nil }
        return XMLNode("memoryBacking") {
            if !huge.isEmpty {
                XMLNode("hugepages") {
                    for (size, cells) in Self.bySize(huge.map { ($0.offset, $0.element.pageSizeKiB ?? 0) }) {
                        XMLNode(
                            "page", ["size": String(size), "unit": "KiB", "nodeset": CPUSet(cells).description])
                    }
                }
            }
            if placement.isMemoryLocked {
                XMLNode("nosharepages")
                XMLNode("locked")
            }
        }
    }

    private static func bySize(_ cells: [(Int, Int)]) -> [(Int, Set<Int>)] {
        Dictionary(grouping: cells, by: \.1).mapValues { Set($0.map(\.0)) }.sorted { $0.key < $1.key }
            .map { ($0.key, $0.value) }
    }

    /// The guest's cells, within its `<cpu>`.
    var cells: XMLNode? {
        guard let placement = guest.placement else { return nil }
        return XMLNode("numa") {
            for (index, cell) in placement.cells.enumerated() {
                XMLNode(
                    "cell",
                    [
                        "id": String(index), "cpus": cell.vcpus.description,
                        "memory": String(cell.memoryMiB * 1_024), "unit": "KiB",
                        "memAccess": (cell.pageSizeKiB ?? 0) > 4 ? "shared" : nil,
                    ])
            }
        }
    }
}
