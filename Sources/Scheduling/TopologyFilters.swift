internal import GuestHardware
internal import HostTopology
public import Model

/// Passes hosts on whose NUMA cells the guest's own cells, dedicated CPUs and pages have room.
public struct NUMATopologyFilter: PreparingFilter {
    public let name = "NUMATopologyFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool { !HardwareDemand.mayAsk(request) }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        PreparedTopology(HardwareDemand(request))
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        HardwareDemand.key(name, request)
    }
}

/// Passes hosts with enough free devices of each alias that the flavor names, near enough to the guest's cells. Which
/// device it is, and that a physical function and its virtual ones exclude each other, is decided by the host's claim.
public struct PciPassthroughFilter: PreparingFilter {
    public let name = "PciPassthroughFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.flavor?.extraSpecs["pci_passthrough:alias"] == nil
    }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        PreparedDevices(HardwareDemand(request))
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        HardwareDemand.key(name, request)
    }
}

/// What a request's flavor and image demand of cells and devices, read once for all hosts.
private struct HardwareDemand: Sendable {
    var topology: TopologyRequest?
    var devices: [PassthroughHardware.Request] = []
    /// In place of the aliases' own.
    var policy: String?
    /// What is wrong with the demand; no host has it then.
    var fault: String?

    init(_ request: borrowing PlacementRequest) {
        guard let flavor = request.flavor else { return }
        do throws(HardwareError) {
            let hardware = try GuestHardware(flavor: flavor, imageProperties: request.imageProperties ?? [:])
            (topology, devices) = (hardware.topology, hardware.passthrough.requests)
            policy = hardware.passthrough.policy?.rawValue
        } catch {
            fault = "\(error)"
        }
    }

    static func key(_ filter: String, _ request: borrowing PlacementRequest) -> VerdictKey {
        VerdictKey(
            filter, specs: request.flavor?.extraSpecs ?? [:], properties: request.imageProperties ?? [:],
            amounts: [request.flavor?.vcpus ?? 0, request.flavor?.memoryMiB ?? 0])
    }

    private static let names = ["numa_", "cpu_", "mem_page_size", "emulator_threads_policy", "locked_memory"]

    /// Whether there is anything that could be a demand of cells: most requests have none.
    static func mayAsk(_ request: borrowing PlacementRequest) -> Bool {
        guard let flavor = request.flavor else { return false }
        let specs = flavor.extraSpecs.keys.lazy.filter { $0.hasPrefix("hw:") }.map { $0.dropFirst(3) }
        if specs.contains(where: isOne) { return true }
        let properties = request.imageProperties?.keys.lazy.filter { $0.hasPrefix("hw_") }.map { $0.dropFirst(3) }
        return properties?.contains(where: isOne) ?? false
    }

    private static func isOne(_ name: Substring) -> Bool { names.contains { name.hasPrefix($0) } }

    /// Where the guest's cells come on `host`, preferring cells with its devices, as the host's own claim does.
    func place(on host: borrowing HostState) throws(TopologyShortage) -> TopologyPlacement? {
        guard let topology else { return nil }
        let cells = host.cells ?? []
        let pools = host.pciPools ?? []
        let favourites = Set(
            pools.filter { pool in pool.free > 0 && devices.contains { pool.serves($0.alias) } }
                .compactMap(\.numaNode))
        return try HostTopology(cells).place(
            topology, beside: TopologyUsage(cells), ratios: host.ratios, preferring: favourites)
    }
}

private struct PreparedTopology: HostFilter {
    let name = "NUMATopologyFilter"
    private let demand: HardwareDemand

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

private struct PreparedDevices: HostFilter {
    let name = "PciPassthroughFilter"
    private let demand: HardwareDemand

    init(_ demand: HardwareDemand) { self.demand = demand }

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        if let fault = demand.fault { return Rejection(reason: "asked for what cannot be read: \(fault)") }
        guard !demand.devices.isEmpty else { return nil }
        guard let pools = host.pciPools, !pools.isEmpty else {
            return Rejection(reason: "without devices for guests")
        }
        // An agent that does not tell its aliases decides by its claim alone.
        guard pools.contains(where: { $0.aliases != nil }) else { return nil }
        switch choose(pools, on: host) {
        case .success: return nil
        case .failure(let shortage): return shortage.rejection
        }
    }

    func consume(
        _ host: inout HostState, chosenAs before: borrowing HostState, for request: borrowing PlacementRequest
    ) {
        guard let pools = before.pciPools, case .success(let taken) = choose(pools, on: before) else { return }
        for pool in taken { host.pciPools?[pool].free -= 1 }
    }

    private struct Shortage: Error {
        var rejection: Rejection
    }

    /// The place of a pool for each device; each unit wanted gets its own one of the pool's, by augmenting paths.
    private func choose(_ pools: [PCIPool], on host: borrowing HostState) -> Result<[Int], Shortage> {
        let near = (try? demand.place(on: host)).flatMap { $0 }.map { Set($0.cells.map(\.hostCell)) }
        var units: [(alias: String, pools: [Int])] = []
        for wanted in demand.devices {
            let possible = pools.indices.filter { pools[$0].free > 0 && isNear(pools[$0], wanted.alias, near) }
            let free = possible.reduce(0) { $0 + min(pools[$1].free, 1 << 20) }
            guard free >= wanted.count else {
                guard pools.contains(where: { $0.serves(wanted.alias) }) else {
                    return .failure(Shortage(rejection: Rejection(reason: "without devices of \(wanted.alias)")))
                }
                return .failure(
                    Shortage(
                        rejection: Rejection(
                            reason: "short of devices of \(wanted.alias)", shortage: wanted.count - free,
                            unit: "devices")))
            }
            units += Array(repeating: (wanted.alias, possible), count: wanted.count)
        }
        var owners = [[Int]](repeating: [], count: pools.count)
        func augment(_ unit: Int, _ seen: inout Set<Int>) -> Bool {
            for pool in units[unit].pools where seen.insert(pool).inserted {
                if owners[pool].count < pools[pool].free {
                    owners[pool].append(unit)
                    return true
                }
                for place in owners[pool].indices where augment(owners[pool][place], &seen) {
                    owners[pool][place] = unit
                    return true
                }
            }
            return false
        }
        for unit in units.indices {
            var seen: Set<Int> = []
            guard augment(unit, &seen) else {
                return .failure(
                    Shortage(
                        rejection: Rejection(
                            reason: "short of devices of \(units[unit].alias)", shortage: 1, unit: "devices")))
            }
        }
        return .success(owners.indices.flatMap { pool in owners[pool].map { _ in pool } })
    }

    private func isNear(_ pool: PCIPool, _ alias: String, _ cells: Set<Int>?) -> Bool {
        guard let own = pool.aliases?[alias] else { return false }
        guard let cells else { return true }
        switch demand.policy ?? own {
        case "required": return pool.numaNode.map(cells.contains) ?? false
        case "legacy": return pool.numaNode.map(cells.contains) ?? true
        // Which cells share a socket the host knows; anywhere is near enough for the others.
        default: return true
        }
    }
}

extension PCIPool {
    fileprivate func serves(_ alias: String) -> Bool { aliases?[alias] != nil }
}
