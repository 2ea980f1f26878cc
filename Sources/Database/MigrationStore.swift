public import Model
internal import SQL
internal import TaskStore
public import Tasks

/// Which migrations a list is to hold. Members that are `nil` or empty restrict nothing.
public struct MigrationQuery: Sendable {
    public var instance: InstanceID?
    /// Source or destination.
    public var host: HostName?
    public var sourceHost: HostName?
    public var statuses: Set<MigrationStatus> = []
    public var types: Set<MigrationType> = []
    public var userID: UserID?
    public var projectID: ProjectID?
    public var changedSince: Timestamp?
    public var changedBefore: Timestamp?
    /// The last one of the page before.
    public var marker: MigrationID?
    /// At most 1,000 are returned however many are asked for.
    public var limit = 1_000

    public init() {}
}

/// What is written of a migration in the transaction that changes its instance.
public enum MigrationWrite: Sendable {
    /// Begins one; it gets its number.
    case insert(MigrationRecord)
    /// Nothing when there is none of that id, or it is over.
    case change(MigrationID, @Sendable (inout MigrationRecord) -> Void)
    /// What has become of one by its user's word. Counts for one that was in error before, too, whose instance had kept
    /// the choice.
    case verdict(MigrationID, MigrationStatus)
    /// Writes down what a host that was given up is to know of an evacuation when it returns.
    case evacuation(EvacuationRecord)
    /// Nothing of that evacuation counts.
    case noEvacuation(MigrationID)

    /// The usual change.
    public static func status(_ id: MigrationID, _ status: MigrationStatus, failure: String? = nil) -> MigrationWrite {
        .change(id) { migration in
            migration.status = status
            if let failure { migration.failure = failure }
        }
    }

    /// How far it is, as a host has told; and whether the guest runs at its destination already.
    public static func note(_ id: MigrationID, _ progress: MigrationProgress?, isPostCopy: Bool) -> MigrationWrite {
        .change(id) { migration in
            if let progress { migration.progress = progress }
            if isPostCopy { migration.status = .runningPostCopy }
        }
    }
}

