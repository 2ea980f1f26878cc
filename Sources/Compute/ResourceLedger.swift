public import GuestHardware
public import HostTopology
public import Model
public import PCIDevices

/// What one instance has been promised.
public struct Claim: Sendable, Hashable, Codable {
    /// What the place is for.
    public enum Purpose: Sendable, Hashable, Codable {
        /// The instance lives here.
        case residence
        /// It is to live here when the migration, resize or evacuation is done; until then its residence, on this host or
        /// another, stays promised, too.
        case move(MigrationID)

        public var migration: MigrationID? {
            switch self {
            case .residence: nil
            case .move(let migration): migration
            }
        }
    }

    public let id: ClaimID
    public let instance: InstanceID
    /// Of the flavor and of QEMU itself.
    public let resources: Resources
    public fileprivate(set) var purpose: Purpose
    /// Where it is on the host's cells; `nil` for a guest that takes processors and memory as they come.
    public let placement: TopologyPlacement?
    /// The host's devices that are its own; `nil` for none.
    public let devices: [PCIDevice]?
    /// Its shares of the host's devices; `nil` for none.
    public let mediatedDevices: [MediatedDevice]?

    public init(
        id: ClaimID, instance: InstanceID, resources: Resources, placement: TopologyPlacement? = nil,
        devices: [PCIDevice]? = nil, mediatedDevices: [MediatedDevice]? = nil, purpose: Purpose = .residence
    ) {
        (self.id, self.instance, self.resources, self.purpose) = (id, instance, resources, purpose)
        (self.placement, self.devices, self.mediatedDevices) = (placement, devices, mediatedDevices)
    }

    public var isMove: Bool { purpose != .residence }
}

/// Why a claim is refused.
public enum ClaimError: Error, Sendable, Hashable {
    public struct Shortage: Sendable, Hashable {
        /// `vcpus`, `memory_mib`, `disk_gib`, `vgpu`, `pci_` and an alias, or a name of `TopologyShortage`.
        public let resource: String
        public let requested: Int
        public let free: Int
        /// What the host has in all.
        public let total: Int
        /// How much may be promised in all.
        public let limit: Int

        public init(resource: String, requested: Int, free: Int, total: Int, limit: Int) {
            (self.resource, self.requested, self.free) = (resource, requested, free)
            (self.total, self.limit) = (total, limit)
        }
    }
    /// Every resource that is short.
    case insufficient([Shortage])
    /// The instance holds a claim here already.
    case exists(ClaimID)
    /// No alias of that name is configured on this host.
    case unknownAlias(String)
    /// A negative or absurd amount.
    case invalid(Resources)

    /// The refusal as it crosses process borders.
    public var failure: Failure {
        switch self {
        case .insufficient(let shortages):
            let parts = shortages.map { short in
                "\(short.resource): \(short.requested) requested, \(short.free) free of \(short.total)"
                    + (short.limit == short.total ? "" : " (limit \(short.limit))")
            }
            return Failure(.insufficientResources, parts.joined(separator: "; "), isRetriable: true)
        case .unknownAlias(let name):
            return Failure(
                .insufficientResources, "the PCI alias \(name) is not configured on this host", isRetriable: true)
        case .exists: return Failure(.conflict, "the instance holds a claim on this host already")
        case .invalid: return Failure(.invalidParameters, "the requested resources are not in a possible range")
        }
    }
}

/// The arithmetic of promises: what a host has, keeps, and has promised. A value; it decides and does nothing.
public struct ResourceLedger: Sendable, Hashable {
    /// What the host has in all.
    public var total: Resources
    /// What is the host's own.
    public var reserved: Resources
    public var ratios: AllocationRatios
    /// The host's cells; `nil` where they are not known.
    public var topology: HostTopology?
    /// The devices that guests may have.
    public var pci = PCIInventory()
    /// The devices that guests may have shares of.
    public var mediated = MediatedDeviceInventory()
    /// MiB that each guest needs on this host beside its flavor's memory.
    public var guestOverheadMiB = 0
    /// What guests of ours take that are on and in no record: nobody has promised it, and nobody else can have it.
    public var orphans = Resources.zero
    /// Of the instances that live here.
    public private(set) var claims: [InstanceID: Claim] = [:]
    /// Of the instances that are on their way here, or to another size here.
    public private(set) var moves: [InstanceID: Claim] = [:]
    /// The sum of all claims and moves.
    public private(set) var promised = Resources.zero

    public init(
        total: Resources, reserved: Resources, ratios: AllocationRatios, topology: HostTopology? = nil,
        pci: PCIInventory = PCIInventory(), mediated: MediatedDeviceInventory = MediatedDeviceInventory(),
        guestOverheadMiB: Int = 0, claims: [Claim] = []
    ) {
        (self.total, self.reserved, self.ratios, self.topology) = (total, reserved, ratios, topology)
        (self.pci, self.mediated, self.guestOverheadMiB) = (pci, mediated, guestOverheadMiB)
        for claim in claims { restore(claim) }
    }

