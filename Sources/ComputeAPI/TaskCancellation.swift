internal import Database
internal import RPC
internal import Tasks

/// Which tasks can be cancelled, and what is answered where not.
struct TaskCancellation: Sendable {
    let row: TaskRow

    /// Throws 409 with the reason when the task cannot be cancelled. What a host has begun it may still refuse to cancel:
    /// then the task goes on to its end.
    func requirePossible() throws {
        guard !row.status.isFinished else {
            throw APIError.conflict("Task \(row.id) has ended already: it \(row.status.rawValue).")
        }
        switch row.kind {
        case TaskKind.delete, TaskKind.offload, TaskKind.cleanup, TaskKind.leave:
            throw APIError.conflict("Task \(row.id) removes a guest from its host, which is not cancelled.")
        case TaskKind.guest, TaskKind.rebuild, TaskKind.snapshot, TaskKind.backup:
            let state = try TaskEngine.state(GuestTaskState.self, of: row)
            guard state.dispatchedEpoch == nil || state.command.isCancellableOnHost else {
                let name = state.command.name
                throw APIError.conflict(
                    "Task \(row.id) cannot be cancelled: its host has the command \(name) and finishes it.")
            }
        default: break
        }
    }
}