/// Migrations, resizes and evacuations, one row each; they stay for as long as their instance's row.
public struct MigrationStore: Sendable {
    static let component = "migrations"
    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                INSERT INTO counters (name, value) VALUES ('migration_number', 0);
                CREATE TABLE migrations (
                    id TEXT PRIMARY KEY, number BIGINT NOT NULL UNIQUE, instance_id TEXT NOT NULL, type TEXT NOT NULL,
                    status TEXT NOT NULL, source_host TEXT NOT NULL, destination_host TEXT, user_id TEXT NOT NULL,
                    project_id TEXT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, record TEXT NOT NULL);
                CREATE INDEX migrations_of_instance ON migrations (instance_id, number);
                CREATE INDEX migrations_by_status ON migrations (status, number);
                """)
    ]

    let database: any SQLDatabase

    public func find(_ id: MigrationID) async throws -> MigrationRecord? {
        try await database.read { try Self.find(id, $0) }
    }

    /// The migration of an instance under its number.
    public func find(_ number: Int64, of instance: InstanceID) async throws -> MigrationRecord? {
        try await database.read { connection in
            try connection.first(
                "SELECT record FROM migrations WHERE number = ? AND instance_id = ?",
                [.integer(number), .text(instance.rawValue)]
            ) { try Record.decode(MigrationRecord.self, $0.text(0)) }
        }
    }

    /// A page of them, the newest first. Throws `.notFound` when the marker is unknown.
    public func list(_ query: MigrationQuery) async throws -> [MigrationRecord] {
        try await database.read { connection in
            var conditions: [String] = []
            var values: [SQLValue] = []
            func add(_ condition: String, _ value: SQLValue?) {
                guard let value else { return }
                conditions.append(condition)
                values.append(value)
            }
            func add(_ column: String, oneOf texts: [String]) {
                guard !texts.isEmpty else { return }
                conditions.append("\(column) IN (\(texts.map { _ in "?" }.joined(separator: ", ")))")
                values += texts.map { .text($0) }
            }
            add("instance_id = ?", query.instance.map { .text($0.rawValue) })
            if let host = query.host {
                conditions.append("(source_host = ? OR destination_host = ?)")
                values += [.text(host.rawValue), .text(host.rawValue)]
            }
            add("source_host = ?", query.sourceHost.map { .text($0.rawValue) })
            add("user_id = ?", query.userID.map { .text($0.rawValue) })
            add("project_id = ?", query.projectID.map { .text($0.rawValue) })
            add("updated_at >= ?", query.changedSince.map { .integer($0.microseconds) })
            add("updated_at <= ?", query.changedBefore.map { .integer($0.microseconds) })
            add("status", oneOf: query.statuses.map(\.rawValue).sorted())
            add("type", oneOf: query.types.map(\.rawValue).sorted())
            if let marker = query.marker {
                guard let last = try Self.find(marker, connection) else {
                    throw StoreError.notFound("Marker \(marker)")
                }
                add("number < ?", .integer(last.number))
            }
            let filter = conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")
            return try connection.query(
                "SELECT record FROM migrations\(filter) ORDER BY number DESC LIMIT ?",
                values + [SQLValue(min(max(0, query.limit), 1_000))]
            ) { try Record.decode(MigrationRecord.self, $0.text(0)) }
        }
    }

    /// The migrations that ended in error and whose instance has been deleted since: on either host something of it may be
    /// left. Evacuations are not among them, whose source answers for itself.
    public func incomplete(limit: Int = 1_000) async throws -> [MigrationRecord] {
        try await database.read { connection in
            try connection.query(
                """
                SELECT record FROM migrations WHERE status = ? AND type <> ? AND EXISTS (
                    SELECT 1 FROM instances
                    WHERE instances.id = migrations.instance_id AND instances.deleted_at IS NOT NULL)
                ORDER BY number LIMIT ?
                """,
                [
                    .text(MigrationStatus.error.rawValue), .text(MigrationType.evacuation.rawValue),
                    SQLValue(max(0, limit)),
                ]
            ) { try Record.decode(MigrationRecord.self, $0.text(0)) }
        }
    }

    /// Calls such a migration failed, and records the tasks that remove what it has left; `false`, and nothing, when
    /// another has done so before.
    ///
    /// - Parameter makeTasks: gets the instance as it is.
    public func close(
        incomplete id: MigrationID, now: Timestamp, makeTasks: @escaping @Sendable (Instance) throws -> [TaskRow]
    ) async throws -> Bool {
        try await database.write { connection in
            guard var migration = try Self.find(id, connection), migration.status == .error,
                let instance = try InstanceStore.find(migration.instance, includeDeleted: true, connection),
                instance.deletedAt != nil
            else { return false }
            for task in try makeTasks(instance) { try SQLTaskStorage.insert(task, on: connection) }
            migration.status = .failed
            migration.updatedAt = now
            try Self.save(migration, connection)
            return true
        }
    }

    static func write(_ write: MigrationWrite, now: Timestamp, _ connection: SQLConnection) throws {
        switch write {
        case .insert(var migration):
            guard try find(migration.id, connection) == nil else { return }
            migration.number = try Counter.migrationNumber.next(connection)
            try save(migration, connection)
        case .verdict(let id, let status):
            guard var migration = try find(id, connection), !migration.status.isOver || migration.status == .error
            else {
                return
            }
            (migration.status, migration.failure, migration.updatedAt) = (status, nil, now)
            try save(migration, connection)
        case .change(let id, let change):
            guard var migration = try find(id, connection), !migration.status.isOver else { return }
            let before = migration
            change(&migration)
            if let host = migration.destinationHost, host != before.destinationHost {
                migration.destinationNode = try HostStore.node(of: host, connection)
            }
            guard migration != before else { return }
            migration.updatedAt = now
            try save(migration, connection)
        case .evacuation(let record): try EvacuationStore.put(record, now: now, connection)
        case .noEvacuation(let id): try EvacuationStore.remove(id, connection)
        }
    }

    static func find(_ id: MigrationID, _ connection: SQLConnection) throws -> MigrationRecord? {
        try connection.first("SELECT record FROM migrations WHERE id = ?", [.text(id.rawValue)]) {
            try Record.decode(MigrationRecord.self, $0.text(0))
        }
    }

    static func save(_ migration: MigrationRecord, _ connection: SQLConnection) throws {
        try connection.execute(
            """
            INSERT INTO migrations
                (id, number, instance_id, type, status, source_host, destination_host, user_id, project_id, created_at,
                 updated_at, record)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET status = excluded.status, destination_host = excluded.destination_host,
                updated_at = excluded.updated_at, record = excluded.record
            """,
            [
                .text(migration.id.rawValue), .integer(migration.number), .text(migration.instance.rawValue),
                .text(migration.type.rawValue), .text(migration.status.rawValue),
                .text(migration.sourceHost.rawValue), SQLValue(migration.destinationHost?.rawValue),
                .text(migration.userID.rawValue), .text(migration.projectID.rawValue),
                .integer(migration.createdAt.microseconds), .integer(migration.updatedAt.microseconds),
                .text(try Record.encode(migration)),
            ])
    }
}
