public import Model

/// How far a task is.
public enum TaskStatus: String, Sendable, Hashable, Codable, CaseIterable {
    /// Recorded, not begun.
    case pending
    case running
    /// Waits for a signal, a time, or its next attempt.
    case waiting
    /// Failed or cancelled: what was begun is undone, last step first.
    case undoing
    case succeeded, failed, cancelled

    public var isFinished: Bool { self == .succeeded || self == .failed || self == .cancelled }
}

/// A durable task as its table keeps it: all that another process needs to go on with it.
public struct TaskRow: Sendable, Hashable, Codable {
    /// `step` of a task whose steps are all done, or undone, and whose definition's `finished` is still to run.
    public static let finishingStep = "finished"

    public var id: TaskID
    public var kind: String
    public var instance: InstanceID?
    public var parent: TaskID?
    public var requestID: RequestID
    public var status: TaskStatus
    /// The step to run next, or to undo next; `nil` before the first and after the end.
    public var step: String?
    /// The steps begun and not undone, in the order of their first beginning.
    public var begun: [String]
    public var stepStartedAt: Timestamp?
    /// Failed attempts of this step so far.
    public var attempts: Int
    /// JSON of the definition's state. No secrets after the step that uses them.
    public var state: [UInt8]
    /// The engine that has the task; its lease ends at `leaseUntil`.
    public var owner: String?
    public var leaseUntil: Timestamp?
    /// While nobody has the task: not before this moment.
    public var wakeAt: Timestamp?
    /// When the current step, with all its attempts and waits, must have ended.
    public var deadline: Timestamp?
    public var generation: Int64
    /// Rises with each take-over.
    public var epoch: Int64
    public var isCancelRequested: Bool
    /// Signals received when the task was last taken; the storage counts further ones.
    public var signals: Int64
    /// Why the last attempt failed, or why the task is undone.
    public var lastError: Failure?
    /// Steps whose undo was given up, with the reason: what may be left behind.
    public var undoFailures: [String]
    public var createdAt: Timestamp
    public var updatedAt: Timestamp
    public var finishedAt: Timestamp?

    /// A task that has not begun.
    public init(
        id: TaskID, kind: String, instance: InstanceID? = nil, parent: TaskID? = nil, requestID: RequestID,
        state: [UInt8], generation: Int64, createdAt: Timestamp
    ) {
        (self.id, self.kind, self.instance, self.parent) = (id, kind, instance, parent)
        (self.requestID, self.state, self.generation, self.createdAt) = (requestID, state, generation, createdAt)
        updatedAt = createdAt
        (status, begun, attempts, epoch, signals) = (.pending, [], 0, 0, 0)
        (isCancelRequested, undoFailures) = (false, [])
    }

    /// What commands that this task sends carry.
    public var fence: Fence { Fence(generation: generation, epoch: epoch) }

    /// From when on an engine may take the task; `nil` when only a signal or a cancellation can make it runnable, or
    /// when it is finished. Storages keep it as a column.
    public var runnableAt: Timestamp? {
        switch status {
        case .pending: wakeAt ?? createdAt
        case .waiting: wakeAt
        case .running, .undoing: owner == nil ? wakeAt ?? updatedAt : leaseUntil ?? updatedAt
        case .succeeded, .failed, .cancelled: nil
        }
    }
}

/// What a task storage or the engine refuses.
public enum TaskError: Error, Sendable, Hashable {
    /// Another engine has taken the task, or its lease was given up.
    case leaseLost(TaskID)
    case notFound(TaskID)
    /// A task with this id is there already.
    case duplicate(TaskID)
    /// Nobody registered a definition of this kind here.
    case unknownKind(String)
    /// `run` was called while it runs.
    case alreadyRunning
}
