internal import GuestHardware
internal import HostTopology
public import Model

/// Passes hosts with enough free devices of each alias that the flavor names, near enough to the guest's cells. Which
/// device it is, and that a physical function and its virtual ones exclude each other, is decided by the host's claim.
public struct PciPassthroughFilter: PreparingFilter {
    public let name = "PciPassthroughFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.flavor?.extraSpecs["pci_passthrough:alias"] == nil
    }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        prepared(for: request, sharing: RequestReading())
    }

    public func prepared(
        for request: borrowing PlacementRequest, sharing reading: RequestReading
    ) -> any HostFilter {
        PreparedDevices(reading.hardware(of: request))
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        HardwareDemand.key(name, request)
    }
}

struct PreparedDevices: HostFilter {
    let name = "PciPassthroughFilter"
    let demand: HardwareDemand

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
    func serves(_ alias: String) -> Bool { aliases?[alias] != nil }
}
