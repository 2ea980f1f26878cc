public import Model

/// What one instance has been promised.
public struct Claim: Sendable, Hashable, Codable {
    public let id: ClaimID
    public let instance: InstanceID
    public let resources: Resources

    public init(id: ClaimID, instance: InstanceID, resources: Resources) {
        (self.id, self.instance, self.resources) = (id, instance, resources)
    }
}

/// Why a claim is refused.
public enum ClaimError: Error, Sendable, Hashable {
    public struct Shortage: Sendable, Hashable {
        /// `vcpus`, `memory_mib` or `disk_gib`.
        public let resource: String
        public let requested: Int
        public let free: Int

        public init(resource: String, requested: Int, free: Int) {
            (self.resource, self.requested, self.free) = (resource, requested, free)
        }
    }
    /// Every resource that is short.
    case insufficient([Shortage])
    /// The instance holds a claim here already.
    case exists(ClaimID)
    /// A negative or absurd amount.
    case invalid(Resources)

    /// The refusal as it crosses process borders.
    public var failure: Failure {
        switch self {
        case .insufficient(let shortages):
            let parts = shortages.map { "\($0.resource): \($0.requested) requested, \($0.free) free" }
            return Failure(.insufficientResources, parts.joined(separator: "; "), isRetriable: true)
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
    public private(set) var claims: [InstanceID: Claim] = [:]
    /// The sum of all claims.
    public private(set) var promised = Resources.zero

    public init(total: Resources, reserved: Resources, ratios: AllocationRatios, claims: [Claim] = []) {
        (self.total, self.reserved, self.ratios) = (total, reserved, ratios)
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

    /// Promises `claim`, or says which resources are short.
    public mutating func add(_ claim: Claim) throws(ClaimError) {
        let asked = claim.resources
        let possible = 0...(1 << 40)
        guard possible.contains(asked.vcpus), possible.contains(asked.memoryMiB), possible.contains(asked.diskGiB)
        else {
            throw .invalid(asked)
        }
        if let known = claims[claim.instance] { throw .exists(known.id) }
        let free = limit - promised
        let shortages = [
            ("vcpus", asked.vcpus, free.vcpus), ("memory_mib", asked.memoryMiB, free.memoryMiB),
            ("disk_gib", asked.diskGiB, free.diskGiB),
        ].filter { $0.1 > 0 && $0.1 > $0.2 }
        guard shortages.isEmpty else {
            throw .insufficient(shortages.map { .init(resource: $0.0, requested: $0.1, free: max(0, $0.2)) })
        }
        restore(claim)
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