    /// The claims, what orphans take, and what is reserved, as a host report shows it.
    public var used: Resources { promised + orphans + reserved }

    /// How much of each resource may be promised in all: (total - reserved) × ratio, cut to whole units.
    public var limit: Resources {
        Resources(
            vcpus: scaled(total.vcpus - reserved.vcpus, ratios.cpu),
            memoryMiB: scaled(total.memoryMiB - reserved.memoryMiB, ratios.memory),
            diskGiB: scaled(total.diskGiB - reserved.diskGiB, ratios.disk))
    }

    /// What a guest of this size takes of the host.
    public func charge(for size: Resources) -> Resources {
        size + Resources(vcpus: 0, memoryMiB: guestOverheadMiB, diskGiB: 0)
    }

    /// Promises what is asked for and what QEMU itself needs, with its place on the host's cells where `request` wants
    /// one, or says which resources are short.
    ///
    /// A move is tested beside the instance's residence where that is on the same host: both are there until the move is
    /// settled or dropped.
    ///
    /// - Parameter vgpuNames: a fresh uuid for each mediated device that is wanted.
    @discardableResult
    public mutating func add(
        _ id: ClaimID, for instance: InstanceID, _ size: Resources, _ request: TopologyRequest? = nil,
        devices wanted: [PCIRequest] = [], vgpuNames: [String] = [], purpose: Claim.Purpose = .residence
    ) throws(ClaimError) -> Claim {
        let possible = 0...(1 << 40)
        guard possible.contains(size.vcpus), possible.contains(size.memoryMiB), possible.contains(size.diskGiB)
        else {
            throw .invalid(size)
        }
        let asked = charge(for: size)
        if let known = purpose == .residence ? claims[instance] : moves[instance] { throw .exists(known.id) }
        let (free, limit) = (limit - promised - orphans, limit)
        var shortages = [
            ("vcpus", \Resources.vcpus), ("memory_mib", \.memoryMiB), ("disk_gib", \.diskGiB),
        ].filter { asked[keyPath: $0.1] > 0 && asked[keyPath: $0.1] > free[keyPath: $0.1] }.map { name, part in
            ClaimError.Shortage(
                resource: name, requested: asked[keyPath: part], free: max(0, free[keyPath: part]),
                total: total[keyPath: part], limit: limit[keyPath: part])
        }
        var placement: TopologyPlacement?
        if let request {
            do throws(TopologyShortage) {
                placement = try (topology ?? HostTopology(cells: [])).place(
                    request, beside: topologyUsage, ratios: ratios,
                    preferring: pci.cells(with: wanted, beside: heldDevices).union(
                        vgpuNames.isEmpty ? [] : mediated.cells(beside: heldMediatedDevices)))
            } catch {
                shortages += error.items.map {
                    .init(
                        resource: $0.resource, requested: $0.requested, free: $0.free, total: $0.total,
                        limit: $0.total)
                }
            }
        }
        let near = placement.map { Set($0.cells.map(\.hostCell)) }
        var devices: [PCIDevice]?
        if !wanted.isEmpty {
            do throws(PCIShortage) {
                devices = try pci.choose(
                    wanted, near: near, sockets: topology?.sockets ?? [:], beside: heldDevices)
            } catch {
                switch error {
                case .unknownAlias(let name): throw .unknownAlias(name)
                case .short(let alias, let requested, let free, let total):
                    shortages.append(
                        .init(
                            resource: "pci_\(alias)", requested: requested, free: free, total: total, limit: total))
                }
            }
        }
        var shares: [MediatedDevice]?
        if !vgpuNames.isEmpty {
            do throws(MediatedDeviceShortage) {
                shares = try mediated.choose(vgpuNames, near: near, beside: heldMediatedDevices)
            } catch {
                shortages.append(
                    .init(
                        resource: "vgpu", requested: error.requested, free: error.free, total: error.total,
                        limit: error.total))
            }
        }
        guard shortages.isEmpty else { throw .insufficient(shortages) }
        let claim = Claim(
            id: id, instance: instance, resources: asked, placement: placement, devices: devices,
            mediatedDevices: shares, purpose: purpose)
        restore(claim)
        return claim
    }

    /// What the claims hold of the host's cells.
    public var topologyUsage: TopologyUsage {
        guard let topology else { return TopologyUsage() }
        return TopologyUsage(all.compactMap(\.placement), on: topology)
    }

