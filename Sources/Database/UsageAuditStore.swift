public import Model
internal import SQL

/// That the usage of one host's instances has been told for a period.
public struct UsageAudit: Sendable, Hashable {
    public var host: HostName
    public var period: Range<Timestamp>
    /// How many instances were on the host in that period.
    public var instances: Int
    public var finishedAt: Timestamp

    public init(host: HostName, period: Range<Timestamp>, instances: Int, finishedAt: Timestamp) {
        (self.host, self.period, self.instances, self.finishedAt) = (host, period, instances, finishedAt)
    }
}

/// The usage audits, a row for a host and a period. The row is written in the transaction that tells of the host's
/// instances, so each is told once, whoever tries.
public struct UsageAuditStore: Sendable {
    static let component = "usage_audits"
    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE usage_audits (
                    host TEXT NOT NULL, period_beginning BIGINT NOT NULL, period_ending BIGINT NOT NULL,
                    instances BIGINT NOT NULL, finished_at BIGINT NOT NULL,
                    PRIMARY KEY (host, period_beginning, period_ending));
                """)
    ]

    let database: any SQLDatabase

    /// The hosts whose usage of a period is to be told: those that are there, and those that instances were on.
    public func hosts(in period: Range<Timestamp>) async throws -> [HostName] {
        try await database.read { connection in
            let known = try connection.query("SELECT name FROM hosts WHERE is_deleted = 0") { $0.text(0) }
            let used = try connection.query(
                """
                SELECT DISTINCT host FROM instances
                WHERE host IS NOT NULL AND created_at < ? AND (deleted_at IS NULL OR deleted_at > ?)
                """, [.integer(period.upperBound.microseconds), .integer(period.lowerBound.microseconds)]
            ) { $0.text(0) }
            return Set(known + used).sorted().map { HostName($0) }
        }
    }

    /// Tells, by the notification `instance.exists`, of each instance that is or was last on the host and ran, or could
    /// have, for a part of the period; where nobody wants notifications, counts them.
    ///
    /// - Returns: how many there were; `nil` when this host's period has been told before.
    public func tell(of host: HostName, in period: Range<Timestamp>, now: Timestamp) async throws -> Int? {
        try await database.write { connection in
            let isTold =
                try connection.first(
                    """
                    SELECT 1 FROM usage_audits WHERE host = ? AND period_beginning = ? AND period_ending = ?
                    """, Self.key(host, period)
                ) { $0.int(0) } != nil
            guard !isTold else { return nil }
            let found = try connection.query(
                """
                SELECT record FROM instances
                WHERE host = ? AND created_at < ? AND (deleted_at IS NULL OR deleted_at > ?) ORDER BY created_at, id
                """,
                [
                    .text(host.rawValue), .integer(period.upperBound.microseconds),
                    .integer(period.lowerBound.microseconds),
                ]
            ) { try Record.decode(Instance.self, $0.text(0)) }
            let present = found.filter { $0.wasThere(in: period) }
            if try NotificationStore.isOn(connection) {
                for instance in present {
                    try InstanceNotification.appendUsage(of: instance, in: period, host: host, now: now, connection)
                }
            }
            // The key is taken by one transaction only: another that tells the same at this moment is undone.
            try connection.execute(
                """
                INSERT INTO usage_audits (host, period_beginning, period_ending, instances, finished_at)
                VALUES (?, ?, ?, ?, ?)
                """, Self.key(host, period) + [SQLValue(present.count), .integer(now.microseconds)])
            return present.count
        }
    }

    /// The audits of a period, by host.
    public func list(_ period: Range<Timestamp>) async throws -> [UsageAudit] {
        try await database.read { connection in
            try connection.query(
                """
                SELECT host, instances, finished_at FROM usage_audits
                WHERE period_beginning = ? AND period_ending = ? ORDER BY host
                """, [.integer(period.lowerBound.microseconds), .integer(period.upperBound.microseconds)]
            ) {
                UsageAudit(
                    host: HostName($0.text(0)), period: period, instances: $0.int(1),
                    finishedAt: Timestamp(microseconds: $0.int64(2)))
            }
        }
    }

    /// Forgets audits that ended before `moment`, each a whole period of its length ago at least: until then it still
    /// keeps its period from being told again.
    public func trim(before moment: Timestamp) async throws -> Int {
        try await database.write { connection in
            try connection.execute(
                "DELETE FROM usage_audits WHERE period_ending + 2 * (period_ending - period_beginning) < ?",
                [.integer(moment.microseconds)])
        }
    }

    private static func key(_ host: HostName, _ period: Range<Timestamp>) -> [SQLValue] {
        [
            .text(host.rawValue), .integer(period.lowerBound.microseconds),
            .integer(period.upperBound.microseconds),
        ]
    }
}

extension Instance {
    /// Whether it had been launched before the period's end, and not ended before its beginning.
    fileprivate func wasThere(in period: Range<Timestamp>) -> Bool {
        guard let launchedAt, launchedAt < period.upperBound else { return false }
        return terminatedAt.map { $0 > period.lowerBound } ?? true
    }
}
