/// How an instance goes from one host, or one size, to another; the words of `migration_type`.
public enum MigrationType: String, Sendable, Hashable, Codable, CaseIterable {
    /// Off, to another host.
    case migration
    /// Off, to another flavor, on the same host or another.
    case resize
    case liveMigration = "live-migration"
    case evacuation
}

/// Where a migration is; the words that clients see.
public enum MigrationStatus: String, Sendable, Hashable, Codable, CaseIterable {
    case accepted, queued, preparing, running, migrating, finished, confirming, confirmed, reverting, reverted
    case completed, done, error, failed, cancelled
    case preMigrating = "pre-migrating"
    case postMigrating = "post-migrating"
    case runningPostCopy = "running (post-copy)"

    /// Whether nothing of it is under way or undecided any more.
    public var isOver: Bool {
        switch self {
        case .confirmed, .reverted, .completed, .done, .error, .failed, .cancelled: true
        default: false
        }
    }

    public static let over: Set<MigrationStatus> = Set(allCases.filter(\.isOver))
}

/// One migration, resize or evacuation of an instance, as it is listed.
public struct MigrationRecord: Sendable, Hashable, Codable {
    public var id: MigrationID
    /// A small number, unique in the database, under which clients of a server's migrations know it.
    public var number: Int64
    public var instance: InstanceID
    public var type: MigrationType
    public var status: MigrationStatus
    public var sourceHost: HostName
    public var sourceNode: String?
    /// `nil` before a host is chosen.
    public var destinationHost: HostName?
    public var destinationNode: String?
    public var formerFlavor: FlavorID
    public var newFlavor: FlavorID
    public var userID: UserID
    public var projectID: ProjectID
    public var createdAt: Timestamp
    public var updatedAt: Timestamp
    /// Why it failed; for administrators.
    public var failure: String?
    /// What has to be carried to the other host, as the hosts have told last; `nil` where nothing is carried, or nothing
    /// told yet.
    public var progress: MigrationProgress?

    public init(
        id: MigrationID, number: Int64 = 0, instance: Instance, type: MigrationType, status: MigrationStatus,
        sourceHost: HostName, newFlavor: FlavorID, userID: UserID, now: Timestamp
    ) {
        (self.id, self.number, self.instance, self.type, self.status) = (id, number, instance.id, type, status)
        (self.sourceHost, sourceNode) = (sourceHost, instance.node)
        (formerFlavor, self.newFlavor) = (instance.flavor.id, newFlavor)
        (self.userID, projectID, createdAt, updatedAt) = (userID, instance.projectID, now, now)
    }
}

extension MigrationType {
    /// Whether it ends with a choice of the user: to keep what it has made, or to go back.
    public var isVerified: Bool { self == .migration || self == .resize }
}

extension MigrationRecord {
    /// Whether it is from or to the host.
    public func involves(_ host: HostName) -> Bool { sourceHost == host || destinationHost == host }
}

/// How much of an instance is on the other host, in bytes.
public struct MigrationProgress: Sendable, Hashable, Codable {
    public var memoryTotal: Int64
    public var memoryProcessed: Int64
    public var memoryRemaining: Int64
    public var diskTotal: Int64
    public var diskProcessed: Int64
    public var diskRemaining: Int64

    public init(
        memoryTotal: Int64 = 0, memoryProcessed: Int64 = 0, memoryRemaining: Int64 = 0, diskTotal: Int64 = 0,
        diskProcessed: Int64 = 0, diskRemaining: Int64 = 0
    ) {
        (self.memoryTotal, self.memoryProcessed, self.memoryRemaining) =
            (memoryTotal, memoryProcessed, memoryRemaining)
        (self.diskTotal, self.diskProcessed, self.diskRemaining) = (diskTotal, diskProcessed, diskRemaining)
    }

    /// How much of everything is there, from 0 to 100; `nil` before it is known how much there is.
    public var percent: Int? {
        let total = Double(memoryTotal) + Double(diskTotal)
        guard total > 0 else { return nil }
        let left = Double(memoryRemaining) + Double(diskRemaining)
        return Int(100 * min(max(0, 1 - left / total), 1))
    }
}

/// A move of an instance that is under way, or that can still be taken back.
public struct PendingMove: Sendable, Hashable, Codable {
    public var migration: MigrationID
    public var type: MigrationType
    /// What it comes from, and goes back to.
    public var source: HostName
    public var formerFlavor: Flavor
    /// `active` or `stopped`, in a live migration `active` or `paused`: how it was before, and is to be after.
    public var formerVMState: VMState
    /// The host that has, or may have, begun to take it; `nil` before one is asked.
    public var destination: HostName?
    /// Since when it waits to be confirmed; `nil` before.
    public var finishedAt: Timestamp?
    /// What was decided of it: from then on the other way is closed, however often carrying it out fails.
    public var decision: Decision?

    public enum Decision: String, Sendable, Hashable, Codable {
        case confirm, revert
    }

    public init(
        migration: MigrationID, type: MigrationType, source: HostName, formerFlavor: Flavor, formerVMState: VMState
    ) {
        (self.migration, self.type, self.source) = (migration, type, source)
        (self.formerFlavor, self.formerVMState) = (formerFlavor, formerVMState)
    }

    /// The other hosts than `host` that have something of the instance, or may have.
    public func hosts(besides host: HostName?) -> Set<HostName> {
        var hosts: Set<HostName> = [source]
        if let destination { hosts.insert(destination) }
        if let host { hosts.remove(host) }
        return hosts
    }
}
