public import Model

/// A service says that it works. Kept in memory and written in one batch a second.
public enum Heartbeat: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        /// The name under which the service runs: a host's name, or the control host's.
        public var host: HostName
        /// `nova-compute`, `nova-conductor`, `nova-scheduler`: the names that clients show.
        public var binary: String
        /// The service's own version number, rising with each release.
        public var version: Int
        public var sequence: Int64
        /// A compute host's uuid. An agent whose uuid is not that of the host's record is refused with `conflict`: it is
        /// another machine under the same name.
        public var uuid: String?

        public init(host: HostName, binary: String, version: Int, sequence: Int64, uuid: String? = nil) {
            (self.host, self.binary, self.version, self.sequence) = (host, binary, version, sequence)
            self.uuid = uuid
        }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// The conductor's clock, for the doctor's comparison.
        public var now: Timestamp
        /// Set when the host is not heard before it has answered for what was evacuated from it (`ListEvacuated`).
        public var mustAnswer: Bool?

        public init(now: Timestamp, mustAnswer: Bool? = nil) { (self.now, self.mustAnswer) = (now, mustAnswer) }
    }
    public static let name = "conductor.heartbeat"
    public static let kind = RPCKind.call
    public static let summary = "Records that a service is alive."
    public static let timeout = Duration.seconds(10)
}

/// An agent says what it understands, each time it starts: conductors of a later release speak to it in its own form.
///
/// `unsupported_version` for an agent that is too old. An agent of the first release never calls it.
public enum RegisterAgent: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        public var manifest: PeerManifest

        public init(host: HostName, manifest: PeerManifest) { (self.host, self.manifest) = (host, manifest) }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// The oldest release of agents that the conductor works with.
        public var oldest: Int
        /// The conductor's own release.
        public var current: Int

        public init(oldest: Int, current: Int) { (self.oldest, self.current) = (oldest, current) }
    }
    public static let name = "conductor.register_agent"
    public static let kind = RPCKind.call
    public static let summary = "Records which methods an agent serves, and in which versions."
    public static let timeout = Duration.seconds(10)
}

/// What a host has and has promised.
public enum ReportHost: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var report: HostReport

        public init(report: HostReport) { self.report = report }
    }
    public typealias Result = RPCConfirmation
    public static let name = "conductor.report_host"
    public static let kind = RPCKind.cast
    public static let summary = "Stores a host's resource report."
    public static let timeout = Duration.seconds(20)
}

/// What has changed of a host since a report that was taken; the usual report, short and cheap.
///
/// `conflict`, as for `ReportHost`, when the uuid is not that of the host's record.
public enum ReportHostChange: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        public var uuid: String
        /// The sequence of the report that this one builds on.
        public var base: Int64
        /// This report's own.
        public var sequence: Int64
        public var measuredAt: Timestamp
        /// `nil` when nothing has changed.
        public var usage: HostUsage?

        public init(
            host: HostName, uuid: String, base: Int64, sequence: Int64, measuredAt: Timestamp, usage: HostUsage?
        ) {
            (self.host, self.uuid, self.base, self.sequence) = (host, uuid, base, sequence)
            (self.measuredAt, self.usage) = (measuredAt, usage)
        }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// Whether the conductor has the base; where not, it wants the whole report.
        public var isTaken: Bool

        public init(isTaken: Bool) { self.isTaken = isTaken }
    }
    public static let name = "conductor.report_host_change"
    public static let kind = RPCKind.call
    public static let summary = "Brings a host's stored report up to date, or asks for the whole."
    public static let timeout = Duration.seconds(20)
}

