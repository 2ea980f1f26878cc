public import Images
public import Model
internal import SQL
internal import TaskStore
public import Tasks

/// The servers: one row each, kept after deletion until it is purged.
public struct InstanceStore: Sendable {
    let database: any SQLDatabase
    private let known = ReadInstances()

    /// What live instances take together.
    public struct Usage: Sendable, Hashable {
        public var instances: Int
        public var cores: Int
        public var memoryMiB: Int

        public init(instances: Int = 0, cores: Int = 0, memoryMiB: Int = 0) {
            (self.instances, self.cores, self.memoryMiB) = (instances, cores, memoryMiB)
        }
    }

    /// What a project's live instances take, and those among them that are one user's.
    public struct ProjectUsage: Sendable, Hashable {
        public var project: Usage
        public var user: Usage

        public init(project: Usage, user: Usage) { (self.project, self.user) = (project, user) }
    }

    /// Inserts instances, their actions and their tasks in one transaction, and gives the instances with their numbers.
    ///
    /// `admit` sees what the instances' project and user have as it is in that transaction, before the rows; what it
    /// throws aborts all.
    public func create(
        _ instances: [Instance], actions: [InstanceAction], tasks: [TaskRow],
        group: (id: ServerGroupID, memberLimit: Int)? = nil,
        admit: (@Sendable (ProjectUsage) throws -> Void)? = nil
    ) async throws -> [Instance] {
        try await database.write { connection in
            if let admit, let first = instances.first {
                try admit(try Self.usage(of: first.projectID, user: first.userID, connection))
            }
            var made: [Instance] = []
            for var instance in instances {
                instance.number = try Counter.instanceNumber.next(connection)
                try Self.insert(instance, connection)
                made.append(instance)
            }
            if let group {
                try ServerGroupStore.add(instances.map(\.id), to: group.id, limit: group.memberLimit, connection)
            }
            for action in actions {
                try InstanceActionStore.insert(action, connection)
                guard let instance = made.first(where: { $0.id == action.instance }) else { continue }
                try InstanceNotification(instance, action).append(.start, now: action.startedAt, connection)
            }
            for task in tasks { try SQLTaskStorage.insert(task, on: connection) }
            return made
        }
    }

    /// Hosts that have an instance of another flavor than this.
    public func hosts(withOtherFlavorThan flavor: FlavorID) async throws -> Set<HostName> {
        try await database.read { connection in
            Set(
                try connection.query(
                    """
                    SELECT DISTINCT host FROM instances WHERE deleted_at IS NULL AND host IS NOT NULL AND flavor_id <> ?
                    """, [.text(flavor.rawValue)]
                ) { HostName($0.text(0)) })
        }
    }

    /// How many instances of each host were made of an image with which property: by `name=value`.
    public func imagePropertyCounts() async throws -> [HostName: [String: Int]] {
        let pairs = try await database.read { connection in
            try connection.query(
                "SELECT host, record FROM instances WHERE deleted_at IS NULL AND host IS NOT NULL", []
            ) { (HostName($0.text(0)), try Record.decode(Instance.self, $0.text(1)).imageProperties ?? [:]) }
        }
        var counts: [HostName: [String: Int]] = [:]
        for (host, properties) in pairs {
            for (name, value) in properties { counts[host, default: [:]]["\(name)=\(value)", default: 0] += 1 }
        }
        return counts
    }

    public func find(_ id: InstanceID, includeDeleted: Bool = false) async throws -> Instance? {
        try await database.read { try Self.find(id, includeDeleted: includeDeleted, $0) }
    }

