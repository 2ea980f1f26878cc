internal import Database
internal import Model
internal import Tasks

/// An administrator's second try at a task.
struct TaskRetry: Sendable {
    let database: ControlDatabase
    let now: Timestamp

    /// Lets a task that waits for its next attempt run now, as if it had not failed yet; inserts one that failed for good
    /// again, where that is safe, and gives the new one. Throws 409 with the reason where there is nothing to retry.
    func retry(_ row: TaskRow) async throws -> TaskRow {
        guard row.status.isFinished else { return try await hasten(row) }
        guard row.status != .succeeded else { throw APIError.conflict("Task \(row.id) has succeeded.") }
        if row.kind == TaskKind.cacheImages { return try await cacheAgain(row) }
        guard TaskKind.repeatable.contains(row.kind), let instance = row.instance else {
            let kinds = TaskKind.repeatable.sorted().joined(separator: ", ")
            throw APIError.conflict(
                "Task \(row.id) has \(row.status.rawValue) and is a \(row.kind): ask for the operation again. "
                    + "Only these can be repeated as they are: \(kinds).")
        }
        return try await insertAgain(row, instance)
    }

    private func hasten(_ row: TaskRow) async throws -> TaskRow {
        guard try await database.tasks.hasten(row.id, now: now) else {
            throw APIError.conflict("Task \(row.id) is at work: \(row.owner ?? "somebody") has it.")
        }
        return try await database.tasks.find(row.id) ?? row
    }

    private func cacheAgain(_ row: TaskRow) async throws -> TaskRow {
        let old = try TaskEngine.state(CacheImagesTaskState.self, of: row)
        let again = try TaskEngine.makeRow(
            kind: row.kind, requestID: row.requestID, state: CacheImagesTaskState(host: old.host, images: old.images),
            now: now)
        try await database.tasks.insert(again)
        return again
    }

    private func insertAgain(_ row: TaskRow, _ instance: InstanceID) async throws -> TaskRow {
        let generation = row.generation
        var again = TaskRow(
            id: TaskID(TaskEngine.makeID()), kind: row.kind, instance: instance, parent: row.parent,
            requestID: row.requestID, state: try freshState(of: row), generation: generation, createdAt: now)
        // The host has seen the epochs of the task that failed.
        again.epoch = row.epoch + 1
        guard ![TaskKind.cleanup, TaskKind.release, TaskKind.leave].contains(row.kind) else {
            // It concerns a host, not what the record says now.
            try await database.tasks.insert(again)
            return again
        }
        let taskState: TaskState = row.kind == TaskKind.delete ? .deleting : .shelvingOffloading
        let inserted = again
        do {
            _ = try await database.instances.update(
                instance, generation: generation, now: now, makeTasks: { _ in [inserted] },
                change: { record in
                    guard record.deletedAt == nil else {
                        throw APIError.conflict("Instance \(record.id) has been deleted since.")
                    }
                    guard record.taskState == nil else {
                        throw APIError.conflict("Something else is under way for instance \(record.id).")
                    }
                    record.taskState = taskState
                })
        } catch StoreError.conflict {
            throw APIError.conflict("A newer request for instance \(instance) has been accepted since.")
        }
        return again
    }

    /// The state as it was when the task began.
    private func freshState(of row: TaskRow) throws -> [UInt8] {
        func coded<State: Codable & Sendable>(_ state: State) throws -> [UInt8] {
            try TaskEngine.makeRow(kind: row.kind, requestID: row.requestID, state: state, now: now).state
        }
        switch row.kind {
        case TaskKind.delete:
            return try coded(DeleteTaskState(instance: try TaskEngine.state(DeleteTaskState.self, of: row).instance))
        case TaskKind.offload:
            return try coded(OffloadTaskState(instance: try TaskEngine.state(OffloadTaskState.self, of: row).instance))
        default:
            var fresh = try TaskEngine.state(CleanupTaskState.self, of: row)
            (fresh.dispatchedEpoch, fresh.attempts) = (nil, nil)
            return try coded(fresh)
        }
    }
}
