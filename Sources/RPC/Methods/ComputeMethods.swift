public import Model

/// Names the operation that a command belongs to and who may win over it.
public struct CommandHeader: Sendable, Hashable, Codable {
    /// The conductor's task; the operation's identity in the agent's journal and in its reports.
    public var task: TaskID
    public var instance: InstanceID
    /// Refused by the agent when it has seen a higher one for the instance.
    public var fence: Fence

    public init(task: TaskID, instance: InstanceID, fence: Fence) {
        (self.task, self.instance, self.fence) = (task, instance, fence)
    }
}

/// Build the guest: claim now, then image, network, disks, domain, start.
///
/// The claim is made, and recorded with the operation, before the answer; a host that cannot fit the instance answers
/// `insufficient_resources`. The outcome follows by `conductor.report_operation`.
public enum BuildInstance: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var header: CommandHeader
        public var instance: Instance
        public var image: ImageReference
        /// Written into the config drive and kept nowhere after that step.
        public var adminPassword: String?
        /// Which try this is: 1 for the chosen host, 2 for the first alternate.
        public var attempt: Int
        /// What the user injects; like the password kept nowhere after the config drive is written.
        public var files: [InjectedFile]?

        public init(
            header: CommandHeader, instance: Instance, image: ImageReference, adminPassword: String?, attempt: Int,
            files: [InjectedFile]? = nil
        ) {
            (self.header, self.instance, self.image) = (header, instance, image)
            (self.adminPassword, self.attempt, self.files) = (adminPassword, attempt, files)
        }
    }
    public typealias Result = RPCConfirmation
    public static let version = RPCVersion(1, 1)
    public static func backport(_ params: Params, to version: RPCVersion) -> Params {
        var older = params
        older.instance = params.instance.inFirstForm
        return older
    }
    public static let name = "compute.build_instance"
    public static let kind = RPCKind.cast
    public static let summary = "Claims resources for an instance and builds its guest."
}

/// Remove the guest and everything the host holds for it: domain, disks, address, claim. Succeeds when nothing is there.
public enum DeleteInstance: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var header: CommandHeader

        public init(header: CommandHeader) { self.header = header }
    }
    public typealias Result = RPCConfirmation
    public static let name = "compute.delete_instance"
    public static let kind = RPCKind.cast
    public static let summary = "Removes an instance's guest and gives back everything it held."
}

/// Cancel what a task has a guest's host do. Answered once the operation is interrupted, which then undoes what it has
/// done and reports its end as that of any operation, with a failure of the kind `cancelled`.
///
/// `conflict`: it is too far on, or of a kind that is not cancelled; retriable when another moment may be better.
/// `not_found`: nothing of the task is under way here; its end has been, or is being, reported.
public enum CancelOperation: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var header: CommandHeader

        public init(header: CommandHeader) { self.header = header }
    }
    public typealias Result = RPCConfirmation
    public static let name = "compute.cancel_operation"
    public static let kind = RPCKind.call
    public static let summary = "Interrupts a command that is under way, where its guest can go back to what it was."
    public static let timeout = Duration.seconds(20)
}

/// The last lines of the guest's serial console.
public enum GetConsoleOutput: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var instance: InstanceID
        /// How many lines from the end; `nil` for all that is kept (at most 100 KiB).
        public var lines: Int?

        public init(instance: InstanceID, lines: Int?) { (self.instance, self.lines) = (instance, lines) }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// UTF-8; bytes that are not become U+FFFD, control characters other than tab and newline are dropped.
        public var output: String

        public init(output: String) { self.output = output }
    }
    public static let name = "compute.get_console_output"
    public static let kind = RPCKind.call
    public static let summary = "Returns the end of an instance's serial console log."
    public static let timeout = Duration.seconds(20)
}
