public import Model

/// How a guest is to be carried to another host while it runs.
public struct LiveRequest: Sendable, Hashable, Codable {
    /// Whether its disks go with it; `nil`: as the two hosts find it, by whether they share the folder.
    public var isBlockMigration: Bool?

    public init(isBlockMigration: Bool? = nil) { self.isBlockMigration = isBlockMigration }
}

/// Have the live migration of a guest end soon: by post-copy where the source's host permits it, else by halting the
/// guest until it is on the other host. To the source's agent. Throws `.conflict` when the migration does not run.
public enum ForceMigration: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var instance: InstanceID
        public var migration: MigrationID

        public init(instance: InstanceID, migration: MigrationID) {
            (self.instance, self.migration) = (instance, migration)
        }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// Whether the guest goes on at the other host already, whose memory comes after it.
        public var isPostCopy: Bool

        public init(isPostCopy: Bool) { self.isPostCopy = isPostCopy }
    }
    public static let name = "compute.force_migration"
    public static let kind = RPCKind.call
    public static let summary = "Has the live migration of a guest end soon."
    public static let timeout = Duration.seconds(30)
}

/// The same, for the API: to the host that the instance comes from.
public enum ForceLiveMigration: RPCMethod {
    public typealias Params = ForceMigration.Params
    public typealias Result = ForceMigration.Result
    public static let name = "conductor.force_migration"
    public static let kind = RPCKind.call
    public static let summary = "Has the host that a guest comes from end its live migration soon."
    public static let timeout = Duration.seconds(40)
}

/// Tell the conductor how much of a guest is on the other host. From the host that the guest comes from; what is out of
/// date by then is nothing to the conductor.
public enum ReportMigration: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        public var instance: InstanceID
        public var migration: MigrationID
        public var progress: MigrationProgress
        /// Whether the guest runs at the other host already, whose memory comes after it.
        public var isPostCopy: Bool

        public init(
            host: HostName, instance: InstanceID, migration: MigrationID, progress: MigrationProgress,
            isPostCopy: Bool = false
        ) {
            (self.host, self.instance, self.migration) = (host, instance, migration)
            (self.progress, self.isPostCopy) = (progress, isPostCopy)
        }
    }
    public typealias Result = RPCConfirmation
    public static let name = "conductor.report_migration"
    public static let kind = RPCKind.call
    public static let summary = "Records how much of a guest is on the other host."
}
