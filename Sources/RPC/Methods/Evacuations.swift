public import Model

/// Start an instance here whose host is dead: from its disks where this host sees them, else from fresh ones. The outcome
/// follows by `conductor.report_operation`. The room is promised before, by `MoveGuest` with `reserve`, and given back by
/// `release`.
public enum TakeInGuest: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var header: CommandHeader
        public var migration: MigrationID
        /// With its user data, for a config drive that is written anew.
        public var instance: Instance
        public var image: ImageReference
        /// For a guest that is made afresh.
        public var adminPassword: String?
        /// `active` or `stopped`: how the guest is to be afterwards.
        public var vmState: VMState
        /// What the caller says: whether this host sees the disks. `nil` has it look.
        public var sharesDisks: Bool?

        public init(
            header: CommandHeader, migration: MigrationID, instance: Instance, image: ImageReference,
            adminPassword: String?, vmState: VMState, sharesDisks: Bool?
        ) {
            (self.header, self.migration, self.instance, self.image) = (header, migration, instance, image)
            (self.adminPassword, self.vmState, self.sharesDisks) = (adminPassword, vmState, sharesDisks)
        }
    }
    public typealias Result = RPCConfirmation
    public static let name = "compute.take_in_guest"
    public static let kind = RPCKind.cast
    public static let summary = "Starts an instance here whose host is dead."
    /// How long a host that is up may take.
    public static let hostLimit = Duration.seconds(6 * 3_600)
}

/// What was evacuated from the calling host, and it has not answered for: asked before it counts as up.
public enum ListEvacuated: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName

        public init(host: HostName) { self.host = host }
    }
    public struct Evacuated: Sendable, Hashable, Codable {
        public var instance: InstanceID
        public var migration: MigrationID
        /// Of the evacuation's request. A host that has had a command of the same or a newer generation has the instance
        /// by right.
        public var generation: Int64
        /// Whether the instance is elsewhere, or deleted: what is here is stale. Where not, the evacuation is under way,
        /// and nothing may run here until it is decided.
        public var isGone: Bool
        /// Whether the disks that are here are the new guest's own, too: then they stay. Unknown is not no.
        public var sharesDisks: Bool?

        public init(
            instance: InstanceID, migration: MigrationID, generation: Int64, isGone: Bool, sharesDisks: Bool?
        ) {
            (self.instance, self.migration, self.generation) = (instance, migration, generation)
            (self.isGone, self.sharesDisks) = (isGone, sharesDisks)
        }
    }
    public struct Result: Sendable, Hashable, Codable {
        public var evacuated: [Evacuated]

        public init(evacuated: [Evacuated]) { self.evacuated = evacuated }
    }
    public static let name = "conductor.list_evacuated"
    public static let kind = RPCKind.call
    public static let summary = "Lists what was evacuated from the calling host."
    public static let timeout = Duration.seconds(10)
}

/// The calling host has removed what it had of instances that were evacuated from it.
public enum ConfirmEvacuated: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        public var migrations: [MigrationID]

        public init(host: HostName, migrations: [MigrationID]) { (self.host, self.migrations) = (host, migrations) }
    }
    public typealias Result = RPCConfirmation
    public static let name = "conductor.confirm_evacuated"
    public static let kind = RPCKind.call
    public static let summary = "Closes evacuations of which nothing is left on the calling host."
    public static let timeout = Duration.seconds(10)
}
