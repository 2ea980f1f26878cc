/// One step of a schema, applied once and never changed after its release.
public struct Migration: Sendable, Hashable {
    /// Rising from 1 within a component.
    public let version: Int
    /// One or more statements, without transaction statements.
    public let sql: String

    public init(version: Int, sql: String) { (self.version, self.sql) = (version, sql) }
}

/// What the engines' `migrate` have in common.
public struct SchemaMigration: Sendable {
    private let schemas: [(component: String, migrations: [Migration])]

    /// Throws `.misuse` when two migrations of a component have the same version, or one is below 1.
    public init(_ schemas: [(component: String, migrations: [Migration])]) throws(SQLError) {
        for (component, migrations) in schemas {
            let versions = migrations.map(\.version)
            guard Set(versions).count == versions.count, versions.allSatisfy({ $0 > 0 }) else {
                throw SQLError(
                    .misuse, "two migrations of \(component) have the same version, or one is below 1")
            }
        }
        self.schemas = schemas
    }

    /// Whether there is nothing to do; in a reading transaction.
    public func isDone(_ connection: SQLConnection) throws -> Bool {
        guard try connection.hasTable("schema_versions") else { return false }
        return try schemas.allSatisfy { component, migrations in
            try connection.schemaVersion(of: component) == migrations.map(\.version).max() ?? 0
        }
    }

    /// Does what is left to do; in a writing transaction that no other migration runs beside.
    public func run(_ connection: SQLConnection) throws {
        try connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_versions (component TEXT PRIMARY KEY, version BIGINT NOT NULL)")
        for (component, migrations) in schemas { try connection.migrate(migrations, component) }
    }
}

extension SQLConnection {
    fileprivate func schemaVersion(of component: String) throws -> Int {
        try first("SELECT version FROM schema_versions WHERE component = ?", [.text(component)]) { $0.int(0) } ?? 0
    }

    fileprivate func migrate(_ migrations: [Migration], _ component: String) throws {
        let known = migrations.map(\.version).max() ?? 0
        let found = try schemaVersion(of: component)
        guard found <= known else {
            throw SQLError(
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
