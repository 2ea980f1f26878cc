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
        let ordered = migrations.sorted { $0.version < $1.version }
        let known = ordered.last?.version ?? 0
        guard Set(ordered.map(\.version)).count == ordered.count, ordered.allSatisfy({ $0.version > 0 }) else {
            throw SQLiteError(.misuse, "two migrations of \(component) have the same version, or one is below 1")
        }
        try await write { connection in
            try connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (component TEXT PRIMARY KEY, version BIGINT NOT NULL)")
            let found =
                try connection.first("SELECT version FROM schema_versions WHERE component = ?", [.text(component)]) {
                    $0.int(0)
                } ?? 0
            guard found <= known else {
                throw SQLiteError(
                    .newerSchema(component: component, found: found, known: known),
                    "the schema \"\(component)\" is at version \(found), this program knows \(known): it is too old")
            }
            for migration in ordered where migration.version > found {
                try connection.executeScript(migration.sql)
            }
            guard found < known else { return }
            try connection.execute(
                """
                INSERT INTO schema_versions (component, version) VALUES (?, ?)
                ON CONFLICT (component) DO UPDATE SET version = excluded.version
                """, [.text(component), SQLValue(known)])
        }
    }
}
