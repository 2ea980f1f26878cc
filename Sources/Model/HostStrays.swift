/// What does not fit together on a host: told so that a person looks; nothing of it is touched.
public struct HostStrays: Sendable, Hashable, Codable {
    /// How many there are of a kind, and which.
    public struct Finding: Sendable, Hashable, Codable {
        /// How many ids are named.
        public static let limit = 20

        public var count: Int
        /// The first of them, in order.
        public var instances: [InstanceID]

        public init(_ found: [InstanceID] = []) {
            count = found.count
            instances = Array(found.sorted().prefix(Self.limit))
        }

        /// The same with no more ids than are allowed: what comes from a host may be anything.
        var bounded: Finding {
            var bounded = Finding(instances)
            bounded.count = max(count, instances.count)
            return bounded
        }
    }

    /// Domains with our mark that the agent has no record of.
    public var orphans: Finding
    /// Guests on the host that the database places elsewhere or nowhere.
    public var unplaced: Finding
    /// Instances that the database places on the host, which has no record of them.
    public var unknown: Finding

    public init(orphans: Finding = Finding(), unplaced: Finding = Finding(), unknown: Finding = Finding()) {
        (self.orphans, self.unplaced, self.unknown) = (orphans, unplaced, unknown)
    }

    public var isEmpty: Bool { orphans.count + unplaced.count + unknown.count == 0 }

    /// The same with no more ids than are allowed.
    public var bounded: HostStrays {
        HostStrays(orphans: orphans.bounded, unplaced: unplaced.bounded, unknown: unknown.bounded)
    }
}
