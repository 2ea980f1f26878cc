public import Model
internal import SQL

/// The limits that administrators have set: for the class `default`, for projects, for users in projects.
public struct QuotaStore: Sendable {
    let database: any SQLDatabase

    /// What is in force for a project, and for one of its users.
    public struct Limits: Sendable, Hashable {
        public var project: QuotaLimits
        /// The user's own where set, else the project's.
        public var user: QuotaLimits

        public init(project: QuotaLimits, user: QuotaLimits) { (self.project, self.user) = (project, user) }
    }

    /// What there is of the resources that are counted; the others are 0.
    public struct InUse: Sendable, Hashable {
        private var amounts: [QuotaResource: Int]

        init(_ usage: InstanceStore.Usage, keyPairs: Int, serverGroups: Int) {
            amounts = [
                .instances: usage.instances, .cores: usage.cores, .ram: usage.memoryMiB, .keyPairs: keyPairs,
                .serverGroups: serverGroups,
            ]
        }

        public subscript(_ resource: QuotaResource) -> Int { amounts[resource] ?? 0 }
    }

    static let component = "quota"

    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE quotas (
                    project_id TEXT NOT NULL, user_id TEXT NOT NULL, resource TEXT NOT NULL, hard_limit BIGINT NOT NULL,
                    PRIMARY KEY (project_id, user_id, resource));
                CREATE TABLE quota_classes (
                    class_name TEXT NOT NULL, resource TEXT NOT NULL, hard_limit BIGINT NOT NULL,
                    PRIMARY KEY (class_name, resource));
                """)
    ]

    /// The limits of every project that has none of its own: those of the class `default` over what is `configured`.
    public func defaults(configured: QuotaLimits) async throws -> QuotaLimits {
        try await database.read { try Self.defaults(configured, $0) }
    }

    /// - Parameter user: whose limits the answer's `user` are; without one they are the project's.
    public func limits(
        of project: ProjectID, user: UserID? = nil, configured: QuotaLimits
    ) async throws -> Limits {
        try await database.read { try Self.limits(of: project, user: user, configured: configured, $0) }
    }

    /// Limits and use in one look. With a user, what the user has of the project; else what the project has, which has no
    /// key pairs: they are the users'.
    public func report(
        of project: ProjectID, user: UserID? = nil, configured: QuotaLimits
    ) async throws -> (limits: Limits, inUse: InUse) {
        try await database.read { connection in
            (
                try Self.limits(of: project, user: user, configured: configured, connection),
                try Self.inUse(project, user, connection)
            )
        }
    }

    /// Sets limits of the class `default`; the others stay. Answers what is in force then.
    public func setDefaults(_ limits: [QuotaResource: Int], configured: QuotaLimits) async throws -> QuotaLimits {
        try await database.write { connection in
            for (resource, limit) in limits {
                try connection.execute(
                    """
                    INSERT INTO quota_classes (class_name, resource, hard_limit) VALUES ('default', ?, ?)
                    ON CONFLICT (class_name, resource) DO UPDATE SET hard_limit = excluded.hard_limit
                    """, [.text(resource.rawValue), SQLValue(limit)])
            }
            return try Self.defaults(configured, connection)
        }
    }

    /// Sets limits of a project, or of a user in it; the others stay. Answers what is in force then.
    ///
    /// `admit` sees what was in force and what is used, in the same transaction; what it throws aborts all.
    public func set(
        _ limits: [QuotaResource: Int], of project: ProjectID, user: UserID? = nil, configured: QuotaLimits,
        admit: @escaping @Sendable (Limits, InUse) throws -> Void = { _, _ in }
    ) async throws -> Limits {
        try await database.write { connection in
            try admit(
                try Self.limits(of: project, user: user, configured: configured, connection),
                try Self.inUse(project, user, connection))
            for (resource, limit) in limits {
                try connection.execute(
                    """
                    INSERT INTO quotas (project_id, user_id, resource, hard_limit) VALUES (?, ?, ?, ?)
                    ON CONFLICT (project_id, user_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit
                    """, Self.owner(project, user) + [.text(resource.rawValue), SQLValue(limit)])
            }
            return try Self.limits(of: project, user: user, configured: configured, connection)
        }
    }

    /// Takes back what was set for the user in the project, or for the project and all users in it.
    public func remove(project: ProjectID, user: UserID? = nil) async throws {
        try await database.write { connection in
            if user == nil {
                try connection.execute("DELETE FROM quotas WHERE project_id = ?", [.text(project.rawValue)])
            } else {
                try connection.execute(
                    "DELETE FROM quotas WHERE project_id = ? AND user_id = ?", Self.owner(project, user))
            }
        }
    }

    /// A project's own rows have the empty user: a column of a primary key is not null.
    private static func owner(_ project: ProjectID, _ user: UserID?) -> [SQLValue] {
        [.text(project.rawValue), .text(user?.rawValue ?? "")]
    }

    private static func defaults(_ configured: QuotaLimits, _ connection: SQLConnection) throws -> QuotaLimits {
        configured.overridden(
            by: try rows("quota_classes WHERE class_name = 'default'", [], connection))
    }

    private static func limits(
        of project: ProjectID, user: UserID?, configured: QuotaLimits, _ connection: SQLConnection
    ) throws -> Limits {
        func own(_ user: UserID?) throws -> [QuotaResource: Int] {
            try rows("quotas WHERE project_id = ? AND user_id = ?", owner(project, user), connection)
        }
        let forProject = try defaults(configured, connection).overridden(by: try own(nil))
        guard let user, !user.rawValue.isEmpty else { return Limits(project: forProject, user: forProject) }
        return Limits(project: forProject, user: forProject.overridden(by: try own(user)))
    }

    private static func rows(
        _ source: String, _ values: [SQLValue], _ connection: SQLConnection
    ) throws -> [QuotaResource: Int] {
        let found = try connection.query("SELECT resource, hard_limit FROM \(source)", values) {
            (QuotaResource(rawValue: $0.text(0)), $0.int(1))
        }
        // A newer program may have stored resources that this one does not know.
        return Dictionary(
            found.compactMap { name, limit in name.map { ($0, limit) } }, uniquingKeysWith: { first, _ in first })
    }

    private static func inUse(
        _ project: ProjectID, _ user: UserID?, _ connection: SQLConnection
    ) throws -> InUse {
        let usage = try InstanceStore.usage(of: project, user: user, connection)
        let groups = try ServerGroupStore.count(project, user, connection)
        guard let user else { return InUse(usage.project, keyPairs: 0, serverGroups: groups) }
        return InUse(
            usage.user, keyPairs: try KeyPairStore.count(of: user, connection), serverGroups: groups)
    }
}
