public import Model

/// Devices of an alias, so many.
public struct PCIRequest: Sendable, Hashable {
    public var alias: String
    public var count: Int
    /// In place of the alias's.
    public var policy: PCIPolicy?

    public init(alias: String, count: Int, policy: PCIPolicy? = nil) {
        (self.alias, self.count, self.policy) = (alias, count, policy)
    }
}

/// Why a guest cannot have the devices that it asks for.
public enum PCIShortage: Error, Sendable, Hashable {
    /// No alias of that name is configured on the host.
    case unknownAlias(String)
    /// `free` of the `total` that there are could be had, with the policy.
    case short(alias: String, requested: Int, free: Int, total: Int)
}

/// The devices of a host that guests may have, and who has which. A value; it decides and does nothing.
public struct PCIInventory: Sendable, Hashable {
    /// Those that are there, in the order of their addresses.
    public private(set) var devices: [PCIDevice]
    public var aliases: [PCIAlias]

    public init(devices: [PCIDevice] = [], aliases: [PCIAlias] = []) {
        self.devices = devices.sorted { $0.address < $1.address }
        self.aliases = aliases
    }

    /// What is free beside what others hold: no device that is somebody's, no physical function of which a virtual one is,
    /// no virtual function whose physical one is.
    public func free(beside taken: [PCIDevice]) -> [PCIDevice] {
        let held = Set(taken.map(\.address))
        let parents = Set(
            taken.compactMap { device in
                device.parentAddress ?? devices.first { $0.address == device.address }?.parentAddress
            })
        return devices.filter { device in
            !held.contains(device.address) && !parents.contains(device.address)
                && !(device.parentAddress.map(held.contains) ?? false)
        }
    }

    /// Devices for all of `requests`, beside what others hold, in the order of the requests.
    ///
    /// - Parameters:
    ///   - cells: the host's cells that the guest is on; `nil` for a guest that is on no certain one, for which no policy
    ///     counts.
    ///   - sockets: the socket of each cell, for the policy of that name.
    public func choose(
        _ requests: [PCIRequest], near cells: Set<Int>?, sockets: [Int: Int] = [:], beside taken: [PCIDevice]
    ) throws(PCIShortage) -> [PCIDevice] {
        let free = free(beside: taken)
        var plans: [Plan] = []
        for request in requests {
            let wanted = aliases.filter { $0.name == request.alias }
            guard let first = wanted.first else { throw .unknownAlias(request.alias) }
            let sought = free.filter { device in wanted.contains { $0.matches(device) } }
            plans.append(
                Plan(
                    request: request,
                    candidates: Self.ordered(sought, request.policy ?? first.policy, cells, sockets)))
        }
        for plan in plans where plan.candidates.count < plan.request.count { throw short(plan, plan.candidates.count) }
        // Those with the least choice first: what they need nobody else takes then.
        let order = plans.indices.sorted {
            (plans[$0].slack, $0) < (plans[$1].slack, $1)
        }
        var search = Search(plans: order.map { plans[$0] })
        guard let found = search.run() else {
            // Each alone has enough: together, or with functions that exclude each other, they have not.
            let tightest = plans[order.first ?? 0]
            throw short(tightest, max(0, tightest.request.count - 1))
        }
        let places = Dictionary(uniqueKeysWithValues: zip(order, found))
        return plans.indices.flatMap { places[$0] ?? [] }
    }

    private func short(_ plan: Plan, _ free: Int) -> PCIShortage {
        let wanted = aliases.filter { $0.name == plan.request.alias }
        let total = devices.count { device in wanted.contains { $0.matches(device) } }
        return .short(alias: plan.request.alias, requested: plan.request.count, free: free, total: total)
    }

    private struct Plan {
        var request: PCIRequest
        /// Free, and near enough; the best first.
        var candidates: [PCIDevice]
        var slack: Int { candidates.count - request.count }
    }

    /// Tries the candidates in their order and goes back where the rest has nothing left: a physical function excludes
    /// its own virtual ones, and a device that several requests could have is one's.
    private struct Search {
        let plans: [Plan]
        /// A guest asks for few devices; a host of which a request could have very many ways gives up rather than hang.
        private var steps = 20_000
        private var chosen: [[PCIDevice]] = []
        private var held: Set<String> = []
        /// How many chosen virtual functions each physical one has.
        private var children: [String: Int] = [:]

