internal import Crypto
public import Model
internal import SQL
internal import Telemetry

/// One service as `os-services` lists it.
public struct ServiceRecord: Sendable, Hashable {
    public var uuid: String
    /// The small number that microversions before 2.53 show.
    public var id: Int64
    public var host: HostName
    /// `nova-compute`, `nova-conductor`, `nova-scheduler`.
    public var binary: String
    public var version: Int
    public var reportCount: Int64
    public var lastSeenAt: Timestamp?
    public var isDisabled: Bool
    public var disabledReason: String?
    public var isForcedDown: Bool
    public var createdAt: Timestamp
    /// When an operator has confirmed that the host is dead; `nil` when none has, or it has been heard of since.
    public var deadAt: Timestamp?
    /// By what the operator knows it.
    public var deadEvidence: String?

    /// Whether the host has evacuations to answer for; it is not up before.
    public var mustAnswer: Bool

    /// Whether an operator says that nothing runs on the host. That it is silent says nothing of the kind.
    public var isKnownDead: Bool { isForcedDown || deadAt != nil }

    /// Whether the service may be used at `now`: heard of within `downAfter`, not declared down, and
    /// with nothing to answer for.
    public func isUp(now: Timestamp, downAfter: Duration) -> Bool {
        guard !isForcedDown, !mustAnswer, let lastSeenAt else { return false }
        return Self.isFresh(lastSeenAt, now: now, downAfter: downAfter)
    }

    /// Whether a sign of life is recent. One from the future is as old as it is far: a clock that went back by an hour
    /// must not keep a dead service up for an hour.
    public static func isFresh(_ seen: Timestamp, now: Timestamp, downAfter: Duration) -> Bool {
        now.since(seen) <= downAfter && seen.since(now) <= downAfter
    }
}

/// One heartbeat to write.
public struct ServiceHeartbeat: Sendable, Hashable {
    public var host: HostName
    public var binary: String
    public var version: Int
    public var at: Timestamp

    public init(host: HostName, binary: String, version: Int, at: Timestamp) {
        (self.host, self.binary, self.version, self.at) = (host, binary, version, at)
    }
}

/// Up to where somebody has read the services.
public struct ServiceMark: Sendable, Hashable {
    var revision: Int64
    var removals: Int64
}

/// What is new since a mark.
public struct ServiceChanges: Sendable, Hashable {
    public var mark: ServiceMark
    public var services: [ServiceRecord]
    /// Whether there are no others than these.
    public var isAll: Bool
}

/// The services and when each was last heard of.
public struct ServiceStore: Sendable {
    let database: any SQLDatabase

    /// By how much a heartbeat may overtake another on its way here. A record further ahead is from a clock that has gone
    /// back since.
    private static let disorder = Duration.seconds(10)

    /// Writes a batch of heartbeats in one transaction; a service that is not known yet is made.
    public func record(_ beats: [ServiceHeartbeat]) async throws {
        guard !beats.isEmpty else { return }
        try await database.write { connection in
            // One number for all of the batch: readers see all of it or nothing.
            let revision = try Counter.serviceRevision.next(connection)
            for beat in beats {
                let known = try connection.execute(
                    """
                    UPDATE services SET version = ?, revision = ?, report_count = report_count + 1,
                        last_seen_at = CASE WHEN last_seen_at BETWEEN ? AND ? THEN last_seen_at ELSE ? END,
                        dead_evidence = CASE WHEN dead_at <= ? THEN NULL ELSE dead_evidence END,
                        dead_at = CASE WHEN dead_at <= ? THEN NULL ELSE dead_at END
                    WHERE host = ? AND binary_name = ?
                    """,
                    [
                        SQLValue(beat.version), .integer(revision), .integer(beat.at.microseconds),
                        .integer((beat.at + Self.disorder).microseconds), .integer(beat.at.microseconds),
                        .integer(beat.at.microseconds), .integer(beat.at.microseconds),
                        .text(beat.host.rawValue), .text(beat.binary),
                    ])
                guard known == 0 else { continue }
                try connection.execute(
                    """
                    INSERT INTO services (uuid, id, host, binary_name, version, report_count, last_seen_at,
                        is_disabled, disabled_reason, is_forced_down, created_at, revision)
                    VALUES (?, ?, ?, ?, ?, 1, ?, 0, NULL, 0, ?, ?)
                    """,
                    [
                        .text(makeUUID()), .integer(try Counter.serviceID.next(connection)),
                        .text(beat.host.rawValue), .text(beat.binary), SQLValue(beat.version),
                        .integer(beat.at.microseconds), .integer(beat.at.microseconds), .integer(revision),
                    ])
                let made = try connection.first(
                    Self.columns + " WHERE host = ? AND binary_name = ?",
                    [.text(beat.host.rawValue), .text(beat.binary)], Self.record)
                if let made {
                    try ServiceNotification(service: made, requestID: nil).append(.create, now: beat.at, connection)
                }
            }
        }
    }

