internal import Model

/// Why a host's pools have not all the devices that are wanted.
struct DeviceShortage: Error {
    var rejection: Rejection

    init(_ alias: String, by shortage: Int?) {
        rejection =
            shortage.map { Rejection(reason: "short of devices of \(alias)", shortage: $0, unit: "devices") }
            ?? Rejection(reason: "without devices of \(alias)")
    }
}

/// Finds pools for devices: each unit that is wanted has one device of its own, and no physical function is taken beside
/// one of its virtual ones.
struct DeviceChoice {
    private let pools: [PCIPool]
    private let free: [Int]
    /// The guest's cells; `nil` for a guest that is on no certain one, for which no policy counts.
    private let cells: Set<Int>?
    /// The socket of each cell, and those of the guest's.
    private let sockets: [Int: Int]
    private let ownSockets: Set<Int>
    private let policy: String?
    /// Each try settles which of two sorts that exclude each other is shut. The host's own search has a bound, too, and
    /// refuses beyond it.
    private var tries = 256

    /// - Parameter policy: in place of the aliases' own.
    init(_ pools: [PCIPool], near cells: Set<Int>?, sockets reported: [HostCellReport], policy: String?) {
        (self.pools, self.cells, self.policy) = (pools, cells, policy)
        free = pools.map { min(max($0.free, 0), 1 << 20) }
        sockets = Dictionary(
            reported.compactMap { cell in cell.socket.map { (cell.id, $0) } }, uniquingKeysWith: { first, _ in first })
        let sockets = sockets
        ownSockets = Set((cells ?? []).compactMap { sockets[$0] })
    }

    private struct Unit {
        var alias: String
        /// The places of the pools that it could have a device of.
        var pools: [Int]
    }

    /// The place of a pool for each device.
    mutating func run(_ wanted: [(alias: String, count: Int)]) throws(DeviceShortage) -> [Int] {
        var units: [Unit] = []
        for (alias, count) in wanted {
            let possible = pools.indices.filter { free[$0] > 0 && isNear(pools[$0], alias) }
            let there = possible.reduce(0) { $0 + free[$1] }
            guard there >= count else {
                throw DeviceShortage(alias, by: pools.contains { $0.serves(alias) } ? count - there : nil)
            }
            units += Array(repeating: Unit(alias: alias, pools: possible), count: count)
        }
        return try settle(units, without: [])
    }

    /// What fits without the pools that are shut. Where it takes a physical function beside a virtual one of it, one of
    /// the two must be left.
    private mutating func settle(_ units: [Unit], without shut: Set<Int>) throws(DeviceShortage) -> [Int] {
        let found = try match(units, without: shut)
        guard let (physical, virtual) = clash(found) else { return found }
        tries -= 1
        guard tries > 0 else { throw DeviceShortage(units.first { $0.pools.contains(physical) }?.alias ?? "", by: 1) }
        do throws(DeviceShortage) {
            return try settle(units, without: shut.union([physical]))
        } catch {
            return try settle(units, without: shut.union(virtual))
        }
    }

    /// A pool whose physical function is taken, and those of the virtual ones beside it.
    private func clash(_ taken: [Int]) -> (physical: Int, virtual: [Int])? {
        let virtual = taken.filter { pools[$0].kind == .virtualFunction && pools[$0].physicalFunction != nil }
        guard !virtual.isEmpty else { return nil }
        for place in taken where pools[place].kind == .physicalFunction {
            guard let function = pools[place].physicalFunction,
                virtual.contains(where: { pools[$0].physicalFunction == function })
            else { continue }
            return (
                place,
                pools.indices.filter { pools[$0].kind == .virtualFunction && pools[$0].physicalFunction == function }
            )
        }
        return nil
    }

    /// Each unit gets its own one of a pool's devices, by augmenting paths.
    private func match(_ units: [Unit], without shut: Set<Int>) throws(DeviceShortage) -> [Int] {
        var owners = [[Int]](repeating: [], count: pools.count)
        func augment(_ unit: Int, _ seen: inout Set<Int>) -> Bool {
            for pool in units[unit].pools where !shut.contains(pool) && seen.insert(pool).inserted {
                if owners[pool].count < free[pool] {
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
            guard augment(unit, &seen) else { throw DeviceShortage(units[unit].alias, by: 1) }
        }
        return owners.indices.flatMap { pool in owners[pool].map { _ in pool } }
    }

    private func isNear(_ pool: PCIPool, _ alias: String) -> Bool {
        guard let own = pool.aliases?[alias] else { return false }
        guard let cells else { return true }
        let isOnOwn = pool.numaNode.map(cells.contains)
        switch policy ?? own {
        case "required": return isOnOwn ?? false
        case "legacy": return isOnOwn ?? true
        case "socket":
            guard let node = pool.numaNode, isOnOwn == false else { return isOnOwn ?? false }
            // An agent that does not tell its sockets decides by its claim alone.
            return sockets.isEmpty || (sockets[node].map(ownSockets.contains) ?? false)
        default: return true
        }
    }
}

extension PCIPool {
    func serves(_ alias: String) -> Bool { aliases?[alias] != nil }
}

extension [PCIPool] {
    /// Takes a device of each of the pools at `places`, and what that shuts out: as the host's next report will say it.
    mutating func take(_ places: [Int]) {
        for place in places { self[place].free -= 1 }
        for place in places {
            guard let function = self[place].physicalFunction else { continue }
            let shut: PCIDevice.Kind
            switch self[place].kind {
            case .plain: continue
            case .physicalFunction: shut = .virtualFunction
            case .virtualFunction: shut = .physicalFunction
            }
            for other in indices where self[other].kind == shut && self[other].physicalFunction == function {
                self[other].free = 0
            }
        }
    }

    /// Gives back what somebody has taken between `before` and `after`.
    ///
    /// - Parameter start: the pools before anybody took anything of them: a physical function is free again once all of its
    ///   virtual ones are that were so then.
    mutating func giveBack(from before: [PCIPool], to after: [PCIPool], start: [PCIPool]) {
        guard [before.count, after.count, start.count].allSatisfy({ $0 == count }) else { return }
        func isShared(_ place: Int) -> Bool {
            self[place].kind == .physicalFunction && self[place].physicalFunction != nil
        }
        for place in indices where !isShared(place) { self[place].free += before[place].free - after[place].free }
        for place in indices where isShared(place) {
            let virtual = indices.filter {
                self[$0].kind == .virtualFunction && self[$0].physicalFunction == self[place].physicalFunction
            }
            let isWhole = virtual.allSatisfy { self[$0].free == start[$0].free }
            // Of a function without virtual ones to take there is nothing but itself.
            let own = self[place].free + before[place].free - after[place].free
            self[place].free = virtual.isEmpty ? own : isWhole ? start[place].free : 0
        }
    }
}
