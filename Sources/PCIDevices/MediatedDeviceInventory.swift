public import Model

/// What guests may have of one physical device.
public struct MediatedDeviceSupply: Sendable, Hashable {
    public var parentAddress: String
    /// The one type that it gives.
    public var type: String
    public var numaNode: Int?
    /// How many shares there can be: those that exist, and those that can be made.
    public var total: Int
    /// The uuids of those that exist.
    public var existing: [String]

    public init(parentAddress: String, type: String, numaNode: Int? = nil, total: Int, existing: [String] = []) {
        (self.parentAddress, self.type, self.numaNode) = (parentAddress, type, numaNode)
        (self.total, self.existing) = (total, existing)
    }
}

/// Why a guest cannot have the mediated devices that it asks for: `free` of the `total` that there are could be had.
public struct MediatedDeviceShortage: Error, Sendable, Hashable {
    public let requested: Int
    public let free: Int
    public let total: Int
}

/// The mediated devices that a host can give guests. A value; it decides and does nothing.
public struct MediatedDeviceInventory: Sendable, Hashable {
    /// By the physical devices, in the order of their addresses.
    public private(set) var supplies: [MediatedDeviceSupply]

    public init(_ supplies: [MediatedDeviceSupply] = []) {
        self.supplies = supplies.sorted { $0.parentAddress < $1.parentAddress }
    }

    /// As many devices as there are `names`, beside what others hold: each of the nearest physical device, and of those
    /// of the one with most left. One that exists and is nobody's keeps its uuid, since no further one may fit beside it;
    /// else the next of the names is the uuid.
    ///
    /// - Parameter cells: the host's cells that the guest is on; `nil` for a guest that is on no certain one.
    public func choose(
        _ names: [String], near cells: Set<Int>?, beside taken: [MediatedDevice]
    ) throws(MediatedDeviceShortage) -> [MediatedDevice] {
        var chosen: [MediatedDevice] = []
        for name in names {
            let (counts, uuids) = Self.held(taken + chosen)
            func left(_ supply: MediatedDeviceSupply) -> Int { supply.total - counts[supply.parentAddress, default: 0] }
            func rank(_ supply: MediatedDeviceSupply) -> (Int, Int) {
                (Self.nearness(of: supply.numaNode, to: cells), left(supply))
            }
            // The first of the best, so that the same question has the same answer.
            let best = supplies.filter { left($0) > 0 }.reduce(nil as MediatedDeviceSupply?) { best, next in
                best.map { rank($0) >= rank(next) } == true ? best : next
            }
            guard let best else {
                throw MediatedDeviceShortage(requested: names.count, free: free(beside: taken), total: total)
            }
            let idle = best.existing.first { !uuids.contains($0) }
            chosen.append(MediatedDevice(parentAddress: best.parentAddress, type: best.type, uuid: idle ?? name))
        }
        return chosen
    }

    /// How many there can be in all.
    public var total: Int { supplies.reduce(0) { $0 + $1.total } }

    /// How many more could be given.
    public func free(beside taken: [MediatedDevice]) -> Int {
        let (counts, _) = Self.held(taken)
        return supplies.reduce(0) { $0 + max(0, $1.total - counts[$1.parentAddress, default: 0]) }
    }

    /// The cells with physical devices that have some left: a guest should be put on one of them.
    public func cells(beside taken: [MediatedDevice]) -> Set<Int> {
        let (counts, _) = Self.held(taken)
        return Set(supplies.filter { $0.total > counts[$0.parentAddress, default: 0] }.compactMap(\.numaNode))
    }

    /// The physical devices as a host report shows them; also those that are gone, or give nothing any more, and of which
    /// somebody holds a share.
    public func pools(beside taken: [MediatedDevice]) -> [MediatedDevicePool] {
        let (counts, _) = Self.held(taken)
        let there = supplies.map { supply in
            MediatedDevicePool(
                parentAddress: supply.parentAddress, type: supply.type, numaNode: supply.numaNode, total: supply.total,
                used: counts[supply.parentAddress, default: 0])
        }
        let known = Set(supplies.map(\.parentAddress))
        let gone = Dictionary(grouping: taken.filter { !known.contains($0.parentAddress) }, by: \.parentAddress)
        let lost = gone.compactMap { address, devices in
            devices.map(\.type).min().map {
                MediatedDevicePool(parentAddress: address, type: $0, numaNode: nil, total: 0, used: devices.count)
            }
        }
        return there + lost.sorted { $0.parentAddress < $1.parentAddress }
    }

    /// What is held of each physical device, of whatever type: a share of another type takes its place all the same.
    private static func held(_ devices: [MediatedDevice]) -> (counts: [String: Int], uuids: Set<String>) {
        (
            devices.reduce(into: [:]) { counts, device in counts[device.parentAddress, default: 0] += 1 },
            Set(devices.map(\.uuid))
        )
    }

    private static func nearness(of node: Int?, to cells: Set<Int>?) -> Int {
        guard let cells, let node else { return 1 }
        return cells.contains(node) ? 2 : 0
    }
}