/// What an agent sees of one instance: observations, and the progress of the operation under way.
public enum ReportInstance: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        public var instance: InstanceID
        /// The pair the report belongs to; a late one loses.
        public var fence: Fence
        /// Set when the guest changed by itself or its operation ended; `nil` leaves what is recorded.
        public var vmState: VMState?
        public var powerState: PowerState
        /// The step's task state while an operation runs; ignored unless an operation of this fence is under way.
        public var taskState: TaskState?
        public var interfaces: [NetworkInterface]?
        /// How far a transfer is, in percent; `nil` leaves what is recorded.
        public var progress: Int?
        /// What a person should know about the guest's state: that an I/O error halted it. Becomes the instance's fault.
        public var notice: String?
        public var sequence: Int64
        public var observedAt: Timestamp

        public init(
            host: HostName, instance: InstanceID, fence: Fence, vmState: VMState?, powerState: PowerState,
            taskState: TaskState?, interfaces: [NetworkInterface]?, progress: Int? = nil, notice: String? = nil,
            sequence: Int64, observedAt: Timestamp
        ) {
            (self.progress, self.notice) = (progress, notice)
            (self.host, self.instance, self.fence) = (host, instance, fence)
            (self.vmState, self.powerState, self.taskState) = (vmState, powerState, taskState)
            (self.interfaces, self.sequence, self.observedAt) = (interfaces, sequence, observedAt)
        }
    }
    public typealias Result = RPCConfirmation
    public static let name = "conductor.report_instance"
    public static let kind = RPCKind.cast
    public static let summary = "Stores what a host sees of an instance."
    public static let timeout = Duration.seconds(20)
}

/// An operation on a host has ended, with the instance as it is now.
public enum ReportOperation: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var header: CommandHeader
        public var host: HostName
        /// `nil` when the operation succeeded.
        public var failure: Failure?
        /// What the host has on record for the instance after the operation; `nil` when it has none any more.
        public var vmState: VMState?
        public var powerState: PowerState
        public var interfaces: [NetworkInterface]?
        /// When the guest was first seen running, for a build.
        public var launchedAt: Timestamp?
        /// The steps in the order run, each with its length, for the action's events.
        public var steps: [StepTiming]
        public var endedAt: Timestamp
        /// In one count with `ReportInstance`'s, so that the newer of the two wins however late it comes.
        public var sequence: Int64?
        /// Of a guest that was taken in: whether it stands on the disks that it had on its former host.
        public var sharesDisks: Bool?

        public init(
            header: CommandHeader, host: HostName, failure: Failure?, vmState: VMState? = nil, powerState: PowerState,
            interfaces: [NetworkInterface]?, launchedAt: Timestamp?, steps: [StepTiming], endedAt: Timestamp,
            sequence: Int64? = nil
        ) {
            (self.vmState, self.sequence) = (vmState, sequence)
            (self.header, self.host, self.failure) = (header, host, failure)
            (self.powerState, self.interfaces, self.launchedAt) = (powerState, interfaces, launchedAt)
            (self.steps, self.endedAt) = (steps, endedAt)
        }
    }
    public struct StepTiming: Sendable, Hashable, Codable {
        public var name: String
        public var milliseconds: Double

        public init(name: String, milliseconds: Double) { (self.name, self.milliseconds) = (name, milliseconds) }
    }
    public typealias Result = RPCConfirmation
    public static let name = "conductor.report_operation"
    public static let kind = RPCKind.cast
    public static let summary = "Reports the outcome of a command to the task that sent it."
    public static let timeout = Duration.seconds(20)
}

/// The instances that the database places on the calling host: what an agent compares itself with when it starts.
public enum ListHostInstances: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName

        public init(host: HostName) { self.host = host }
    }
    public struct Result: Sendable, Hashable, Codable {
        public var instances: [Instance]

        public init(instances: [Instance]) { self.instances = instances }
    }
    public static let version = RPCVersion(1, 1)
    public static func backport(result: Result, to version: RPCVersion) -> Result {
        Result(instances: result.instances.map(\.inFirstForm))
    }
    public static let name = "conductor.list_host_instances"
    public static let kind = RPCKind.call
    public static let summary = "Lists the instances that the database places on the calling host."
}

