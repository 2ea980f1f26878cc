/// One step of a schema, applied once and never changed after its release.
public struct Migration: Sendable, Hashable {
    /// Rising from 1 within a component.
    public let version: Int
    /// One or more statements, without transaction statements.
    public let sql: String

    public init(version: Int, sql: String) { (self.version, self.sql) = (version, sql) }
}

extension SQLiteDatabase {
    /// Brings `component`'s schema to the newest version of `migrations`, in one transaction.
    ///
    /// Throws `.newerSchema` when the file was written by a program that knows a newer one, and changes nothing then.
    public func migrate(_ migrations: [Migration], component: String) async throws {
        try await migrate([(component, migrations)])
    }

    /// Brings the schemas of several components to their newest versions, in their order and in one transaction. Where
    /// all are there it only looks: of many processes that start at once none waits long for the others.
    public func migrate(_ schemas: [(component: String, migrations: [Migration])]) async throws {
        for (component, migrations) in schemas {
            let versions = migrations.map(\.version)
            guard Set(versions).count == versions.count, versions.allSatisfy({ $0 > 0 }) else {
                throw SQLiteError(
                    .misuse, "two migrations of \(component) have the same version, or one is below 1")
            }
        }
        let isUpToDate = try await read { connection in
            let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_versions'"
            guard try connection.first(table, [], { $0.int(0) }) != nil else { return false }
            return try schemas.allSatisfy { component, migrations in
                try connection.schemaVersion(of: component) == migrations.map(\.version).max() ?? 0
            }
        }
        guard !isUpToDate else { return }
        try await write { connection in
            try connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (component TEXT PRIMARY KEY, version BIGINT NOT NULL)")
            for (component, migrations) in schemas { try connection.migrate(migrations, component) }
        }
    }
}

extension SQLiteConnection {
    fileprivate func schemaVersion(of component: String) throws -> Int {
        try first("SELECT version FROM schema_versions WHERE component = ?", [.text(component)]) { $0.int(0) } ?? 0
    }

    fileprivate func migrate(_ migrations: [Migration], _ component: String) throws {
        let known = migrations.map(\.version).max() ?? 0
        let found = try schemaVersion(of: component)
        guard found <= known else {
            throw SQLiteError(
                .newerSchema(component: component, found: found, known: known),
                "the schema \"\(component)\" is at version \(found), this program knows \(known): it is too old")
        }
        guard found < known else { return }
        for migration in migrations.sorted(by: { $0.version < $1.version }) where migration.version > found {
            try executeScript(migration.sql)
        }
        try execute(
            """
            INSERT INTO schema_versions (component, version) VALUES (?, ?)
            ON CONFLICT (component) DO UPDATE SET version = excluded.version
            """, [.text(component), SQLValue(known)])
    }
}
