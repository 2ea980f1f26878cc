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

    /// Devices for all of `requests`, beside what others hold.
    ///
    /// - Parameter cells: the host's cells that the guest is on; `nil` for a guest that is on no certain one, for which
    ///   no policy counts.
    public func choose(
        _ requests: [PCIRequest], near cells: Set<Int>?, beside taken: [PCIDevice]
    ) throws(PCIShortage) -> [PCIDevice] {
        var chosen: [PCIDevice] = []
        for request in requests {
            let wanted = aliases.filter { $0.name == request.alias }
            guard let first = wanted.first else { throw .unknownAlias(request.alias) }
            let all = devices.filter { device in wanted.contains { $0.matches(device) } }
            let free = free(beside: taken + chosen).filter { device in wanted.contains { $0.matches(device) } }
            let near = Self.ordered(free, request.policy ?? first.policy, cells)
            guard let own = independent(near, request.count, beside: taken + chosen) else {
                throw .short(alias: request.alias, requested: request.count, free: near.count, total: all.count)
            }
            chosen += own
        }
        return chosen
    }

    /// The first so many that can be had together: a physical function excludes its own virtual ones.
    private func independent(_ candidates: [PCIDevice], _ count: Int, beside taken: [PCIDevice]) -> [PCIDevice]? {
        var own: [PCIDevice] = []
        for device in candidates where own.count < count {
            let excluded = own.contains { $0.address == device.parentAddress || $0.parentAddress == device.address }
            if !excluded { own.append(device) }
        }
        return own.count == count ? own : nil
    }

    private static func ordered(_ free: [PCIDevice], _ policy: PCIPolicy, _ cells: Set<Int>?) -> [PCIDevice] {
        guard let cells else { return free }
        let near = free.filter { $0.numaNode.map(cells.contains) ?? false }
        let unknown = free.filter { $0.numaNode == nil }
        switch policy {
        case .required: return near
        case .legacy: return near + unknown
        case .preferred: return near + unknown + free.filter { $0.numaNode.map { !cells.contains($0) } ?? false }
        }
    }

    /// The cells with devices that the requests could have: a guest should be put on one of them.
    public func cells(with requests: [PCIRequest], beside taken: [PCIDevice]) -> Set<Int> {
        let names = Set(requests.map(\.alias))
        let wanted = aliases.filter { names.contains($0.name) }
        return Set(
            free(beside: taken).filter { device in wanted.contains { $0.matches(device) } }.compactMap(\.numaNode))
    }

    /// The devices by sort, as a host report shows them.
    public func pools(beside taken: [PCIDevice]) -> [PCIPool] {
        let free = Set(free(beside: taken).map(\.address))
        var pools: [PCIPool] = []
        for device in devices {
            let count = free.contains(device.address) ? 1 : 0
            let index = pools.firstIndex {
                $0.vendorID == device.vendorID && $0.productID == device.productID && $0.kind == device.kind
                    && $0.numaNode == device.numaNode
            }
            if let index {
                pools[index].total += 1
                pools[index].free += count
            } else {
                pools.append(
                    PCIPool(
                        vendorID: device.vendorID, productID: device.productID, kind: device.kind,
                        numaNode: device.numaNode, total: 1, free: count))
            }
        }
        return pools
    }
}