    /// What is promised and the host does not have, for a person; empty where every promise can be kept.
    public var broken: [String] {
        let limit = limit
        var found = [
            ("vcpus", \Resources.vcpus), ("memory_mib", \.memoryMiB), ("disk_gib", \.diskGiB),
        ].filter { promised[keyPath: $0.1] > limit[keyPath: $0.1] }.map { name, part in
            "\(name): \(promised[keyPath: part]) promised of \(limit[keyPath: part])"
        }
        let there = Dictionary((topology?.cells ?? []).map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        let dedicated = topology?.dedicated.numbers ?? []
        let held = Dictionary(grouping: all.compactMap(\.placement).flatMap(\.cells), by: \.hostCell)
        for (id, parts) in held.sorted(by: { $0.key < $1.key }) {
            guard let cell = there[id] else {
                found.append("cell \(id): gone")
                continue
            }
            let cpus = parts.reduce(into: Set<Int>()) { $0.formUnion($1.taken) }
            let gone = CPUSet(cpus.subtracting(dedicated.intersection(cell.cpus.numbers)))
            if !gone.isEmpty { found.append("cell \(id): no CPUs \(gone)") }
            let pages = Dictionary(grouping: parts.filter { $0.pageSizeKiB != nil }, by: { $0.pageSizeKiB ?? 0 })
            for (size, parts) in pages.sorted(by: { $0.key < $1.key }) where size > 0 {
                let taken = parts.reduce(0) { $0 + $1.memoryMiB * 1_024 / size }
                let total = cell.pages.first { $0.sizeKiB == size }.map { $0.total - $0.reserved } ?? 0
                if taken > total { found.append("cell \(id): \(taken) pages of \(size) KiB promised of \(total)") }
            }
        }
        return found
    }

    /// Every device that is somebody's, also one that has vanished since.
    public var heldDevices: [PCIDevice] { all.flatMap { $0.devices ?? [] } }

    /// Every mediated device that is somebody's, also one whose physical device has vanished since.
    public var heldMediatedDevices: [MediatedDevice] { all.flatMap { $0.mediatedDevices ?? [] } }

    /// Every claim, of residences and of moves.
    public var all: [Claim] { Array(claims.values) + moves.values }

    /// The devices by sort; `nil` where none is configured for guests.
    public var pools: [PCIPool]? { pci.devices.isEmpty ? nil : pci.pools(beside: heldDevices) }

    /// The physical devices that guests have shares of, or may have; `nil` for none.
    public var mediatedPools: [MediatedDevicePool]? {
        let pools = mediated.pools(beside: heldMediatedDevices)
        return pools.isEmpty ? nil : pools
    }

    /// The cells as a host report shows them.
    public var cells: [HostCellReport]? {
        guard let topology else { return nil }
        let usage = topologyUsage
        return topology.cells.map { cell in
            let taken = usage[cell.id]
            let dedicated = topology.dedicated.numbers.intersection(cell.cpus.numbers)
            return HostCellReport(
                id: cell.id, memoryMiB: cell.memoryMiB, memoryUsedMiB: taken.memoryMiB,
                sharedCPUs: CPUSet(topology.shared.numbers.intersection(cell.cpus.numbers)),
                sharedVCPUs: taken.sharedVCPUs, dedicatedCPUs: CPUSet(dedicated), takenCPUs: CPUSet(taken.dedicated),
                cores: cell.cores,
                pages: cell.pages.map {
                    .init(
                        sizeKiB: $0.sizeKiB, total: $0.total, reserved: $0.reserved,
                        used: taken.pages[$0.sizeKiB, default: 0])
                }, socket: cell.socket)
        }
    }

    /// Takes up a claim that was granted earlier, whether or not it fits today.
    public mutating func restore(_ claim: Claim) {
        if claim.isMove {
            removeMove(of: claim.instance)
            moves[claim.instance] = claim
        } else {
            remove(claim.instance)
            claims[claim.instance] = claim
        }
        promised = promised + claim.resources
    }

    /// Gives back the place where the instance lives; nothing when it lives elsewhere.
    @discardableResult
    public mutating func remove(_ instance: InstanceID) -> Claim? { give(back: claims.removeValue(forKey: instance)) }

    /// Gives back the place that a move has taken for the instance; nothing when there is none.
    @discardableResult
    public mutating func removeMove(of instance: InstanceID) -> Claim? {
        give(back: moves.removeValue(forKey: instance))
    }

    /// Gives back exactly this claim; nothing when the instance holds none, or another by now.
    @discardableResult
    public mutating func remove(_ claim: Claim) -> Bool {
        if claims[claim.instance]?.id == claim.id { return remove(claim.instance) != nil }
        if moves[claim.instance]?.id == claim.id { return removeMove(of: claim.instance) != nil }
        return false
    }

    /// Makes the place of a move the one where the instance lives; the old one, where it was on this host, is given
    /// back. False when the instance has not this move's claim.
    @discardableResult
    public mutating func settle(_ move: Claim) -> Bool {
        guard move.isMove, var claim = moves[move.instance], claim.id == move.id else { return false }
        removeMove(of: move.instance)
        claim.purpose = .residence
        restore(claim)
        return true
    }

    private mutating func give(back claim: Claim?) -> Claim? {
        guard let claim else { return nil }
        promised = promised - claim.resources
        return claim
    }

    private func scaled(_ amount: Int, _ ratio: Double) -> Int {
        Int(min(max(Double(amount) * ratio, 0), 1e15))
    }
}