    /// What has changed of the services with this binary's name since `mark`; all of them without one, and when one has
    /// been deleted since.
    public func changes(since mark: ServiceMark?, binary: String) async throws -> ServiceChanges {
        try await database.read { connection in
            let now = ServiceMark(
                revision: try Counter.serviceRevision.last(connection),
                removals: try Counter.serviceRemovals.last(connection))
            if let mark, mark == now { return ServiceChanges(mark: now, services: [], isAll: false) }
            let isAll = mark.map { $0.removals != now.removals } ?? true
            let services = try connection.query(
                Self.columns + " WHERE revision > ? AND binary_name = ?",
                [.integer(isAll ? -1 : mark?.revision ?? -1), .text(binary)], Self.record)
            return ServiceChanges(mark: now, services: services, isAll: isAll)
        }
    }

    public func list(host: HostName? = nil, binary: String? = nil) async throws -> [ServiceRecord] {
        // No `? IS NULL`: PostgreSQL cannot tell such a value's type.
        let given = [("host = ?", host?.rawValue), ("binary_name = ?", binary)].compactMap { condition, value in
            value.map { (condition: condition, value: SQLValue.text($0)) }
        }
        let filter = given.isEmpty ? "" : " WHERE " + given.map { $0.condition }.joined(separator: " AND ")
        return try await database.read { connection in
            try connection.query(Self.columns + filter + " ORDER BY id", given.map { $0.value }, Self.record)
        }
    }

    public func find(host: HostName, binary: String) async throws -> ServiceRecord? {
        try await list(host: host, binary: binary).first
    }

    public func find(uuid: String) async throws -> ServiceRecord? {
        try await database.read { try $0.first(Self.columns + " WHERE uuid = ?", [.text(uuid)], Self.record) }
    }

    /// Enables, disables or declares down; `nil` leaves a member as it is. Throws `.notFound`.
    public func change(
        uuid: String, isDisabled: Bool? = nil, disabledReason: String?? = nil, isForcedDown: Bool? = nil
    ) async throws -> ServiceRecord {
        let (requestID, now) = (RequestScope.current, database.now())
        return try await database.write { connection in
            guard var service = try connection.first(Self.columns + " WHERE uuid = ?", [.text(uuid)], Self.record)
            else { throw StoreError.notFound("Service \(uuid)") }
            service.isDisabled = isDisabled ?? service.isDisabled
            if case .some(let reason) = disabledReason { service.disabledReason = reason }
            service.isForcedDown = isForcedDown ?? service.isForcedDown
            try connection.execute(
                """
                UPDATE services SET is_disabled = ?, disabled_reason = ?, is_forced_down = ?, revision = ?
                WHERE uuid = ?
                """,
                [
                    SQLValue(service.isDisabled), SQLValue(service.disabledReason), SQLValue(service.isForcedDown),
                    .integer(try Counter.serviceRevision.next(connection)), .text(uuid),
                ])
            try ServiceNotification(service: service, requestID: requestID).append(.update, now: now, connection)
            return service
        }
    }

    public func delete(uuid: String) async throws {
        let (requestID, now) = (RequestScope.current, database.now())
        try await database.write { connection in
            guard let service = try connection.first(Self.columns + " WHERE uuid = ?", [.text(uuid)], Self.record)
            else { throw StoreError.notFound("Service \(uuid)") }
            try connection.execute("DELETE FROM services WHERE uuid = ?", [.text(uuid)])
            try ServiceNotification(service: service, requestID: requestID).append(.delete, now: now, connection)
            _ = try Counter.serviceRemovals.next(connection)
        }
    }

    static let columns = """
        SELECT uuid, id, host, binary_name, version, report_count, last_seen_at, is_disabled, disabled_reason,
            is_forced_down, created_at, dead_at, dead_evidence,
            (SELECT count(*) FROM evacuations WHERE source_host = services.host)
        FROM services
        """

    static func record(_ row: borrowing SQLRow) -> ServiceRecord {
        ServiceRecord(
            uuid: row.text(0), id: row.int64(1), host: HostName(row.text(2)), binary: row.text(3),
            version: row.int(4), reportCount: row.int64(5),
            lastSeenAt: row.int64OrNil(6).map { Timestamp(microseconds: $0) }, isDisabled: row.bool(7),
            disabledReason: row.textOrNil(8), isForcedDown: row.bool(9),
            createdAt: Timestamp(microseconds: row.int64(10)),
            deadAt: row.int64OrNil(11).map { Timestamp(microseconds: $0) }, deadEvidence: row.textOrNil(12),
            mustAnswer: row.int64(13) > 0 && row.text(3) == "nova-compute")
    }
}
