internal import HostTopology
public import Model

/// Passes hosts on whose NUMA cells the guest's own cells, dedicated CPUs and pages have room.
public struct NUMATopologyFilter: HardwareFilter {
    public let name = "NUMATopologyFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool { !HardwareDemand.mayAsk(request) }

    func prepared(_ demand: HardwareDemand) -> any HostFilter { PreparedTopology(demand) }
}

struct PreparedTopology: HostFilter {
    let name = "NUMATopologyFilter"
    let demand: HardwareDemand

    init(_ demand: HardwareDemand) { self.demand = demand }

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        if let fault = demand.fault { return Rejection(reason: "asked for what cannot be read: \(fault)") }
        guard demand.topology != nil else { return nil }
        guard host.cells?.isEmpty == false else { return Rejection(reason: "without NUMA cells that they tell of") }
        do throws(TopologyShortage) {
            _ = try demand.place(on: host)
            return nil
        } catch {
            return Rejection(error)
        }
    }

    func consume(
        _ host: inout HostState, chosenAs before: borrowing HostState, for request: borrowing PlacementRequest
    ) {
        // A host that was forced may have no room: its own claim says so.
        guard let cells = host.cells, let placement = try? demand.place(on: before) else { return }
        let topology = HostTopology(cells)
        var usage = TopologyUsage(cells)
        usage.add(placement, on: topology)
        host.cells = cells.map { $0.with(usage[$0.id]) }
    }
}

extension Rejection {
    fileprivate init(_ shortage: TopologyShortage) {
        guard let item = shortage.items.first else {
            self.init(reason: "without room for the guest's NUMA cells")
            return
        }
        let (reason, unit): (String, String) =
            switch item.resource {
            case "cells": ("short of NUMA cells with room", item.requested - item.free == 1 ? "cell" : "cells")
            case "dedicated_cpus": ("short of dedicated CPUs in a NUMA cell", "CPUs")
            case "shared_cpus": ("short of shared CPUs in a NUMA cell", "CPUs")
            case "cell_memory_mib": ("short of memory in a NUMA cell", "MiB")
            case "thread_siblings": ("short of CPUs that the thread policy can have", "CPUs")
            case "huge_pages": ("without huge pages", "MiB")
            default: ("short of \(item.resource.replacing("_", with: " "))", "pages")
            }
        self.init(reason: reason, shortage: item.requested - item.free, unit: unit)
    }
}
