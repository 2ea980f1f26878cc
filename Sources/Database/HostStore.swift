public import Model
internal import SQL

/// A compute host's last report, as `os-hypervisors` and the scheduler read it.
public struct HostRecord: Sendable, Hashable {
    /// The small number that microversions before 2.53 show.
    public var id: Int64
    public var report: HostReport
    /// Rises over all hosts with each change.
    public var revision: Int64
    public var isDeleted: Bool
    public var updatedAt: Timestamp
}

/// The hosts' resource reports.
public struct HostStore: Sendable {
    let database: any SQLDatabase

    /// Stores a report; one that is older than what is stored is ignored and answered `false`. Throws `.exists` when
    /// another host has reported under the same uuid, `.otherMachine` when this one has under another: two machines have
    /// one name then, until the host's record is deleted.
    @discardableResult
    public func record(_ report: HostReport, now: Timestamp) async throws -> Bool {
        try await database.write { connection in
            let known = try connection.first(
                "SELECT sequence, report, is_deleted FROM hosts WHERE name = ?", [.text(report.host.rawValue)]
            ) { ($0.int64(0), try Record.decode(HostReport.self, $0.text(1)), $0.bool(2)) }
            let owner = try connection.first("SELECT name FROM hosts WHERE uuid = ?", [.text(report.uuid)]) {
                $0.text(0)
            }
            if let owner, owner != report.host.rawValue {
                throw StoreError.exists("Host uuid \(report.uuid) of host \(owner)")
            }
            if let (sequence, stored, isDeleted) = known, !isDeleted {
                guard stored.uuid == report.uuid else {
                    throw StoreError.otherMachine(host: report.host, known: stored.uuid, given: report.uuid)
                }
                if report.sequence <= sequence { return false }
            }
            let revision = try Counter.hostRevision.next(connection)
            let body = try Record.encode(report)
            if known != nil {
                try connection.execute(
                    """
                    UPDATE hosts SET uuid = ?, sequence = ?, revision = ?, is_deleted = 0, report = ?, node = ?,
                        updated_at = ?
                    WHERE name = ?
                    """,
                    [
                        .text(report.uuid), .integer(report.sequence), .integer(revision), .text(body),
                        .text(report.hypervisorHostname), .integer(now.microseconds), .text(report.host.rawValue),
                    ])
            } else {
                try connection.execute(
                    """
                    INSERT INTO hosts (name, uuid, id, sequence, revision, is_deleted, report, node, created_at,
                        updated_at)
                    VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?)
                    """,
                    [
                        .text(report.host.rawValue), .text(report.uuid),
                        .integer(try Counter.hostID.next(connection)), .integer(report.sequence), .integer(revision),
                        .text(body), .text(report.hypervisorHostname), .integer(now.microseconds),
                        .integer(now.microseconds),
                    ])
            }
            return true
        }
    }

    /// The host's `hypervisor_hostname`; `nil` for one that is not known, or that has not said it since the upgrade.
    static func node(of host: HostName, _ connection: SQLConnection) throws -> String? {
        try connection.first("SELECT node FROM hosts WHERE name = ? AND is_deleted = 0", [.text(host.rawValue)]) {
            $0.textOrNil(0)
        } ?? nil
    }

    /// Brings a stored report up to date; `false` when what is stored is not what the change builds on, and the whole
    /// report is wanted. A change that says nothing writes nothing. Throws `.otherMachine` as
    /// `record` does, `Failure` for a value that no host can have.
    public func apply(
        _ usage: HostUsage?, to name: HostName, uuid: String, base: Int64, sequence: Int64, measuredAt: Timestamp,
        now: Timestamp
    ) async throws -> Bool {
        let isKnown: @Sendable (SQLConnection) throws -> HostReport? = { connection in
            let stored = try connection.first(
                "SELECT sequence, report FROM hosts WHERE name = ? AND is_deleted = 0", [.text(name.rawValue)]
            ) { ($0.int64(0), try Record.decode(HostReport.self, $0.text(1))) }
            guard let (number, report) = stored, measuredAt.microseconds >= 0 else { return nil }
            guard report.uuid == uuid else {
                throw StoreError.otherMachine(host: name, known: report.uuid, given: uuid)
            }
            return number == base && sequence > base ? report : nil
        }
        guard let usage, !usage.isEmpty else { return try await database.read { try isKnown($0) != nil } }
        return try await database.write { connection in
            guard var report = try isKnown(connection) else { return false }
            report.apply(usage)
            report.renew(sequence: sequence, measuredAt: measuredAt)
            try report.check()
            try connection.execute(
                "UPDATE hosts SET sequence = ?, revision = ?, report = ?, updated_at = ? WHERE name = ?",
                [
                    .integer(sequence), .integer(try Counter.hostRevision.next(connection)),
                    .text(try Record.encode(report)), .integer(now.microseconds), .text(name.rawValue),
                ])
            return true
        }
    }

    /// The hosts in the order in which they first reported.
    public func list() async throws -> [HostRecord] {
        try await database.read { connection in
            try connection.query(Self.columns + " WHERE is_deleted = 0 ORDER BY id", [], Self.record)
        }
    }

    public func find(_ name: HostName) async throws -> HostRecord? {
        try await database.read { connection in
            try connection.first(
                Self.columns + " WHERE is_deleted = 0 AND name = ?", [.text(name.rawValue)], Self.record)
        }
    }

    public func find(uuid: String) async throws -> HostRecord? {
        try await database.read { connection in
            try connection.first(Self.columns + " WHERE is_deleted = 0 AND uuid = ?", [.text(uuid)], Self.record)
        }
    }

    /// What has changed after `revision`, deleted hosts included, in the order of the changes.
    public func changes(since revision: Int64) async throws -> [HostRecord] {
        try await database.read { connection in
            try connection.query(
                Self.columns + " WHERE revision > ? ORDER BY revision", [.integer(revision)], Self.record)
        }
    }

    /// Marks a host as gone; `changes` tells it.
    public func delete(_ name: HostName, now: Timestamp) async throws {
        try await database.write { connection in
            let revision = try Counter.hostRevision.next(connection)
            try connection.execute(
                "UPDATE hosts SET is_deleted = 1, revision = ?, updated_at = ? WHERE name = ?",
                [.integer(revision), .integer(now.microseconds), .text(name.rawValue)])
        }
    }

    private static let columns = "SELECT id, report, revision, is_deleted, updated_at FROM hosts"

    private static func record(_ row: borrowing SQLRow) throws -> HostRecord {
        HostRecord(
            id: row.int64(0), report: try Record.decode(HostReport.self, row.text(1)), revision: row.int64(2),
            isDeleted: row.bool(3), updatedAt: Timestamp(microseconds: row.int64(4)))
    }
}