    /// Changes one instance in a transaction of its own.
    ///
    /// - Parameters:
    ///   - generation: the generation that the caller knows; when the row has another, `.conflict` is thrown and nothing
    ///     changes. `nil` leaves the decision to `change`, which may throw.
    ///   - action: opens an instance action with the change; `tasks` are inserted with it.
    ///   - finishing: closes the action of that request.
    ///   - images: are registered with the change.
    ///   - migrations: what is written of its migrations with the change.
    ///   - placing: the host that the change gives it; `.groupPolicy` is thrown where its server group forbids that.
    ///   - admit: sees the row and what the live instances of its project and user take, both as they are before the
    ///     change; what it throws aborts all.
    ///   - change: gets the row as it is; runs inside the transaction and must not wait.
    public func update(
        _ id: InstanceID, generation: Int64? = nil, now: Timestamp, action: InstanceAction? = nil,
        finishing: ActionEnd? = nil, images: [ImageRecord] = [], migrations: [MigrationWrite] = [],
        placing: HostName? = nil,
        admit: (@Sendable (Instance, ProjectUsage) throws -> Void)? = nil,
        makeTasks: @escaping @Sendable (Instance) throws -> [TaskRow] = { _ in [] },
        change: @escaping @Sendable (inout Instance) throws -> Void
    ) async throws -> Instance {
        try await database.write { connection in
            guard var instance = try Self.find(id, includeDeleted: true, connection) else {
                throw StoreError.notFound("Instance \(id)")
            }
            if let generation, instance.fence.generation != generation {
                throw StoreError.conflict(current: instance)
            }
            if let placing, let reason = try ServerGroupStore.objection(to: placing, for: id, connection) {
                throw StoreError.groupPolicy(host: placing, reason: reason)
            }
            let before = instance
            let usage =
                admit == nil ? nil : try Self.usage(of: instance.projectID, user: instance.userID, connection)
            try change(&instance)
            if let placing {
                instance.node = try HostStore.node(of: placing, connection)
            } else if instance.host != before.host {
                instance.node = try instance.host.flatMap { try HostStore.node(of: $0, connection) }
            }
            // After `change`, which says first whether the request is admitted at all.
            if let admit, let usage { try admit(before, usage) }
            if instance != before {
                instance.updatedAt = now
                try Self.save(instance, connection)
            }
            if let action {
                try InstanceActionStore.insert(action, connection)
                try InstanceNotification(instance, action).append(.start, now: now, connection)
            }
            if let finishing, let ended = try InstanceActionStore.finish(id, finishing, connection) {
                var notification = InstanceNotification(instance, ended)
                notification.host = finishing.event?.host
                notification.failure = finishing.failed ? finishing.event?.details ?? "it failed" : nil
                try notification.append(finishing.failed ? .error : .end, now: now, connection)
                if let event = finishing.event, finishing.failed, finishing.isWithoutHost {
                    try TaskNotification(
                        instance: instance, requestID: ended.requestID, reason: event.details ?? "it failed"
                    ).append(ended.kind, now: now, connection)
                }
            }
            for image in images { try SQLImageStorage.insert(image, on: connection) }
            for migration in migrations { try MigrationStore.write(migration, now: now, connection) }
            for task in try makeTasks(instance) { try SQLTaskStorage.insert(task, on: connection) }
            return instance
        }
    }

    /// The live instances in `vmState` with nothing under way.
    public func idle(in vmState: VMState) async throws -> [Instance] {
        try await database.read { connection in
            try connection.query(
                """
                SELECT record FROM instances
                WHERE vm_state = ? AND task_state IS NULL AND deleted_at IS NULL ORDER BY created_at, id
                """, [.text(vmState.rawValue)]
            ) { try Record.decode(Instance.self, $0.text(0)) }
        }
    }

    /// The live instances whose reboot, asked for at `moment` or before, has not ended, and may be cut short.
    public func rebooting(since moment: Timestamp) async throws -> [Instance] {
        let states: [TaskState] = [.rebooting, .rebootPending, .rebootStarted]
        return try await database.read { connection in
            try connection.query(
                """
                SELECT record FROM instances
                WHERE task_state IN (?, ?, ?) AND deleted_at IS NULL AND EXISTS (
                    SELECT 1 FROM instance_actions WHERE instance_actions.instance_id = instances.id
                    AND instance_actions.action = ? AND instance_actions.finished_at IS NULL
                    AND instance_actions.started_at <= ?)
                ORDER BY created_at, id
                """,
                states.map { .text($0.rawValue) } + [
                    .text(InstanceActionKind.reboot.rawValue), .integer(moment.microseconds),
                ]
            ) { try Record.decode(Instance.self, $0.text(0)) }
        }
    }

    /// A page of instances in the query's order. Throws `.notFound` when the marker is unknown.
    public func list(_ query: InstanceQuery) async throws -> [Instance] {
        let limit = min(max(0, query.limit), 1_000)
        guard limit > 0 else { return [] }
        return try await database.read { connection in
            var statement = InstanceStatement(query)
            if let marker = query.marker {
                guard let instance = try Self.find(marker, includeDeleted: true, connection) else {
                    throw StoreError.notFound("marker \(marker)")
                }
                statement.begin(after: instance)
            }
            var found: [Instance] = []
            var offset = 0
            // Rows that only Swift can judge are read in pages, so that a limit of ten does not read ten thousand.
            let page = query.matches == nil ? limit : 1_000
            while found.count < limit {
                let (sql, values) = statement.text(limit: page, offset: offset)
                let rows = try connection.query(sql, values) { try known.decode($0.text(0)) }
                for instance in rows where query.matches?(instance) ?? true {
                    found.append(instance)
                    if found.count == limit { break }
                }
                guard rows.count == page else { break }
                offset += page
            }
            return found
        }
    }

