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
    case pause = "guest.pause"
    case unpause = "guest.unpause"
    case suspend = "guest.suspend"
    case resume = "guest.resume"
    case rescue = "guest.rescue"
    case unrescue = "guest.unrescue"
    case rebuild = "guest.rebuild"
    case snapshot = "guest.snapshot"
    case shelve = "guest.shelve"
    case softDelete = "guest.soft_delete"
    case restore = "guest.restore"
    case setPassword = "guest.set_password"
    case attachInterface = "guest.attach_interface"
    case detachInterface = "guest.detach_interface"
    case reserve = "guest.reserve"
    case setAside = "guest.set_aside"
    case takeOver = "guest.take_over"
    case release = "guest.release"
    case forget = "guest.forget"
    case takeBack = "guest.take_back"
    case offer = "guest.offer"
    case receive = "guest.receive"
    case send = "guest.send"
    case arrive = "guest.arrive"
    case leave = "guest.leave"
    case takeIn = "guest.take_in"
    case discard = "guest.discard"

    /// The kind of a command's operation; `nil` for a command of a later release.
    init?(_ command: GuestCommand) { self.init(rawValue: "guest.\(command.name)") }

    /// The kind of a host's part in a move; `nil` for one of a later release.
    init?(_ order: MoveOrder) { self.init(rawValue: "guest.\(order.name)") }

    /// Whether a hard reboot takes its place: the states in which the API admits one.
    var yieldsToHardReboot: Bool {
        switch self {
        case .softReboot, .hardReboot, .pause, .unpause, .suspend, .resume: true
        default: false
        }
    }

    /// Whether it keeps the host's disks busy: what Nova counts as I/O workload.
    var burdensDisks: Bool {
        switch self {
        case .build, .rebuild, .rescue, .snapshot, .shelve, .takeOver, .receive, .send, .takeIn: true
        default: false
        }
    }

    /// The steps at which a user's cancellation leaves the guest as it was; an operation that has not begun can be
    /// cancelled too. `nil`: never.
    var cancellableSteps: Set<String>? {
        switch self {
        // Cancelled by a delete, which removes what there is; and that by nothing.
        case .build, .delete: nil
        // The conductor decides what becomes of a move.
        case .reserve, .setAside, .takeOver, .release, .forget, .takeBack, .takeIn, .discard: nil
        case .offer, .arrive, .leave: nil
        case .receive: [FetchMovedImage().name, ReceiveGuest().name]
        case .send: [SendGuest().name]
        case .snapshot: [TakeSnapshot().name, UploadSnapshot().name]
        // Afterwards the guest is shut down.
        case .rescue, .rebuild: [FetchCommandImage().name]
        default: []
        }
    }

    /// The same command, however often it is sent, is the same operation.
    func operationID(task: TaskID, attempt: Int) -> TaskID { TaskID("\(task).\(rawValue).\(attempt)") }
}

/// How an operation ended, as the journal keeps it until it is forgotten.
struct OperationOutcome: Sendable, Hashable, Codable {
    var failure: Failure?
    /// What is on record afterwards; `nil` when nothing is.
    var vmState: VMState?
    var powerState: PowerState
    var interfaces: [NetworkInterface]?
    var launchedAt: Timestamp?
    var steps: [ReportOperation.StepTiming]
    var endedAt: Timestamp
    /// Of a guest that was taken in: whether it stands on the disks that it had before.
    var sharesDisks: Bool?
    /// The outcome's place among all that the agent says; `nil` from before it was counted.
    var sequence: Int64?
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
        var report = ReportOperation.Params(
            header: CommandHeader(task: task, instance: instance, fence: fence), host: host,
            failure: outcome.failure, vmState: outcome.vmState, powerState: outcome.powerState,
            interfaces: outcome.interfaces,
            launchedAt: outcome.launchedAt, steps: outcome.steps, endedAt: outcome.endedAt,
            sequence: outcome.sequence)
        report.sharesDisks = outcome.sharesDisks
        return report
    }
}
