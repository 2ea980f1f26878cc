public import Model
internal import SQL

/// That an instance was taken from a host that an operator called dead: what the host is to be told when it returns, and
/// the only evidence by which it removes anything.
public struct EvacuationRecord: Sendable, Hashable {
    public var migration: MigrationID
    public var instance: InstanceID
    /// The host that was given up.
    public var source: HostName
    /// Of the request. A host that has had a newer command for the instance has it by that one.
    public var generation: Int64
    /// Whether the new guest stands on the very disks that the source has; `nil` before anybody knows.
    public var sharesDisks: Bool?

    public init(
        migration: MigrationID, instance: InstanceID, source: HostName, generation: Int64, sharesDisks: Bool? = nil
    ) {
        (self.migration, self.instance, self.source) = (migration, instance, source)
        (self.generation, self.sharesDisks) = (generation, sharesDisks)
    }
}

/// What to ask an evacuation for besides its destination.
public struct EvacuationRequest: Sendable, Hashable, Codable {
    /// Of the administrator in a guest that is made afresh; removed once it has been used, or cannot be any more.
    public var adminPassword: String?
    /// What the caller says of the disks; `nil` lets the destination look.
    public var sharesDisks: Bool?
    /// Whether the scheduler is not asked about the host that was named.
    public var isForced: Bool

    public init(adminPassword: String?, sharesDisks: Bool? = nil, isForced: Bool = false) {
        (self.adminPassword, self.sharesDisks, self.isForced) = (adminPassword, sharesDisks, isForced)
    }
}

/// The evacuations that their source has not answered for yet, a row each: made with the request, removed when the
/// evacuation has failed, or when its source says that nothing of the instance is left there.
public struct EvacuationStore: Sendable {
    static let component = "evacuations"
    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE evacuations (
                    migration_id TEXT PRIMARY KEY, instance_id TEXT NOT NULL, source_host TEXT NOT NULL,
                    generation BIGINT NOT NULL, shares_disks BIGINT, created_at BIGINT NOT NULL);
                CREATE INDEX evacuations_by_source ON evacuations (source_host);
                """)
    ]

    let database: any SQLDatabase

    /// The hosts that have evacuations to answer for.
    public func hosts() async throws -> Set<HostName> {
        try await database.read { connection in
            Set(try connection.query("SELECT DISTINCT source_host FROM evacuations") { HostName($0.text(0)) })
        }
    }

    /// Those from `host`, the oldest first.
    public func list(from host: HostName) async throws -> [EvacuationRecord] {
        try await database.read { connection in
            try connection.query(
                """
                SELECT migration_id, instance_id, source_host, generation, shares_disks FROM evacuations
                WHERE source_host = ? ORDER BY created_at, migration_id
                """, [.text(host.rawValue)]
            ) { row in
                EvacuationRecord(
                    migration: MigrationID(row.text(0)), instance: InstanceID(row.text(1)),
                    source: HostName(row.text(2)), generation: row.int64(3),
                    sharesDisks: row.int64OrNil(4).map { $0 != 0 })
            }
        }
    }

    /// The source has answered: nothing of these instances is left there. Those of other hosts stay.
    public func confirm(_ migrations: [MigrationID], by host: HostName, now: Timestamp) async throws {
        try await database.write { connection in
            for id in migrations {
                let known = try connection.execute(
                    "DELETE FROM evacuations WHERE migration_id = ? AND source_host = ?",
                    [.text(id.rawValue), .text(host.rawValue)])
                if known > 0 { try Self.noteService(of: host, connection) }
                guard known > 0, var migration = try MigrationStore.find(id, connection), migration.status == .done
                else { continue }
                (migration.status, migration.updatedAt) = (.completed, now)
                try MigrationStore.save(migration, connection)
            }
        }
    }

    /// Forgets one of which nothing has come.
    public func forget(_ id: MigrationID) async throws {
        try await database.write { try Self.remove(id, $0) }
    }

    static func put(_ record: EvacuationRecord, now: Timestamp, _ connection: SQLConnection) throws {
        try connection.execute(
            """
            INSERT INTO evacuations (migration_id, instance_id, source_host, generation, shares_disks, created_at)
            VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (migration_id) DO UPDATE SET shares_disks = excluded.shares_disks
            """,
            [
                .text(record.migration.rawValue), .text(record.instance.rawValue), .text(record.source.rawValue),
                .integer(record.generation), SQLValue(record.sharesDisks),
                .integer(now.microseconds),
            ])
        try noteService(of: record.source, connection)
    }

    static func remove(_ id: MigrationID, _ connection: SQLConnection) throws {
        let source = try connection.first(
            "SELECT source_host FROM evacuations WHERE migration_id = ?", [.text(id.rawValue)]
        ) { HostName($0.text(0)) }
        guard let source else { return }
        try connection.execute("DELETE FROM evacuations WHERE migration_id = ?", [.text(id.rawValue)])
        try noteService(of: source, connection)
    }

    /// Whether the host is up may have changed: who has read its service reads it again.
    private static func noteService(of host: HostName, _ connection: SQLConnection) throws {
        try connection.execute(
            "UPDATE services SET revision = ? WHERE host = ? AND binary_name = 'nova-compute'",
            [.integer(try Counter.serviceRevision.next(connection)), .text(host.rawValue)])
    }
}
