public import GuestHardware
public import HostTopology
public import Model
public import PCIDevices

/// What one instance has been promised.
public struct Claim: Sendable, Hashable, Codable {
    public let id: ClaimID
    public let instance: InstanceID
    public let resources: Resources
    /// Where it is on the host's cells; `nil` for a guest that takes processors and memory as they come.
    public let placement: TopologyPlacement?
    /// The host's devices that are its own; `nil` for none.
    public let devices: [PCIDevice]?

    public init(
        id: ClaimID, instance: InstanceID, resources: Resources, placement: TopologyPlacement? = nil,
        devices: [PCIDevice]? = nil
    ) {
        (self.id, self.instance, self.resources) = (id, instance, resources)
        (self.placement, self.devices) = (placement, devices)
    }
}

/// Why a claim is refused.
public enum ClaimError: Error, Sendable, Hashable {
    public struct Shortage: Sendable, Hashable {
        /// `vcpus`, `memory_mib`, `disk_gib`, or a name of `TopologyShortage`.
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
    public private(set) var claims: [InstanceID: Claim] = [:]
    /// The sum of all claims.
    public private(set) var promised = Resources.zero

    public init(
        total: Resources, reserved: Resources, ratios: AllocationRatios, topology: HostTopology? = nil,
        pci: PCIInventory = PCIInventory(), claims: [Claim] = []
    ) {
        (self.total, self.reserved, self.ratios, self.topology) = (total, reserved, ratios, topology)
        self.pci = pci
        for claim in claims { restore(claim) }
    }

    /// The claims plus what is reserved, as a host report shows it.
    public var used: Resources { promised + reserved }

    /// How much of each resource may be promised in all: (total - reserved) × ratio, cut to whole units.
    public var limit: Resources {
        Resources(
            vcpus: scaled(total.vcpus - reserved.vcpus, ratios.cpu),
            memoryMiB: scaled(total.memoryMiB - reserved.memoryMiB, ratios.memory),
            diskGiB: scaled(total.diskGiB - reserved.diskGiB, ratios.disk))
    }

    /// Promises what is asked for, with its place on the host's cells where `request` wants one, or says which resources
    /// are short.
    @discardableResult
    public mutating func add(
        _ id: ClaimID, for instance: InstanceID, _ asked: Resources, _ request: TopologyRequest? = nil,
        devices wanted: [PCIRequest] = []
    ) throws(ClaimError) -> Claim {
        let possible = 0...(1 << 40)
        guard possible.contains(asked.vcpus), possible.contains(asked.memoryMiB), possible.contains(asked.diskGiB)
        else {
            throw .invalid(asked)
        }
        if let known = claims[instance] { throw .exists(known.id) }
        let (free, limit) = (limit - promised, limit)
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
                    preferring: pci.cells(with: wanted, beside: heldDevices))
            } catch {
                shortages += error.items.map {
                    .init(
                        resource: $0.resource, requested: $0.requested, free: $0.free, total: $0.total,
                        limit: $0.total)
                }
            }
        }
        var devices: [PCIDevice]?
        if !wanted.isEmpty {
            do throws(PCIShortage) {
                devices = try pci.choose(
                    wanted, near: placement.map { Set($0.cells.map(\.hostCell)) }, beside: heldDevices)
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
        guard shortages.isEmpty else { throw .insufficient(shortages) }
        let claim = Claim(id: id, instance: instance, resources: asked, placement: placement, devices: devices)
        restore(claim)
        return claim
    }

    /// What the claims hold of the host's cells.
    public var topologyUsage: TopologyUsage {
        guard let topology else { return TopologyUsage() }
        return TopologyUsage(claims.values.compactMap(\.placement), on: topology)
    }

    /// Every device that is somebody's, also one that has vanished since.
    public var heldDevices: [PCIDevice] { claims.values.flatMap { $0.devices ?? [] } }

    /// The devices by sort; `nil` where none is configured for guests.
    public var pools: [PCIPool]? { pci.devices.isEmpty ? nil : pci.pools(beside: heldDevices) }

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
                })
        }
    }

    /// Takes up a claim that was granted earlier, whether or not it fits today.
    public mutating func restore(_ claim: Claim) {
        remove(claim.instance)
        claims[claim.instance] = claim
        promised = promised + claim.resources
    }

    /// Gives back what the instance holds; nothing when it holds nothing.
    @discardableResult
    public mutating func remove(_ instance: InstanceID) -> Claim? {
        guard let claim = claims.removeValue(forKey: instance) else { return nil }
        promised = promised - claim.resources
        return claim
    }

    /// Gives back exactly this claim; nothing when the instance holds none, or another by now.
    @discardableResult
    public mutating func remove(_ claim: Claim) -> Bool {
        guard claims[claim.instance]?.id == claim.id else { return false }
        return remove(claim.instance) != nil
    }

    private func scaled(_ amount: Int, _ ratio: Double) -> Int {
        Int(min(max(Double(amount) * ratio, 0), 1e15))
    }
}
