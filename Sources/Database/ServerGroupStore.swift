public import Model
internal import SQL

/// More server groups, or members of one, than the quota has.
public struct ServerGroupLimitReached: Error, Sendable, Hashable {
    public var resource: QuotaResource
    public var used: Int
    public var limit: Int
}

/// The server groups.
public struct ServerGroupStore: Sendable {
    let database: any SQLDatabase

    /// A group as the scheduler needs it: with where its members are.
    public struct Placed: Sendable, Hashable {
        public var group: ServerGroup
        /// The host of each member that has one.
        public var hosts: [InstanceID: HostName]
        /// Those that are being built and have none yet.
        public var unplaced: Set<InstanceID>
    }

    static let component = "server-groups"

    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE server_groups (
                    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, user_id TEXT NOT NULL, name TEXT NOT NULL,
                    policy TEXT NOT NULL, max_servers_per_host BIGINT, created_at BIGINT NOT NULL);
                CREATE INDEX server_groups_by_project ON server_groups (project_id, created_at, id);
                CREATE TABLE server_group_members (
                    instance_id TEXT PRIMARY KEY, group_id TEXT NOT NULL, position BIGINT NOT NULL);
                CREATE INDEX server_group_members_by_group ON server_group_members (group_id, position);
                """)
    ]

    /// - Parameter limit: how many groups the project, and the user in it, may have; negative is without end.
    public func create(_ group: ServerGroup, projectLimit: Int, userLimit: Int) async throws {
        try await database.write { connection in
            for (limit, clause) in [(projectLimit, ""), (userLimit, " AND user_id = ?")] where limit >= 0 {
                let owner =
                    [.text(group.projectID.rawValue)] + (clause.isEmpty ? [] : [SQLValue.text(group.userID.rawValue)])
                let used = try connection.first(
                    "SELECT COUNT(*) FROM server_groups WHERE project_id = ?" + clause, owner
                ) { $0.int(0) }
                if let used, used >= limit {
                    throw ServerGroupLimitReached(resource: .serverGroups, used: used, limit: limit)
                }
            }
            try connection.execute(
                """
                INSERT INTO server_groups (id, project_id, user_id, name, policy, max_servers_per_host, created_at)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    .text(group.id.rawValue), .text(group.projectID.rawValue), .text(group.userID.rawValue),
                    .text(group.name), .text(group.policy.rawValue), SQLValue(group.maxServersPerHost),
                    .integer(group.createdAt.microseconds),
                ])
        }
    }

    /// In the order in which they were made.
    ///
    /// - Parameter project: whose; `nil`: everybody's.
    public func list(of project: ProjectID?) async throws -> [ServerGroup] {
        try await database.read { connection in
            let clause = project == nil ? "" : " WHERE project_id = ?"
            let owner = project.map { [SQLValue.text($0.rawValue)] } ?? []
            var groups = try connection.query(
                Self.columns + clause + " ORDER BY created_at, id", owner, Self.record)
            let members = try connection.query(
                """
                SELECT m.group_id, m.instance_id FROM server_group_members m JOIN instances i ON i.id = m.instance_id
                WHERE i.deleted_at IS NULL
                """ + (project == nil ? "" : " AND i.project_id = ?") + " ORDER BY m.group_id, m.position", owner
            ) { (ServerGroupID($0.text(0)), InstanceID($0.text(1))) }
            let byGroup = Dictionary(grouping: members, by: \.0)
            for index in groups.indices { groups[index].members = byGroup[groups[index].id]?.map(\.1) ?? [] }
            return groups
        }
    }

    public func find(_ id: ServerGroupID) async throws -> ServerGroup? {
        try await database.read { try Self.find(id, $0)?.group }
    }

    /// The group of an instance, and where its members are; `nil` for one that is in none.
    public func placed(of instance: InstanceID) async throws -> Placed? {
        try await database.read { connection in
            guard let id = try Self.groupID(of: instance, connection) else { return nil }
            return try Self.find(id, connection)
        }
    }

    /// The group of each of these instances that is in one.
    public func groups(of instances: [InstanceID]) async throws -> [InstanceID: ServerGroupID] {
        try await database.read { connection in
            var found: [InstanceID: ServerGroupID] = [:]
            for id in instances { found[id] = try Self.groupID(of: id, connection) }
            return found
        }
    }

    /// Throws `.notFound`. Its servers stay; they are in no group then.
    public func delete(_ id: ServerGroupID) async throws {
        try await database.write { connection in
            guard try connection.execute("DELETE FROM server_groups WHERE id = ?", [.text(id.rawValue)]) > 0 else {
                throw StoreError.notFound("Instance group \(id)")
            }
            try connection.execute("DELETE FROM server_group_members WHERE group_id = ?", [.text(id.rawValue)])
        }
    }

    /// Puts new instances into a group; part of the transaction that makes them. Throws `.notFound` when the group has
    /// gone meanwhile, `ServerGroupLimitReached` when it would have more members than `limit`; negative is without end.
    static func add(
        _ instances: [InstanceID], to id: ServerGroupID, limit: Int, _ connection: SQLConnection
    ) throws {
        guard let group = try find(id, connection)?.group else { throw StoreError.notFound("Instance group \(id)") }
        guard limit < 0 || group.members.count + instances.count <= limit else {
            throw ServerGroupLimitReached(
                resource: .serverGroupMembers, used: group.members.count, limit: limit)
        }
        for instance in instances {
            try connection.execute(
                """
                INSERT INTO server_group_members (instance_id, group_id, position)
                SELECT ?, ?, COALESCE(MAX(position), 0) + 1 FROM server_group_members WHERE group_id = ?
                """, [.text(instance.rawValue), .text(id.rawValue), .text(id.rawValue)])
        }
    }

    /// Why an instance may not come to `host` by its group's policy; `nil` where it may. Part of the transaction that puts
    /// it there, so that of two at once the second sees the first.
    static func objection(
        to host: HostName, for instance: InstanceID, _ connection: SQLConnection
    ) throws -> String? {
        guard let id = try groupID(of: instance, connection), let placed = try find(id, connection) else { return nil }
        let others = placed.hosts.filter { $0.key != instance }
        switch placed.group.policy {
        case .antiAffinity:
            let (count, most) = (others.values.count { $0 == host }, max(1, placed.group.maxServersPerHost ?? 1))
            guard count >= most else { return nil }
            return "has \(count) of at most \(most) servers of the anti-affinity group \(placed.group.name)"
        case .affinity:
            guard let other = others.values.first, !others.values.contains(host) else { return nil }
            return "is not \(other), where the servers of the affinity group \(placed.group.name) are"
        case .softAffinity, .softAntiAffinity: return nil
        }
    }

    /// How many groups a project has, or a user in it.
    static func count(_ project: ProjectID, _ user: UserID?, _ connection: SQLConnection) throws -> Int {
        let owner = [SQLValue.text(project.rawValue)] + (user.map { [.text($0.rawValue)] } ?? [])
        return try connection.first(
            "SELECT COUNT(*) FROM server_groups WHERE project_id = ?" + (user == nil ? "" : " AND user_id = ?"), owner
        ) { $0.int(0) } ?? 0
    }

    private static func groupID(of instance: InstanceID, _ connection: SQLConnection) throws -> ServerGroupID? {
        try connection.first(
            "SELECT group_id FROM server_group_members WHERE instance_id = ?", [.text(instance.rawValue)]
        ) { ServerGroupID($0.text(0)) }
    }

    private static let columns =
        "SELECT id, project_id, user_id, name, policy, max_servers_per_host, created_at FROM server_groups"

    private static func record(_ row: borrowing SQLRow) throws -> ServerGroup {
        guard let policy = ServerGroup.Policy(rawValue: row.text(4)) else {
            throw StoreError.notFound("The policy '\(row.text(4))' of server group \(row.text(0))")
        }
        return ServerGroup(
            id: ServerGroupID(row.text(0)), projectID: ProjectID(row.text(1)), userID: UserID(row.text(2)),
            name: row.text(3), policy: policy, maxServersPerHost: row.int64OrNil(5).map { Int($0) },
            createdAt: Timestamp(microseconds: row.int64(6)))
    }

    private static func find(_ id: ServerGroupID, _ connection: SQLConnection) throws -> Placed? {
        guard var group = try connection.first(columns + " WHERE id = ?", [.text(id.rawValue)], record) else {
            return nil
        }
        let members = try connection.query(
            """
            SELECT m.instance_id, i.host, i.vm_state FROM server_group_members m JOIN instances i ON i.id = m.instance_id
            WHERE m.group_id = ? AND i.deleted_at IS NULL ORDER BY m.position
            """, [.text(id.rawValue)]
        ) { (InstanceID($0.text(0)), $0.textOrNil(1).map { HostName($0) }, VMState(rawValue: $0.text(2))) }
        group.members = members.map(\.0)
        return Placed(
            group: group,
            hosts: Dictionary(uniqueKeysWithValues: members.compactMap { id, host, _ in host.map { (id, $0) } }),
            unplaced: Set(members.filter { $0.1 == nil && $0.2 == .building }.map(\.0)))
    }
}
