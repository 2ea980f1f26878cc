internal import Model
internal import SQL

/// What is wrong in a database, as `apus db check` tells it.
public struct DatabaseFinding: Sendable, Hashable {
    /// Which rule is broken: `instance-without-host`.
    public var rule: String
    /// The record that breaks it: an instance's id, a host's name.
    public var subject: String
    public var message: String

    public init(rule: String, subject: String, message: String) {
        (self.rule, self.subject, self.message) = (rule, subject, message)
    }
}

/// The rules that hold between the records whenever nothing is half written: each transaction keeps them.
struct DatabaseCheck {
    /// Findings of one rule that are told; a broken database may have one for each record.
    static let mostOfRule = 100

    private let connection: SQLConnection
    private(set) var findings: [DatabaseFinding] = []

    private let now: Timestamp

    init(_ connection: SQLConnection, now: Timestamp) { (self.connection, self.now) = (connection, now) }

    /// A rule as the statement that finds what breaks it: the subject first, then what else the message needs.
    private struct Rule: Sendable {
        let name: String
        let sql: String
        let message: @Sendable (_ subject: String, _ more: String) -> String

        init(
            _ name: String, _ sql: String, _ message: @escaping @Sendable (_ subject: String, _ more: String) -> String
        ) {
            (self.name, self.sql, self.message) = (name, sql, message)
        }
    }

    mutating func run() throws {
        for rule in Self.rules {
            let found = try connection.query(rule.sql + " LIMIT \(Self.mostOfRule)") {
                ($0.text(0), $0.textOrNil(1) ?? "")
            }
            findings += found.map {
                DatabaseFinding(rule: rule.name, subject: $0.0, message: rule.message($0.0, $0.1))
            }
        }
        var claims = try ClaimCheck(connection, now: now)
        try readEvery("instances", "id", Instance.self) { claims.add($0) }
        try readEvery("flavors", "id", Flavor.self) { _ in }
        var reports: [HostReport] = []
        try readEvery("hosts", "name", HostReport.self, column: "report", where: "is_deleted = 0") {
            reports.append($0)
        }
        for report in reports { findings += try claims.findings(report) }
        for problem in try connection.damages(limit: Self.mostOfRule) {
            findings.append(DatabaseFinding(rule: "damaged-file", subject: "database", message: problem))
        }
    }

    private mutating func readEvery<T: Decodable>(
        _ table: String, _ key: String, _ type: T.Type, column: String = "record", where condition: String = "1 = 1",
        _ take: (T) -> Void
    ) throws {
        var broken: [DatabaseFinding] = []
        try connection.forEach("SELECT \(key), \(column) FROM \(table) WHERE \(condition)") { row in
            guard broken.count < Self.mostOfRule else { return }
            do {
                take(try Record.decode(type, row.text(1)))
            } catch {
                broken.append(
                    DatabaseFinding(
                        rule: "unreadable-record", subject: row.text(0),
                        message: "the record of \(row.text(0)) in \(table) cannot be read: \(error)"))
            }
        }
        findings += broken
    }