/// What the database says of instances whose guests a host has: of those that are deleted, and of those that are on the
/// host. All others are left out, known or not, and nothing follows from that.
public enum DescribeInstances: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        /// How many may be asked for at once.
        public static let limit = 500

        public var host: HostName
        public var instances: [InstanceID]

        public init(host: HostName, instances: [InstanceID]) { (self.host, self.instances) = (host, instances) }
    }
    public struct Standing: Sendable, Hashable, Codable {
        public var instance: InstanceID
        public var fence: Fence
        /// When the record was deleted; `nil` for one that lives.
        public var deletedAt: Timestamp?

        public init(instance: InstanceID, fence: Fence, deletedAt: Timestamp?) {
            (self.instance, self.fence, self.deletedAt) = (instance, fence, deletedAt)
        }
    }
    public struct Result: Sendable, Hashable, Codable {
        public var instances: [Standing]

        public init(instances: [Standing]) { self.instances = instances }
    }
    public static let name = "conductor.describe_instances"
    public static let kind = RPCKind.call
    public static let summary = "Tells which of some instances the database knows, and which of them are deleted."
    public static let timeout = Duration.seconds(20)
}

/// Permission to read, or to upload, one image's bytes for some minutes.
public enum GetImageTicket: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        /// An instance on the host that boots from the image, or is copied into it.
        public var instance: InstanceID
        public var image: ImageID
        /// Whether the bytes are to be uploaded: allowed for the image that a snapshot under way is to fill.
        public var isUpload: Bool?

        public init(host: HostName, instance: InstanceID, image: ImageID, isUpload: Bool? = nil) {
            (self.host, self.instance, self.image) = (host, instance, image)
            self.isUpload = isUpload
        }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// Absolute; GET it (PUT it, for an upload) with the header `X-Apus-Ticket: <ticket>`.
        public var url: String
        public var ticket: String
        public var expiresAt: Timestamp
        /// For an upload: the bytes that the image has already, as when an earlier upload's answer was lost.
        public var stored: StoredBytes?

        public init(url: String, ticket: String, expiresAt: Timestamp, stored: StoredBytes? = nil) {
            (self.url, self.ticket, self.expiresAt, self.stored) = (url, ticket, expiresAt, stored)
        }
    }
    public struct StoredBytes: Sendable, Hashable, Codable {
        public var sizeBytes: Int64
        /// Lower-case hex.
        public var sha512: String

        public init(sizeBytes: Int64, sha512: String) { (self.sizeBytes, self.sha512) = (sizeBytes, sha512) }
    }
    public static let name = "conductor.get_image_ticket"
    public static let kind = RPCKind.call
    public static let summary = "Issues a short-lived permission to download an image."
}

/// Tasks have been inserted; look at once instead of at the next poll.
public enum WakeConductor: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public init() {}
    }
    public typealias Result = RPCConfirmation
    public static let name = "conductor.wake"
    public static let kind = RPCKind.call
    public static let summary = "Tells a conductor that tasks were inserted."
    public static let timeout = Duration.seconds(5)
}

/// The end of an instance's console, fetched from its host.
public enum FetchConsoleOutput: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var instance: InstanceID
        public var lines: Int?

        public init(instance: InstanceID, lines: Int?) { (self.instance, self.lines) = (instance, lines) }
    }
    public typealias Result = GetConsoleOutput.Result
    public static let name = "conductor.fetch_console_output"
    public static let kind = RPCKind.call
    public static let summary = "Returns the end of an instance's console from the host it is on."
    public static let timeout = Duration.seconds(25)
}

/// The administrator has enrolled, revoked or rotated a host; forget what is cached about it.
public enum ForgetHost: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName

        public init(host: HostName) { self.host = host }
    }
    public typealias Result = RPCConfirmation
    public static let name = "conductor.forget_host"
    public static let kind = RPCKind.call
    public static let summary = "Drops cached credentials and connections of a host."
    public static let timeout = Duration.seconds(5)
}
