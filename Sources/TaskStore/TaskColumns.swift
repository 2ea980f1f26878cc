internal import FoundationEssentials
internal import Model
internal import SQL
internal import Tasks

/// A task row as columns and back.
enum TaskColumns {
    /// What never changes after the insertion.
    private static let fixed = [
        "id", "kind", "instance_id", "parent_id", "request_id", "generation", "created_at",
    ]
    /// What a save writes; the cancellation flag and the count of signals have rules of their own.
    private static let changing = [
        "status", "step", "begun", "step_started_at", "attempts", "state", "owner", "lease_until", "wake_at",
        "deadline",
        "epoch", "last_error", "undo_failures", "updated_at", "finished_at", "runnable_at",
    ]

    static let names =
        (fixed + changing.filter { $0 != "runnable_at" } + ["is_cancel_requested", "signals"])
        .joined(separator: ", ")

    static let insert: String = {
        let all = fixed + changing + ["is_cancel_requested", "signals"]
        let places = Array(repeating: "?", count: all.count).joined(separator: ", ")
        return "INSERT INTO tasks (\(all.joined(separator: ", "))) VALUES (\(places))"
    }()

    static let update =
        "UPDATE tasks SET " + changing.map { "\($0) = ?" }.joined(separator: ", ")
        + ", is_cancel_requested = CASE WHEN is_cancel_requested = 1 THEN 1 ELSE ? END"
        + " WHERE id = ? AND owner = ? AND epoch = ? AND finished_at IS NULL"

    static func values(_ row: TaskRow) throws -> [SQLValue] {
        let fixed: [SQLValue] = [
            .text(row.id.rawValue), .text(row.kind), SQLValue(row.instance?.rawValue), SQLValue(row.parent?.rawValue),
            .text(row.requestID.rawValue), .integer(row.generation), .integer(row.createdAt.microseconds),
        ]
        return try fixed + changingValues(row) + [SQLValue(row.isCancelRequested), .integer(row.signals)]
    }

    static func changingValues(_ row: TaskRow) throws -> [SQLValue] {
        [
            .text(row.status.rawValue), SQLValue(row.step), .text(try encode(row.begun)),
            SQLValue(row.stepStartedAt?.microseconds), SQLValue(row.attempts), .blob(row.state), SQLValue(row.owner),
            SQLValue(row.leaseUntil?.microseconds), SQLValue(row.wakeAt?.microseconds),
            SQLValue(row.deadline?.microseconds), .integer(row.epoch), SQLValue(try row.lastError.map(encode)),
            .text(try encode(row.undoFailures)), .integer(row.updatedAt.microseconds),
            SQLValue(row.finishedAt?.microseconds), SQLValue(row.runnableAt?.microseconds),
        ]
    }

    static func row(_ row: borrowing SQLRow) throws -> TaskRow {
        var task = TaskRow(
            id: TaskID(row.text(0)), kind: row.text(1), instance: row.textOrNil(2).map { InstanceID($0) },
            parent: row.textOrNil(3).map { TaskID($0) }, requestID: RequestID(row.text(4)), state: row.blob(12),
            generation: row.int64(5), createdAt: Timestamp(microseconds: row.int64(6)))
        guard let status = TaskStatus(rawValue: row.text(7)) else {
            throw Failure(.unsupportedVersion, "task \(task.id) has the unknown status \(row.text(7))")
        }
        task.status = status
        task.step = row.textOrNil(8)
        task.begun = try decode([String].self, row.text(9))
        task.stepStartedAt = row.timeOrNil(10)
        task.attempts = row.int(11)
        task.owner = row.textOrNil(13)
        task.leaseUntil = row.timeOrNil(14)
        task.wakeAt = row.timeOrNil(15)
        task.deadline = row.timeOrNil(16)
        task.epoch = row.int64(17)
        task.lastError = try row.textOrNil(18).map { try decode(Failure.self, $0) }
        task.undoFailures = try decode([String].self, row.text(19))
        task.updatedAt = Timestamp(microseconds: row.int64(20))
        task.finishedAt = row.timeOrNil(21)
        task.isCancelRequested = row.bool(22)
        task.signals = row.int64(23)
        return task
    }

    private static func encode(_ value: some Encodable) throws -> String {
        String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
    }

    private static func decode<T: Decodable>(_ type: T.Type, _ text: String) throws -> T {
        // The usual case, without a decoder's cost.
        if text == "[]", let empty = [String]() as? T { return empty }
        return try JSONDecoder().decode(type, from: Data(text.utf8))
    }
}

extension SQLRow {
    fileprivate func timeOrNil(_ column: Int) -> Timestamp? {
        int64OrNil(column).map { Timestamp(microseconds: $0) }
    }
}