    private static let rules: [Rule] = [
        Rule(
            "instance-without-host",
            """
            SELECT id, vm_state FROM instances WHERE deleted_at IS NULL AND host IS NULL
            AND vm_state NOT IN ('building', 'error', 'shelved_offloaded', 'deleted', 'soft-delete')
            """
        ) { "instance \($0) is \($1), and on no host" },
        Rule(
            "stuck-instance",
            """
            SELECT id, task_state FROM instances WHERE deleted_at IS NULL AND task_state IS NOT NULL
            AND NOT EXISTS (
                SELECT 1 FROM tasks WHERE tasks.instance_id = instances.id AND tasks.finished_at IS NULL)
            """
        ) { "instance \($0) is \($1), and no task does anything about it" },
        Rule(
            "building-instance-without-task",
            """
            SELECT id, '' FROM instances WHERE deleted_at IS NULL AND vm_state = 'building'
            AND NOT EXISTS (
                SELECT 1 FROM tasks WHERE tasks.instance_id = instances.id AND tasks.finished_at IS NULL)
            """
        ) { subject, _ in "instance \(subject) is being built, and no task builds it" },
        Rule(
            "instance-on-unknown-host",
            """
            SELECT id, host FROM instances WHERE deleted_at IS NULL AND host IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM enrolled_hosts WHERE enrolled_hosts.name = instances.host)
            """
        ) { "instance \($0) is on host \($1), which is not enrolled" },
        Rule(
            "task-without-instance",
            """
            SELECT id, instance_id FROM tasks WHERE finished_at IS NULL AND instance_id IS NOT NULL
            AND kind <> 'cleanup' AND NOT EXISTS (SELECT 1 FROM instances WHERE instances.id = tasks.instance_id)
            """
        ) { "task \($0) is about instance \($1), which is not there" },
        Rule(
            "migration-without-instance",
            """
            SELECT id, instance_id FROM migrations
            WHERE status NOT IN (\(MigrationStatus.over.map { "'\($0.rawValue)'" }.sorted().joined(separator: ", ")))
            AND NOT EXISTS (
                SELECT 1 FROM instances WHERE instances.id = migrations.instance_id AND instances.deleted_at IS NULL)
            """
        ) { "migration \($0) is not over, and its instance \($1) is gone" },
        Rule(
            "action-without-instance",
            """
            SELECT DISTINCT instance_id, '' FROM instance_actions
            WHERE NOT EXISTS (SELECT 1 FROM instances WHERE instances.id = instance_actions.instance_id)
            """
        ) { subject, _ in "there are actions of instance \(subject), which is not there" },
        Rule(
            "event-without-action",
            """
            SELECT DISTINCT instance_id, request_id FROM instance_events WHERE NOT EXISTS (
                SELECT 1 FROM instance_actions WHERE instance_actions.instance_id = instance_events.instance_id
                AND instance_actions.request_id = instance_events.request_id)
            """
        ) { "there are events of instance \($0) for request \($1), which is no action of it" },
        Rule(
            "unended-action",
            """
            SELECT instance_id, action FROM instance_actions WHERE finished_at IS NULL AND NOT EXISTS (
                SELECT 1 FROM tasks WHERE tasks.instance_id = instance_actions.instance_id
                AND tasks.finished_at IS NULL)
            """
        ) { "the action \($1) of instance \($0) has no end, and no task is under way" },
        Rule(
            "member-of-no-group",
            """
            SELECT instance_id, group_id FROM server_group_members
            WHERE NOT EXISTS (SELECT 1 FROM server_groups WHERE server_groups.id = server_group_members.group_id)
            """
        ) { "instance \($0) is in server group \($1), which is not there" },
        Rule(
            "member-without-instance",
            """
            SELECT instance_id, group_id FROM server_group_members
            WHERE NOT EXISTS (SELECT 1 FROM instances WHERE instances.id = server_group_members.instance_id)
            """
        ) { "server group \($1) has instance \($0), which is not there" },
        Rule(
            "access-without-flavor",
            """
            SELECT flavor_id, project_id FROM flavor_access
            WHERE NOT EXISTS (SELECT 1 FROM flavors WHERE flavors.id = flavor_access.flavor_id)
            """
        ) { "project \($1) has access to flavor \($0), which is not there" },
        Rule(
            "host-of-no-aggregate",
            """
            SELECT host, CAST(aggregate_id AS TEXT) FROM aggregate_hosts
            WHERE NOT EXISTS (SELECT 1 FROM aggregates WHERE aggregates.id = aggregate_hosts.aggregate_id)
            """
        ) { "host \($0) is in aggregate \($1), which is not there" },
        Rule(
            "assignment-without-user",
            """
            SELECT user_id, role_id FROM identity_assignments WHERE NOT EXISTS (
                SELECT 1 FROM identity_users WHERE identity_users.id = identity_assignments.user_id)
            """
        ) { "user \($0) has role \($1), and is not there" },
        Rule(
            "assignment-without-role",
            """
            SELECT role_id, user_id FROM identity_assignments WHERE NOT EXISTS (
                SELECT 1 FROM identity_roles WHERE identity_roles.id = identity_assignments.role_id)
            """
        ) { "user \($1) has role \($0), which is not there" },
        Rule(
            "counter-behind",
            """
            SELECT 'instance_number', CAST(MAX(number) AS TEXT) FROM instances
            HAVING MAX(number) > (SELECT value FROM counters WHERE name = 'instance_number')
            """
        ) { "the counter \($0) is below \($1), which has been given out" },
    ]
}

extension ControlDatabase {
    /// Everything that is wrong in the database, at most 100 findings of each rule. Reads every record once: 100,000
    /// instances take seconds.
    public func check() async throws -> [DatabaseFinding] {
        let now = now()
        return try await database.read { connection in
            var check = DatabaseCheck(connection, now: now)
            try check.run()
            return check.findings
        }
    }
}
