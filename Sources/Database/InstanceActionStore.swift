public import Model
internal import SQL

/// One request that was accepted for an instance: a row of `os-instance-actions`.
public struct InstanceAction: Sendable, Hashable {
    public var instance: InstanceID
    public var requestID: RequestID
    public var kind: InstanceActionKind
    public var userID: UserID
    public var projectID: ProjectID
    public var startedAt: Timestamp
    public var finishedAt: Timestamp?
    /// "Error" when it failed, else `nil`.
    public var message: String?

    public init(
        instance: InstanceID, requestID: RequestID, kind: InstanceActionKind, userID: UserID, projectID: ProjectID,
        startedAt: Timestamp, finishedAt: Timestamp? = nil, message: String? = nil
    ) {
        (self.instance, self.requestID, self.kind) = (instance, requestID, kind)
        (self.userID, self.projectID) = (userID, projectID)
        (self.startedAt, self.finishedAt, self.message) = (startedAt, finishedAt, message)
    }
}

/// One part of an action, on one host.
public struct InstanceEvent: Sendable, Hashable {
    /// Nova's names: `compute__do_build_and_run_instance`, `compute_terminate_instance` …
    public var name: String
    public var host: HostName?
    public var startedAt: Timestamp
    public var finishedAt: Timestamp?
    /// `Success` or `Error`.
    public var result: String?
    /// What went wrong, fit for users.
    public var details: String?

    public init(
        name: String, host: HostName?, startedAt: Timestamp, finishedAt: Timestamp?, result: String?, details: String?
    ) {
        (self.name, self.host, self.startedAt) = (name, host, startedAt)
        (self.finishedAt, self.result, self.details) = (finishedAt, result, details)
    }
}

/// How an action ended, with the event that tells it.
public struct ActionEnd: Sendable, Hashable {
    public var requestID: RequestID
    public var at: Timestamp
    public var failed: Bool
    public var event: InstanceEvent?
    /// Whether it failed because there was no host for it.
    public var isWithoutHost: Bool

    public init(
        requestID: RequestID, at: Timestamp, failed: Bool, event: InstanceEvent?, isWithoutHost: Bool = false
    ) {
        (self.requestID, self.at, self.failed, self.event) = (requestID, at, failed, event)
        self.isWithoutHost = isWithoutHost
    }
}

/// The actions of instances and their events.
public struct InstanceActionStore: Sendable {
    let database: any SQLDatabase

    /// Newest first.
    public func list(_ instance: InstanceID, limit: Int = 1_000) async throws -> [InstanceAction] {
        try await database.read { connection in
            try connection.query(
                Self.columns + " WHERE instance_id = ? ORDER BY started_at DESC, request_id DESC LIMIT ?",
                [.text(instance.rawValue), SQLValue(limit)]
            ) { try Self.action($0) }
        }
    }

    public func find(_ instance: InstanceID, _ request: RequestID) async throws -> InstanceAction? {
        try await database.read { connection in
            try connection.first(
                Self.columns + " WHERE instance_id = ? AND request_id = ?",
                [.text(instance.rawValue), .text(request.rawValue)]
            ) { try Self.action($0) }
        }
    }

    /// Oldest first.
    public func events(_ instance: InstanceID, _ request: RequestID) async throws -> [InstanceEvent] {
        try await database.read { connection in
            try connection.query(
                """
                SELECT event, host, started_at, finished_at, result, details FROM instance_events
                WHERE instance_id = ? AND request_id = ? ORDER BY started_at, event
                """, [.text(instance.rawValue), .text(request.rawValue)]
            ) { row in
                InstanceEvent(
                    name: row.text(0), host: row.textOrNil(1).map { HostName($0) },
                    startedAt: Timestamp(microseconds: row.int64(2)),
                    finishedAt: row.int64OrNil(3).map { Timestamp(microseconds: $0) }, result: row.textOrNil(4),
                    details: row.textOrNil(5))
            }
        }
    }

    private static let columns = """
        SELECT instance_id, request_id, action, user_id, project_id, started_at, finished_at, message
        FROM instance_actions
        """

    private static func action(_ row: borrowing SQLRow) throws -> InstanceAction {
        guard let kind = InstanceActionKind(rawValue: row.text(2)) else {
            throw StoreError.notFound("instance action kind \(row.text(2))")
        }
        return InstanceAction(
            instance: InstanceID(row.text(0)), requestID: RequestID(row.text(1)), kind: kind,
            userID: UserID(row.text(3)), projectID: ProjectID(row.text(4)),
            startedAt: Timestamp(microseconds: row.int64(5)),
            finishedAt: row.int64OrNil(6).map { Timestamp(microseconds: $0) }, message: row.textOrNil(7))
    }

    static func insert(_ action: InstanceAction, _ connection: SQLConnection) throws {
        try connection.execute(
            """
            INSERT INTO instance_actions
                (instance_id, request_id, action, user_id, project_id, started_at, finished_at, message)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (instance_id, request_id) DO NOTHING
            """,
            [
                .text(action.instance.rawValue), .text(action.requestID.rawValue), .text(action.kind.rawValue),
                .text(action.userID.rawValue), .text(action.projectID.rawValue),
                .integer(action.startedAt.microseconds), SQLValue(action.finishedAt?.microseconds),
                SQLValue(action.message),
            ])
    }

    /// Writes the end of an action and its event, and gives the action; `nil` for one that had ended before, or never
    /// was.
    static func finish(
        _ instance: InstanceID, _ end: ActionEnd, _ connection: SQLConnection
    ) throws -> InstanceAction? {
        let ended = try connection.execute(
            """
            UPDATE instance_actions SET finished_at = ?, message = ?
            WHERE instance_id = ? AND request_id = ? AND finished_at IS NULL
            """,
            [
                .integer(end.at.microseconds), SQLValue(end.failed ? "Error" : nil as String?),
                .text(instance.rawValue), .text(end.requestID.rawValue),
            ])
        if let event = end.event { try insert(event, of: instance, end.requestID, connection) }
        guard ended > 0 else { return nil }
        return try connection.first(
            columns + " WHERE instance_id = ? AND request_id = ?",
            [.text(instance.rawValue), .text(end.requestID.rawValue)]
        ) { try action($0) }
    }

    private static func insert(
        _ event: InstanceEvent, of instance: InstanceID, _ request: RequestID, _ connection: SQLConnection
    ) throws {
        try connection.execute(
            """
            INSERT INTO instance_events
                (instance_id, request_id, event, host, started_at, finished_at, result, details)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (instance_id, request_id, event, started_at) DO NOTHING
            """,
            [
                .text(instance.rawValue), .text(request.rawValue), .text(event.name),
                SQLValue(event.host?.rawValue), .integer(event.startedAt.microseconds),
                SQLValue(event.finishedAt?.microseconds), SQLValue(event.result), SQLValue(event.details),
            ])
    }
}
