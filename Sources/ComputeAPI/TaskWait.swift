internal import Database
internal import Model
internal import Tasks
internal import Telemetry

/// Waits for a task's end where the answer to the caller tells it.
struct TaskWait: Sendable {
    enum End: Sendable, Hashable {
        case succeeded
        case failed(Failure)
        /// The patience is at its end, the task is not.
        case underWay
    }

    private let tasks: any TaskStorage
    private let patience: Duration

    init(_ parts: ComputeParts) { (tasks, patience) = (parts.database.tasks, parts.settings.operationPatience) }

    /// Looks every 50 ms at first, every half second in the end.
    func end(of id: TaskID) async throws -> End {
        let limit = ContinuousClock.now + patience
        var pause = Duration.milliseconds(50)
        while true {
            guard let row = try await tasks.find(id) else { return .failed(Failure(.notFound, "task \(id) is gone")) }
            switch row.status {
            case .succeeded: return .succeeded
            case .failed, .cancelled:
                return .failed(row.lastError ?? Failure(.internalError, "task \(id) failed for an unrecorded reason"))
            case .pending, .running, .waiting, .undoing: break
            }
            guard ContinuousClock.now < limit else { return .underWay }
            try await AlarmClock().sleep(for: pause)
            pause = min(pause + pause / 4, .milliseconds(500))
        }
    }
}
