internal import Model
internal import RPC

/// What the agent does to a guest on command. The raw value is the task's kind and stands in the operation's id.
enum OperationKind: String, Sendable, Hashable, CaseIterable {
    case build = "guest.build"
    case delete = "guest.delete"
    case start = "guest.start"
    case stop = "guest.stop"
    case softReboot = "guest.soft_reboot"
    case hardReboot = "guest.hard_reboot"

    init(_ change: ChangePower.Change) {
        switch change {
        case .start: self = .start
        case .stop: self = .stop
        case .softReboot: self = .softReboot
        case .hardReboot: self = .hardReboot
        }
    }

    /// The same command, however often it is sent, is the same operation.
    func operationID(task: TaskID, attempt: Int) -> TaskID { TaskID("\(task).\(rawValue).\(attempt)") }
}

/// How an operation ended, as the journal keeps it until it is forgotten.
struct OperationOutcome: Sendable, Hashable, Codable {
    var failure: Failure?
    var powerState: PowerState
    var interfaces: [NetworkInterface]?
    var launchedAt: Timestamp?
    var steps: [ReportOperation.StepTiming]
    var endedAt: Timestamp
}

/// An operation as the journal has it.
struct OperationRecord: Sendable, Hashable {
    var id: TaskID
    var kind: OperationKind
    var instance: InstanceID
    /// The conductor's task; `nil` for what the agent does by itself.
    var task: TaskID?
    /// The pair of the command, raised when another conductor took the task over and sent it again.
    var fence: Fence
    var requestID: RequestID
    var acceptedAt: Timestamp
    var outcome: OperationOutcome?

    /// The report of the outcome to the task that sent the command; `nil` before the end, or when nobody asked.
    func report(from host: HostName) -> ReportOperation.Params? {
        guard let task, let outcome else { return nil }
        return ReportOperation.Params(
            header: CommandHeader(task: task, instance: instance, fence: fence), host: host,
            failure: outcome.failure, powerState: outcome.powerState, interfaces: outcome.interfaces,
            launchedAt: outcome.launchedAt, steps: outcome.steps, endedAt: outcome.endedAt)
    }
}
