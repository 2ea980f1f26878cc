internal import GuestHardware
internal import Model

/// Chooses processors for a guest's cell by the threads of their cores.
struct CorePacking {
    struct Taken {
        /// One for each vCPU.
        var cpus: [Int]
        /// For the emulator.
        var spare: Set<Int>
        /// Threads beside those, which must stay silent.
        var silent: Set<Int>
    }

    /// All threads of each core that may be dedicated.
    private let cores: [Set<Int>]
    /// The cores' other threads, which are shared.
    private let isMixed: [Bool]
    private var free: Set<Int>

    init(cores: [CPUSet], dedicated: Set<Int>, free: Set<Int>) {
        let known = cores.map(\.numbers)
        let lone = dedicated.subtracting(known.reduce(into: []) { $0.formUnion($1) })
        let all = known + lone.sorted().map { [$0] }
        self.cores = all.map { $0.intersection(dedicated) }
        isMixed = all.map { !$0.isSubset(of: dedicated) && !$0.isDisjoint(with: dedicated) }
        self.free = free
    }

    /// How many vCPUs the policy could have.
    func usable(_ policy: TopologyRequest.ThreadPolicy) -> Int {
        switch policy {
        case .prefer: free.count
        case .isolate:
            cores.indices.count { !cores[$0].isEmpty && !isMixed[$0] && cores[$0].isSubset(of: free) }
        case .require: cores.map { $0.intersection(free).count }.filter { $0 >= 2 }.reduce(0, +)
        }
    }

    /// `nil` when the policy finds none.
    mutating func take(_ count: Int, spare: Int, policy: TopologyRequest.ThreadPolicy) -> Taken? {
        let groups = cores.map { $0.intersection(free) }
        var taken = Taken(cpus: [], spare: [], silent: [])
        switch policy {
        case .isolate:
            for (index, core) in cores.enumerated() where taken.cpus.count < count {
                guard !core.isEmpty, !isMixed[index], core.isSubset(of: free), let first = core.min() else { continue }
                taken.cpus.append(first)
                taken.silent.formUnion(core.subtracting([first]))
            }
        case .require:
            for group in Self.fullestFirst(groups) where group.count >= 2 {
                // Whole cores: a lone thread of one would have a stranger beside it.
                taken.cpus += group.sorted().prefix(count - taken.cpus.count)
            }
        case .prefer:
            for group in Self.fullestFirst(groups) {
                taken.cpus += group.sorted().prefix(count - taken.cpus.count)
            }
        }
        guard taken.cpus.count == count else { return nil }
        let left = free.subtracting(taken.cpus).subtracting(taken.silent).sorted()
        guard left.count >= spare else { return nil }
        taken.spare = Set(left.prefix(spare))
        free.subtract(taken.cpus)
        free.subtract(taken.silent)
        free.subtract(taken.spare)
        return taken
    }

    /// By the number of threads, the most first; among equals in the order of their numbers.
    private static func fullestFirst(_ groups: [Set<Int>]) -> [Set<Int>] {
        groups.filter { !$0.isEmpty }.sorted { left, right in
            left.count == right.count ? left.min() ?? 0 < right.min() ?? 0 : left.count > right.count
        }
    }
}