    /// Live instances that the database places on `host`.
    public func list(on host: HostName) async throws -> [Instance] {
        try await database.read { connection in
            try connection.query(
                "SELECT record FROM instances WHERE host = ? AND deleted_at IS NULL ORDER BY created_at, id",
                [.text(host.rawValue)]
            ) { try Record.decode(Instance.self, $0.text(0)) }
        }
    }

    /// What the project's live instances take together, and what the user's among them do; those deleted softly take
    /// nothing. Without a user the second is nothing.
    public func usage(of project: ProjectID, user: UserID? = nil) async throws -> ProjectUsage {
        try await database.read { try Self.usage(of: project, user: user, $0) }
    }

    static func usage(
        of project: ProjectID, user: UserID?, _ connection: SQLConnection
    ) throws -> ProjectUsage {
        try connection.first(
            """
            SELECT COUNT(*), COALESCE(SUM(vcpus), 0), COALESCE(SUM(memory_mib), 0),
                COALESCE(SUM(CASE WHEN user_id = ? THEN 1 ELSE 0 END), 0),
                COALESCE(SUM(CASE WHEN user_id = ? THEN vcpus ELSE 0 END), 0),
                COALESCE(SUM(CASE WHEN user_id = ? THEN memory_mib ELSE 0 END), 0)
            FROM instances WHERE project_id = ? AND deleted_at IS NULL AND vm_state <> ?
            """,
            [SQLValue](repeating: SQLValue(user?.rawValue), count: 3)
                + [.text(project.rawValue), .text(VMState.softDeleted.rawValue)]
        ) {
            ProjectUsage(
                project: Usage(instances: $0.int(0), cores: $0.int(1), memoryMiB: $0.int(2)),
                user: Usage(instances: $0.int(3), cores: $0.int(4), memoryMiB: $0.int(5)))
        } ?? ProjectUsage(project: Usage(), user: Usage())
    }

    static func find(
        _ id: InstanceID, includeDeleted: Bool, _ connection: SQLConnection
    ) throws -> Instance? {
        try connection.first(
            "SELECT record FROM instances WHERE id = ?" + (includeDeleted ? "" : " AND deleted_at IS NULL"),
            [.text(id.rawValue)]
        ) { try Record.decode(Instance.self, $0.text(0)) }
    }

    private static func insert(_ instance: Instance, _ connection: SQLConnection) throws {
        try connection.execute(
            """
            INSERT INTO instances (id, number, project_id, user_id, name, host, image_id, flavor_id, vm_state,
                task_state, generation, vcpus, memory_mib, reservation_id, created_at, updated_at, deleted_at, record)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .text(instance.id.rawValue), .integer(instance.number), .text(instance.projectID.rawValue),
                .text(instance.userID.rawValue), .text(instance.name), SQLValue(instance.host?.rawValue),
                .text(instance.imageID.rawValue), .text(instance.flavor.id.rawValue),
                .text(instance.vmState.rawValue), SQLValue(instance.taskState?.rawValue),
                .integer(instance.fence.generation), SQLValue(instance.flavor.vcpus),
                SQLValue(instance.flavor.memoryMiB), .text(instance.reservationID),
                .integer(instance.createdAt.microseconds), .integer(instance.updatedAt.microseconds),
                SQLValue(instance.deletedAt?.microseconds), .text(try Record.encode(instance)),
            ])
    }

    private static func save(_ instance: Instance, _ connection: SQLConnection) throws {
        try connection.execute(
            """
            UPDATE instances SET name = ?, host = ?, image_id = ?, flavor_id = ?, vm_state = ?, task_state = ?,
                generation = ?, vcpus = ?, memory_mib = ?, updated_at = ?, deleted_at = ?, record = ? WHERE id = ?
            """,
            [
                .text(instance.name), SQLValue(instance.host?.rawValue), .text(instance.imageID.rawValue),
                .text(instance.flavor.id.rawValue), .text(instance.vmState.rawValue),
                SQLValue(instance.taskState?.rawValue), .integer(instance.fence.generation),
                SQLValue(instance.flavor.vcpus), SQLValue(instance.flavor.memoryMiB),
                .integer(instance.updatedAt.microseconds), SQLValue(instance.deletedAt?.microseconds),
                .text(try Record.encode(instance)), .text(instance.id.rawValue),
            ])
    }
}
