public import Model
public import RPC

/// The kinds of durable tasks that the API inserts and the conductor carries through.
public enum TaskKind {
    public static let build = "build"
    public static let delete = "delete"
    public static let power = "power"
    /// Removes from one host what an attempt may have left there; has no action of its own.
    public static let cleanup = "cleanup"

    public static let all: Set<String> = [build, delete, power, cleanup]
}

/// State of a `build` task. The API fills the first members, the conductor's steps the others.
public struct BuildTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var image: ImageReference
    /// Removed by the step that has handed it to a host for good.
    public var adminPassword: String?
    /// The chosen host first, then the alternates; `nil` before scheduling.
    public var candidates: [HostName]?
    /// Index into `candidates` of the host that is being tried.
    public var attempt: Int
    /// Whether the host of `attempt` has the command, and under which epoch.
    public var dispatchedEpoch: Int64?
    /// Since when the host of `attempt` cannot be reached; `nil` while it can.
    public var unreachableSince: Timestamp?
    /// Why each earlier host failed, in order.
    public var failures: [HostFailure]

    public init(instance: InstanceID, image: ImageReference, adminPassword: String?) {
        (self.instance, self.image, self.adminPassword) = (instance, image, adminPassword)
        candidates = nil
        attempt = 0
        dispatchedEpoch = nil
        unreachableSince = nil
        failures = []
    }
}

/// One host's failed attempt at a build.
public struct HostFailure: Sendable, Hashable, Codable {
    public var host: HostName
    public var failure: Failure

    public init(host: HostName, failure: Failure) { (self.host, self.failure) = (host, failure) }
}

/// State of a `delete` task: the API fills in the instance, the steps the rest.
public struct DeleteTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var host: HostName?
    public var dispatchedEpoch: Int64?
    /// Set when the record was closed before the host had answered, because the host is down.
    public var isRecordDeleted: Bool

    public init(instance: InstanceID) {
        self.instance = instance
        host = nil
        dispatchedEpoch = nil
        isRecordDeleted = false
    }
}

/// State of a `power` task.
public struct PowerTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var change: ChangePower.Change
    public var dispatchedEpoch: Int64?

    public init(instance: InstanceID, change: ChangePower.Change) {
        (self.instance, self.change) = (instance, change)
        dispatchedEpoch = nil
    }
}

/// State of a `cleanup` task.
public struct CleanupTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var host: HostName
    public var dispatchedEpoch: Int64?

    public init(instance: InstanceID, host: HostName) {
        (self.instance, self.host) = (instance, host)
        dispatchedEpoch = nil
    }
}
