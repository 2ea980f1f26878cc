public import Model
public import SQL
public import Tasks

/// Durable tasks in a table: of the control plane's database, and of an agent's journal.
///
/// Each statement that changes a task says in its WHERE what must hold for it, so that `.rowLocks` suffices: engines that
/// lease at the same time then pass each other by, where `.serializable` would have all but one begin anew.
public struct SQLTaskStorage: TaskStorage {
    /// The schema's component, for `SQLDatabase.migrate`.
    public static let component = "tasks"

    /// `runnable_at` repeats `TaskRow.runnableAt`, so that one index answers who is due.
    public static let migrations = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE tasks (
                    id TEXT PRIMARY KEY, kind TEXT NOT NULL, instance_id TEXT, parent_id TEXT, request_id TEXT NOT NULL,
                    status TEXT NOT NULL, step TEXT, begun TEXT NOT NULL, step_started_at BIGINT,
                    attempts BIGINT NOT NULL, state BLOB NOT NULL, owner TEXT, lease_until BIGINT, wake_at BIGINT,
                    deadline BIGINT, generation BIGINT NOT NULL, epoch BIGINT NOT NULL,
                    is_cancel_requested BIGINT NOT NULL, signals BIGINT NOT NULL, last_error TEXT,
                    undo_failures TEXT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
                    finished_at BIGINT, runnable_at BIGINT);
                CREATE INDEX tasks_by_runnable_at ON tasks (kind, runnable_at) WHERE runnable_at IS NOT NULL;
                CREATE INDEX tasks_by_owner ON tasks (owner) WHERE owner IS NOT NULL;
                CREATE INDEX tasks_by_instance ON tasks (instance_id, created_at);
                CREATE INDEX tasks_by_finished_at ON tasks (finished_at) WHERE finished_at IS NOT NULL;
                """),
        Migration(
            version: 2,
            sql: "CREATE INDEX tasks_by_parent ON tasks (parent_id) WHERE parent_id IS NOT NULL;"),
        Migration(version: 3, sql: "CREATE TABLE task_engines (owner TEXT PRIMARY KEY);"),
    ]

    private let database: any SQLDatabase

    /// A storage in `database`, which has been migrated.
    public init(database: any SQLDatabase) { self.database = database }

    public func insert(_ row: TaskRow) async throws { try await insert([row]) }

    public func insert(_ rows: [TaskRow]) async throws {
        try await database.write(.rowLocks) { connection in
            for row in rows { try Self.insert(row, on: connection) }
        }
    }

    /// Adds a task in the caller's own transaction. Throws `TaskError.duplicate`.
    public static func insert(_ row: TaskRow, on connection: SQLConnection) throws {
        do {
            try connection.execute(TaskColumns.insert, try TaskColumns.values(row))
        } catch let error as SQLError where error.isDuplicate {
            throw TaskError.duplicate(row.id)
        }
    }

    public func lease(
        kinds: Set<String>, owner: String, until: Timestamp, now: Timestamp, limit: Int
    ) async throws -> [TaskRow] {
        guard !kinds.isEmpty, limit > 0 else { return [] }
        return try await database.write(.rowLocks) { connection in
            let taken = try connection.query(
                """
                WITH picked AS (
                    SELECT id FROM tasks WHERE runnable_at <= ? AND kind IN (\(places(kinds.count)))
                    ORDER BY runnable_at, id LIMIT ? \(connection.lockingUnclaimed))
                UPDATE tasks SET \(Self.taking) WHERE id IN (SELECT id FROM picked)
                RETURNING \(TaskColumns.names)
                """,
                [.integer(now.microseconds)] + kinds.sorted().map { .text($0) } + [SQLValue(limit)]
                    + Self.takingValues(owner, until, now)
            ) { try TaskColumns.row($0) }
            return taken.sorted { ($0.wakeAt ?? $0.createdAt, $0.id) < ($1.wakeAt ?? $1.createdAt, $1.id) }
        }
    }

    public func lease(id: TaskID, owner: String, until: Timestamp, now: Timestamp) async throws -> TaskRow? {
        try await database.write(.rowLocks) { connection in
            try connection.first(
                "UPDATE tasks SET \(Self.taking) WHERE id = ? AND runnable_at <= ? RETURNING \(TaskColumns.names)",
                Self.takingValues(owner, until, now) + [.text(id.rawValue), .integer(now.microseconds)]
            ) { try TaskColumns.row($0) }
        }
    }

    /// `TaskRow.take` as SQL: all right-hand sides see the row as it was.
    private static let taking = """
        epoch = CASE WHEN owner IS NULL THEN epoch ELSE epoch + 1 END,
        status = CASE WHEN status IN ('pending', 'waiting') THEN 'running' ELSE status END,
        owner = ?, lease_until = ?, runnable_at = ?, updated_at = ?
        """

    private static func takingValues(_ owner: String, _ until: Timestamp, _ now: Timestamp) -> [SQLValue] {
        [.text(owner), .integer(until.microseconds), .integer(until.microseconds), .integer(now.microseconds)]
    }

    public func save(_ row: TaskRow) async throws {
        guard let owner = row.owner else { throw TaskError.leaseLost(row.id) }
        var stored = row
        if row.leaseUntil == nil { stored.owner = nil }
        let values = try TaskColumns.changingValues(stored)
        try await database.write(.rowLocks) { connection in
            let changed = try connection.execute(
                TaskColumns.update,
                values + [
                    SQLValue(row.isCancelRequested), .text(row.id.rawValue), .text(owner), .integer(row.epoch),
                ])
            guard changed > 0 else { throw TaskError.leaseLost(row.id) }
            // What came while the task was at work, and was not seen by it, ends its wait before it begins.
            guard row.status == .waiting else { return }
            try connection.execute(
                """
                UPDATE tasks SET wake_at = ?, runnable_at = ?
                WHERE id = ? AND (signals > ? OR (is_cancel_requested = 1 AND ? = 0))
                """,
                [
                    .integer(row.updatedAt.microseconds), .integer(row.updatedAt.microseconds),
                    .text(row.id.rawValue), .integer(row.signals), SQLValue(row.isCancelRequested),
                ])
        }
    }

    public func renew(ids: [TaskID], owner: String, until: Timestamp) async throws -> Set<TaskID> {
        guard !ids.isEmpty else { return [] }
        return try await database.write(.rowLocks) { connection in
            var ours: Set<TaskID> = []
            // One text for every number of tasks: it stays prepared.
            for id in ids {
                let changed = try connection.execute(
                    "UPDATE tasks SET lease_until = ?, runnable_at = ? WHERE id = ? AND owner = ?",
                    [
                        .integer(until.microseconds), .integer(until.microseconds), .text(id.rawValue), .text(owner),
                    ])
                if changed > 0 { ours.insert(id) }
            }
            return ours
        }
    }

    public func expireLeases(owner: String, now: Timestamp) async throws {
        try await database.write(.rowLocks) { connection in
            try connection.execute(
                "UPDATE tasks SET lease_until = ?, runnable_at = ? WHERE owner = ?",
                [.integer(now.microseconds), .integer(now.microseconds), .text(owner)])
        }
    }

    public func announce(_ owner: String) async throws -> Bool {
        // The lock before the name: whoever reads the name must not find nobody behind it.
        guard try await database.announce(owner) else { return false }
        let isKnown = try await database.read { connection in
            try connection.first("SELECT 1 FROM task_engines WHERE owner = ?", [.text(owner)]) { $0.bool(0) } != nil
        }
        guard !isKnown else { return true }
        try await database.write(.rowLocks) { connection in
            _ = try connection.execute(
                "INSERT INTO task_engines (owner) VALUES (?) ON CONFLICT (owner) DO NOTHING", [.text(owner)])
        }
        return true
    }

    public func withdraw(_ owner: String) async throws {
        try await database.write(.rowLocks) { connection in
            _ = try connection.execute("DELETE FROM task_engines WHERE owner = ?", [.text(owner)])
        }
    }

    public func owners(besides owner: String) async throws -> [String: Bool] {
        let names = try await database.read { connection in
            try connection.query("SELECT owner FROM task_engines WHERE owner <> ?", [.text(owner)]) { $0.text(0) }
        }
        var found: [String: Bool] = [:]
        for name in names { found[name] = try await database.isAnnounced(name) }
        return found
    }

    public func find(_ id: TaskID) async throws -> TaskRow? {
        try await database.read { connection in
            try connection.first(
                "SELECT \(TaskColumns.names) FROM tasks WHERE id = ?", [.text(id.rawValue)]
            ) { try TaskColumns.row($0) }
        }
    }

    public func list(
        instance: InstanceID?, unfinishedOnly: Bool, limit: Int, after marker: TaskID?
    ) async throws -> [TaskRow] {
        var conditions: [String] = []
        var values: [SQLValue] = []
        if let instance {
            conditions.append("instance_id = ?")
            values.append(.text(instance.rawValue))
        }
        if unfinishedOnly { conditions.append("finished_at IS NULL") }
        let (given, bound) = (conditions, values)
        return try await database.read { connection in
            var (conditions, values) = (given, bound)
            if let marker {
                let last = try connection.first("SELECT created_at FROM tasks WHERE id = ?", [.text(marker.rawValue)]) {
                    $0.int64(0)
                }
                guard let last else { throw TaskError.notFound(marker) }
                conditions.append("(created_at < ? OR (created_at = ? AND id < ?))")
                values += [.integer(last), .integer(last), .text(marker.rawValue)]
            }
            let filter = conditions.isEmpty ? "" : "WHERE " + conditions.joined(separator: " AND ")
            return try connection.query(
                "SELECT \(TaskColumns.names) FROM tasks \(filter) ORDER BY created_at DESC, id DESC LIMIT ?",
                values + [SQLValue(max(0, limit))]
            ) { try TaskColumns.row($0) }
        }
    }

    public func children(of parent: TaskID) async throws -> [TaskRow] {
        try await database.read { connection in
            try connection.query(
                "SELECT \(TaskColumns.names) FROM tasks WHERE parent_id = ? ORDER BY created_at, id",
                [.text(parent.rawValue)]
            ) { try TaskColumns.row($0) }
        }
    }

    public func hasten(_ id: TaskID, now: Timestamp) async throws -> Bool {
        try await database.write(.rowLocks) { connection in
            let earlier = "CASE WHEN wake_at IS NULL OR wake_at > ? THEN ? ELSE wake_at END"
            let changed = try connection.execute(
                """
                UPDATE tasks SET attempts = 0, wake_at = \(earlier), runnable_at = \(earlier)
                WHERE id = ? AND finished_at IS NULL AND owner IS NULL
                """,
                Array(repeating: .integer(now.microseconds), count: 4) + [.text(id.rawValue)])
            guard changed == 0 else { return true }
            let isKnown = try connection.first("SELECT 1 FROM tasks WHERE id = ?", [.text(id.rawValue)]) { $0.bool(0) }
            guard isKnown != nil else { throw TaskError.notFound(id) }
            return false
        }
    }

    public func signal(_ id: TaskID, now: Timestamp) async throws {
        try await database.write(.rowLocks) { connection in
            try Self.wake(id, now: now, setting: "signals = signals + 1", states: "'waiting'", on: connection)
        }
    }

    public func requestCancel(_ id: TaskID, now: Timestamp) async throws {
        try await database.write(.rowLocks) { connection in
            try Self.wake(
                id, now: now, setting: "is_cancel_requested = 1", states: "'waiting', 'pending'", on: connection)
        }
    }

    /// Asks, in the caller's own transaction, for the cancellation of a task that no engine has now, if it has not begun
    /// or one of `steps` is its next: nothing else of it is run then. `nil` when an engine has it; `false` when it is at
    /// another step, is being undone, or has ended.
    public static func requestCancel(
        idle id: TaskID, at steps: Set<String>, now: Timestamp, on connection: SQLConnection
    ) throws -> Bool? {
        let row = try connection.first(
            "SELECT \(TaskColumns.names) FROM tasks WHERE id = ?", [.text(id.rawValue)]
        ) { try TaskColumns.row($0) }
        guard let row, !row.status.isFinished, row.status != .undoing else { return false }
        guard row.owner == nil else { return nil }
        guard row.step.map(steps.contains) ?? true else { return false }
        try wake(id, now: now, setting: "is_cancel_requested = 1", states: "'waiting', 'pending'", on: connection)
        return true
    }

    /// Asks, in the caller's own transaction, for the cancellation of every unfinished task of an instance.
    public static func requestCancel(
        instance: InstanceID, now: Timestamp, on connection: SQLConnection
    ) throws {
        let ids = try connection.query(
            "SELECT id FROM tasks WHERE instance_id = ? AND finished_at IS NULL", [.text(instance.rawValue)]
        ) { TaskID($0.text(0)) }
        for id in ids {
            try wake(id, now: now, setting: "is_cancel_requested = 1", states: "'waiting', 'pending'", on: connection)
        }
    }

    private static func wake(
        _ id: TaskID, now: Timestamp, setting: String, states: String, on connection: SQLConnection
    ) throws {
        let earlier = "CASE WHEN status IN (\(states)) AND (wake_at IS NULL OR wake_at > ?) THEN ? ELSE"
        let changed = try connection.execute(
            """
            UPDATE tasks SET \(setting), wake_at = \(earlier) wake_at END, runnable_at = \(earlier) runnable_at END
            WHERE id = ? AND finished_at IS NULL
            """,
            Array(repeating: .integer(now.microseconds), count: 4) + [.text(id.rawValue)])
        guard changed == 0 else { return }
        let isKnown = try connection.first("SELECT 1 FROM tasks WHERE id = ?", [.text(id.rawValue)]) { $0.bool(0) }
        guard isKnown != nil else { throw TaskError.notFound(id) }
    }

    public func cancelRequested(among ids: [TaskID]) async throws -> Set<TaskID> {
        guard !ids.isEmpty else { return [] }
        return try await database.read { connection in
            var found: Set<TaskID> = []
            for id in ids {
                let isRequested = try connection.first(
                    "SELECT is_cancel_requested FROM tasks WHERE id = ?", [.text(id.rawValue)]
                ) { $0.bool(0) }
                if isRequested == true { found.insert(id) }
            }
            return found
        }
    }

    public func nextWake(kinds: Set<String>) async throws -> Timestamp? {
        try await database.read { connection in
            // One look at the index's edge a kind; a list of kinds would read and sort every unfinished task.
            try kinds.compactMap { kind in
                try connection.first(
                    "SELECT min(runnable_at) FROM tasks WHERE kind = ? AND runnable_at IS NOT NULL", [.text(kind)]
                ) { $0.int64OrNil(0).map { Timestamp(microseconds: $0) } } ?? nil
            }.min()
        }
    }

    public func trim(finishedBefore: Timestamp) async throws -> Int {
        try await database.write(.rowLocks) { connection in
            try connection.execute(
                "DELETE FROM tasks WHERE finished_at < ?", [.integer(finishedBefore.microseconds)])
        }
    }
}

/// `?, ?, ?`
private func places(_ count: Int) -> String { Array(repeating: "?", count: count).joined(separator: ", ") }
