internal import SQL
internal import TaskStore

/// A schema in a database and in this program.
public struct SchemaState: Sendable, Hashable {
    public var component: String
    /// The version in the database; 0 where it is not there yet.
    public var found: Int
    /// The newest that this program knows; `nil` for a component of a newer program.
    public var known: Int?
}

/// What versions the schemas in a database have.
struct SchemaVersions {
    /// By component; empty in a database that has none.
    let found: [String: Int]

    init(_ connection: SQLConnection) throws {
        guard try connection.hasTable("schema_versions") else {
            found = [:]
            return
        }
        found = Dictionary(
            try connection.query("SELECT component, version FROM schema_versions") { ($0.text(0), $0.int(1)) }
        ) { first, _ in first }
    }
}

extension ControlDatabase {
    /// The schemas' versions in a database, which is not changed. Throws `SQLError` when it cannot be opened.
    public static func schemas(_ location: DatabaseLocation) async throws -> [SchemaState] {
        let database = try await location.open()
        let found: [String: Int]
        do {
            found = try await database.read { try SchemaVersions($0).found }
        } catch {
            await database.close()
            throw error
        }
        await database.close()
        let known = Dictionary(
            uniqueKeysWithValues: Self.schemas.map { ($0.component, $0.migrations.map(\.version).max() ?? 0) })
        return Set(found.keys).union(known.keys).sorted().map {
            SchemaState(component: $0, found: found[$0] ?? 0, known: known[$0])
        }
    }
}