        init(plans: [Plan]) { self.plans = plans }

        mutating func run() -> [[PCIDevice]]? {
            chosen = plans.map { _ in [] }
            return fill(0, from: 0) ? chosen : nil
        }

        private mutating func fill(_ plan: Int, from start: Int) -> Bool {
            guard plan < plans.count else { return true }
            guard chosen[plan].count < plans[plan].request.count else { return fill(plan + 1, from: 0) }
            let candidates = plans[plan].candidates
            var index = start
            while index < candidates.count, steps > 0 {
                steps -= 1
                let device = candidates[index]
                index += 1
                guard isFree(device) else { continue }
                take(device, 1)
                chosen[plan].append(device)
                if fill(plan, from: index) { return true }
                chosen[plan].removeLast()
                take(device, -1)
            }
            return false
        }

        private func isFree(_ device: PCIDevice) -> Bool {
            !held.contains(device.address) && children[device.address, default: 0] == 0
                && !(device.parentAddress.map(held.contains) ?? false)
        }

        private mutating func take(_ device: PCIDevice, _ change: Int) {
            if change > 0 { held.insert(device.address) } else { held.remove(device.address) }
            if let parent = device.parentAddress { children[parent, default: 0] += change }
        }
    }

    private static func ordered(
        _ free: [PCIDevice], _ policy: PCIPolicy, _ cells: Set<Int>?, _ sockets: [Int: Int]
    ) -> [PCIDevice] {
        guard let cells else { return free }
        let near = free.filter { $0.numaNode.map(cells.contains) ?? false }
        let unknown = free.filter { $0.numaNode == nil }
        let far = free.filter { $0.numaNode.map { !cells.contains($0) } ?? false }
        switch policy {
        case .required: return near
        case .legacy: return near + unknown
        case .preferred: return near + unknown + far
        case .socket:
            let own = Set(cells.compactMap { sockets[$0] })
            return near + far.filter { $0.numaNode.flatMap { sockets[$0] }.map(own.contains) ?? false }
        }
    }

    /// The cells with devices that the requests could have: a guest should be put on one of them.
    public func cells(with requests: [PCIRequest], beside taken: [PCIDevice]) -> Set<Int> {
        let names = Set(requests.map(\.alias))
        let wanted = aliases.filter { names.contains($0.name) }
        return Set(
            free(beside: taken).filter { device in wanted.contains { $0.matches(device) } }.compactMap(\.numaNode))
    }

    /// With more of them a report would be larger than any that is taken: their exclusion is left to the claims then.
    private static let mostFunctionsTold = 256

    /// The physical functions that guests may have, and of which they may have virtual ones.
    private var sharedFunctions: Set<String> {
        let parents = Set(devices.compactMap(\.parentAddress))
        let found = Set(devices.filter { $0.kind == .physicalFunction }.map(\.address)).intersection(parents)
        return found.count <= Self.mostFunctionsTold ? found : []
    }

    /// The devices by sort, as a host report shows them: those that exclude each other by their physical function, too.
    public func pools(beside taken: [PCIDevice]) -> [PCIPool] {
        let free = Set(free(beside: taken).map(\.address))
        let shared = sharedFunctions
        var pools: [PCIPool] = []
        for device in devices {
            let count = free.contains(device.address) ? 1 : 0
            let function = device.kind == .physicalFunction ? device.address : device.parentAddress
            let told = function.flatMap { shared.contains($0) ? $0 : nil }
            let index = pools.firstIndex {
                $0.vendorID == device.vendorID && $0.productID == device.productID && $0.kind == device.kind
                    && $0.numaNode == device.numaNode && $0.physicalFunction == told
            }
            if let index {
                pools[index].total += 1
                pools[index].free += count
            } else {
                pools.append(
                    PCIPool(
                        vendorID: device.vendorID, productID: device.productID, kind: device.kind,
                        numaNode: device.numaNode, total: 1, free: count,
                        aliases: Dictionary(
                            aliases.filter { $0.matches(device) }.map { ($0.name, $0.policy.rawValue) },
                            uniquingKeysWith: { first, _ in first }), physicalFunction: told))
            }
        }
        return pools
    }
}
