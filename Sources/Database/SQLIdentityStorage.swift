internal import Identity
internal import Model
internal import SQL

/// The embedded identity service's records: columns for what is searched and unique, JSON for the rest.
struct SQLIdentityStorage: IdentityStorage {
    static let component = "identity"
    static let migrations = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE identity_domains (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
                CREATE TABLE identity_projects (
                    id TEXT PRIMARY KEY, domain_id TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL,
                    UNIQUE (domain_id, name));
                CREATE TABLE identity_users (
                    id TEXT PRIMARY KEY, domain_id TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL,
                    UNIQUE (domain_id, name));
                CREATE TABLE identity_roles (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
                CREATE TABLE identity_assignments (
                    user_id TEXT NOT NULL, scope_kind TEXT NOT NULL, scope_target TEXT NOT NULL, role_id TEXT NOT NULL,
                    PRIMARY KEY (user_id, scope_kind, scope_target, role_id));
                CREATE INDEX identity_assignments_by_scope ON identity_assignments (scope_kind, scope_target);
                CREATE TABLE identity_tokens (
                    hash TEXT PRIMARY KEY, user_id TEXT NOT NULL, scope_kind TEXT, scope_target TEXT,
                    expires_at BIGINT NOT NULL, record TEXT NOT NULL);
                CREATE INDEX identity_tokens_by_user ON identity_tokens (user_id);
                CREATE INDEX identity_tokens_by_scope ON identity_tokens (scope_kind, scope_target);
                CREATE INDEX identity_tokens_by_end ON identity_tokens (expires_at);
                """)
    ]

    let database: any SQLDatabase

    // MARK: Domains

    func insert(_ domain: DomainRecord) async throws {
        let record = SQLValue.text(try Record.encode(domain))
        try await database.write { connection in
            try refusingDuplicates("domain", domain.name) {
                try connection.execute(
                    "INSERT INTO identity_domains (id, name, record) VALUES (?, ?, ?)",
                    [.text(domain.id), .text(domain.name), record])
            }
        }
    }

    func findDomain(id: String) async throws -> DomainRecord? {
        try await first("identity_domains WHERE id = ?", [.text(id)])
    }

    func findDomain(name: String) async throws -> DomainRecord? {
        try await first("identity_domains WHERE name = ?", [.text(name)])
    }

    func listDomains() async throws -> [DomainRecord] {
        try await all("identity_domains ORDER BY name, id", [])
    }

    func update(_ domain: DomainRecord) async throws -> Bool {
        let record = SQLValue.text(try Record.encode(domain))
        return try await database.write { connection in
            try refusingDuplicates("domain", domain.name) {
                try connection.execute(
                    "UPDATE identity_domains SET name = ?, record = ? WHERE id = ?",
                    [.text(domain.name), record, .text(domain.id)]) > 0
            }
        }
    }

    func deleteDomain(id: String) async throws -> Bool {
        try await database.write { connection in
            let domain = [SQLValue.text(id)]
            for (table, kind) in [("identity_projects", "project"), ("identity_users", "user")] {
                let ids = try connection.query("SELECT id FROM \(table) WHERE domain_id = ?", domain) { $0.text(0) }
                for id in ids {
                    if kind == "user" {
                        try Self.removeUser(id, connection)
                    } else {
                        try Self.removeScope(kind, id, connection)
                    }
                }
                try connection.execute("DELETE FROM \(table) WHERE domain_id = ?", domain)
            }
            try Self.removeScope("domain", id, connection)
            return try connection.execute("DELETE FROM identity_domains WHERE id = ?", domain) > 0
        }
    }

    // MARK: Projects

    func insert(_ project: ProjectRecord) async throws {
        let record = SQLValue.text(try Record.encode(project))
        try await database.write { connection in
            try refusingDuplicates("project", project.name) {
                try connection.execute(
                    "INSERT INTO identity_projects (id, domain_id, name, record) VALUES (?, ?, ?, ?)",
                    [.text(project.id.rawValue), .text(project.domainID), .text(project.name), record])
            }
        }
    }

    func findProject(id: ProjectID) async throws -> ProjectRecord? {
        try await first("identity_projects WHERE id = ?", [.text(id.rawValue)])
    }

    func findProject(name: String, domainID: String) async throws -> ProjectRecord? {
        try await first("identity_projects WHERE domain_id = ? AND name = ?", [.text(domainID), .text(name)])
    }

    func listProjects(name: String?, domainID: String?) async throws -> [ProjectRecord] {
        try await matching("identity_projects", name: name, domainID: domainID)
    }

    func update(_ project: ProjectRecord) async throws -> Bool {
        let record = SQLValue.text(try Record.encode(project))
        return try await database.write { connection in
            try refusingDuplicates("project", project.name) {
                try connection.execute(
                    "UPDATE identity_projects SET domain_id = ?, name = ?, record = ? WHERE id = ?",
                    [.text(project.domainID), .text(project.name), record, .text(project.id.rawValue)]) > 0
            }
        }
    }

    func deleteProject(id: ProjectID) async throws -> Bool {
        try await database.write { connection in
            try Self.removeScope("project", id.rawValue, connection)
            return try connection.execute("DELETE FROM identity_projects WHERE id = ?", [.text(id.rawValue)]) > 0
        }
    }

    // MARK: Users

    func insert(_ user: UserRecord) async throws {
        let record = SQLValue.text(try Record.encode(user))
        try await database.write { connection in
            try refusingDuplicates("user", user.name) {
                try connection.execute(
                    "INSERT INTO identity_users (id, domain_id, name, record) VALUES (?, ?, ?, ?)",
                    [.text(user.id.rawValue), .text(user.domainID), .text(user.name), record])
            }
        }
    }

    func findUser(id: UserID) async throws -> UserRecord? {
        try await first("identity_users WHERE id = ?", [.text(id.rawValue)])
    }

    func findUser(name: String, domainID: String) async throws -> UserRecord? {
        try await first("identity_users WHERE domain_id = ? AND name = ?", [.text(domainID), .text(name)])
    }

    func listUsers(name: String?, domainID: String?) async throws -> [UserRecord] {
        try await matching("identity_users", name: name, domainID: domainID)
    }

    func update(_ user: UserRecord) async throws -> Bool {
        let record = SQLValue.text(try Record.encode(user))
        return try await database.write { connection in
            try refusingDuplicates("user", user.name) {
                try connection.execute(
                    "UPDATE identity_users SET domain_id = ?, name = ?, record = ? WHERE id = ?",
                    [.text(user.domainID), .text(user.name), record, .text(user.id.rawValue)]) > 0
            }
        }
    }

    func deleteUser(id: UserID) async throws -> Bool {
        try await database.write { connection in
            try Self.removeUser(id.rawValue, connection)
            return try connection.execute("DELETE FROM identity_users WHERE id = ?", [.text(id.rawValue)]) > 0
        }
    }
}

extension SQLIdentityStorage {
    private static func removeScope(_ kind: String, _ target: String, _ connection: SQLConnection) throws {
        for table in ["identity_assignments", "identity_tokens"] {
            try connection.execute(
                "DELETE FROM \(table) WHERE scope_kind = ? AND scope_target = ?", [.text(kind), .text(target)])
        }
    }

    private static func removeUser(_ id: String, _ connection: SQLConnection) throws {
        for table in ["identity_assignments", "identity_tokens"] {
            try connection.execute("DELETE FROM \(table) WHERE user_id = ?", [.text(id)])
        }
    }

    private func matching<T: Decodable & Sendable>(
        _ table: String, name: String?, domainID: String?
    ) async throws -> [T] {
        var conditions: [String] = []
        var values: [SQLValue] = []
        if let name {
            conditions.append("name = ?")
            values.append(.text(name))
        }
        if let domainID {
            conditions.append("domain_id = ?")
            values.append(.text(domainID))
        }
        let filter = conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")
        return try await all("\(table)\(filter) ORDER BY name, id", values)
    }

    func first<T: Decodable & Sendable>(_ rest: String, _ values: [SQLValue]) async throws -> T? {
        try await database.read { connection in
            try connection.first("SELECT record FROM \(rest)", values) { try Record.decode(T.self, $0.text(0)) }
        }
    }

    func all<T: Decodable & Sendable>(_ rest: String, _ values: [SQLValue]) async throws -> [T] {
        try await database.read { connection in
            try connection.query("SELECT record FROM \(rest)", values) { try Record.decode(T.self, $0.text(0)) }
        }
    }
}

/// A unique key that is taken, as the identity service expects to hear it.
func refusingDuplicates<T>(_ kind: String, _ name: String, _ body: () throws -> T) throws -> T {
    do {
        return try body()
    } catch let error as SQLError where error.isDuplicate {
        throw IdentityStorageError.duplicate(kind: kind, name: name)
    }
}
