public import Model
internal import SQL

/// Which projects may use the flavors that are not public.
public struct FlavorAccessStore: Sendable {
    let database: any SQLDatabase

    static let component = "flavor_access"

    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE flavor_access (
                    flavor_id TEXT NOT NULL, project_id TEXT NOT NULL, PRIMARY KEY (flavor_id, project_id));
                CREATE INDEX flavor_access_by_project ON flavor_access (project_id);
                """)
    ]

    /// The projects that have access to a flavor, sorted.
    public func projects(of flavor: FlavorID) async throws -> [ProjectID] {
        try await database.read { connection in try Self.projects(of: flavor, connection) }
    }

    /// The flavors that are not public and that a project may use all the same.
    public func flavors(of project: ProjectID) async throws -> Set<FlavorID> {
        try await database.read { connection in
            Set(
                try connection.query(
                    "SELECT flavor_id FROM flavor_access WHERE project_id = ?", [.text(project.rawValue)]
                ) { FlavorID($0.text(0)) })
        }
    }

    /// Whether a project may use a flavor that is not public.
    public func isGranted(_ flavor: FlavorID, to project: ProjectID) async throws -> Bool {
        try await database.read { connection in try Self.isGranted(flavor, project, connection) }
    }

    /// Gives a project access, and returns all that have it. Throws `.exists` when it has it already, `.notFound` when
    /// the flavor is gone.
    public func grant(_ flavor: FlavorID, to project: ProjectID) async throws -> [ProjectID] {
        try await database.write { connection in
            try Self.require(flavor, connection)
            guard try !Self.isGranted(flavor, project, connection) else {
                throw StoreError.exists("Access of project \(project) to flavor \(flavor)")
            }
            try connection.execute(
                "INSERT INTO flavor_access (flavor_id, project_id) VALUES (?, ?)",
                [.text(flavor.rawValue), .text(project.rawValue)])
            return try Self.projects(of: flavor, connection)
        }
    }

    /// Takes a project's access, and returns all that have it still. Throws `.notFound` when it had none.
    public func revoke(_ flavor: FlavorID, from project: ProjectID) async throws -> [ProjectID] {
        try await database.write { connection in
            try Self.require(flavor, connection)
            let removed = try connection.execute(
                "DELETE FROM flavor_access WHERE flavor_id = ? AND project_id = ?",
                [.text(flavor.rawValue), .text(project.rawValue)])
            guard removed > 0 else { throw StoreError.notFound("Access of project \(project) to flavor \(flavor)") }
            return try Self.projects(of: flavor, connection)
        }
    }

    /// Forgets who had access to a flavor that is removed in the same transaction.
    static func remove(_ flavor: FlavorID, _ connection: SQLConnection) throws {
        try connection.execute("DELETE FROM flavor_access WHERE flavor_id = ?", [.text(flavor.rawValue)])
    }

    private static func require(_ flavor: FlavorID, _ connection: SQLConnection) throws {
        let found = try connection.first("SELECT 1 FROM flavors WHERE id = ?", [.text(flavor.rawValue)]) { $0.int(0) }
        guard found != nil else { throw StoreError.notFound("Flavor \(flavor)") }
    }

    private static func isGranted(
        _ flavor: FlavorID, _ project: ProjectID, _ connection: SQLConnection
    ) throws -> Bool {
        try connection.first(
            "SELECT 1 FROM flavor_access WHERE flavor_id = ? AND project_id = ?",
            [.text(flavor.rawValue), .text(project.rawValue)]
        ) { $0.int(0) } != nil
    }

    private static func projects(of flavor: FlavorID, _ connection: SQLConnection) throws -> [ProjectID] {
        try connection.query(
            "SELECT project_id FROM flavor_access WHERE flavor_id = ? ORDER BY project_id", [.text(flavor.rawValue)]
        ) { ProjectID($0.text(0)) }
    }
}
