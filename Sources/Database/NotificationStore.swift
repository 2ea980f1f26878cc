internal import Crypto
public import Model
internal import SQL

/// What has happened, for others than this cloud's own services.
public struct WaitingNotification: Sendable, Hashable {
    /// Rises over all notifications, in the order in which they were written.
    public var position: Int64
    /// What it is about: an instance's id, an aggregate's. Those of one subject are delivered in their order.
    public var subject: String
    /// The whole message as a JSON object, the same at every delivery.
    public var body: String

    public init(position: Int64, subject: String, body: String) {
        (self.position, self.subject, self.body) = (position, subject, body)
    }
}

/// The notifications that wait for their sinks. They are written in the transaction of what they tell: none is lost, and
/// none tells what has not happened.
public struct NotificationStore: Sendable {
    let database: any SQLDatabase

    static let component = "notifications"

    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                INSERT INTO counters (name, value) VALUES ('notification_position', 0);
                CREATE TABLE notifications (
                    position BIGINT PRIMARY KEY, subject TEXT NOT NULL, body TEXT NOT NULL, created_at BIGINT NOT NULL);
                CREATE TABLE notification_sinks (
                    name TEXT PRIMARY KEY, position BIGINT NOT NULL, owner TEXT, lease_until BIGINT,
                    failures BIGINT NOT NULL, last_error TEXT);
                """)
    ]

    /// How many may wait. Beyond that the oldest are dropped: a sink that is gone for good does not fill the disk.
    public static let limit: Int64 = 1_000_000

    /// Declares the sinks that there are. New ones begin with what is told from now on; those that are not named any
    /// more are forgotten. Without any, nothing is written down.
    public func setSinks(_ names: Set<String>) async throws {
        try await database.write { connection in
            let known = Set(try connection.query("SELECT name FROM notification_sinks") { $0.text(0) })
            for name in known.subtracting(names) {
                try connection.execute("DELETE FROM notification_sinks WHERE name = ?", [.text(name)])
            }
            let last = try Counter.notificationPosition.last(connection)
            for name in names.subtracting(known) {
                try connection.execute(
                    "INSERT INTO notification_sinks (name, position, failures) VALUES (?, ?, 0)",
                    [.text(name), .integer(last)])
            }
        }
    }

    /// Takes a sink for `owner` until then, if nobody else has it. One process delivers to a sink at a time, so that the
    /// order stays.
    public func lease(_ sink: String, owner: String, until: Timestamp, now: Timestamp) async throws -> Bool {
        try await database.write { connection in
            try connection.execute(
                """
                UPDATE notification_sinks SET owner = ?, lease_until = ?
                WHERE name = ? AND (owner IS NULL OR owner = ? OR lease_until <= ?)
                """,
                [
                    .text(owner), .integer(until.microseconds), .text(sink), .text(owner),
                    .integer(now.microseconds),
                ]) > 0
        }
    }

    /// What waits for a sink, in order.
    public func waiting(for sink: String, limit: Int) async throws -> [WaitingNotification] {
        try await database.read { connection in
            try connection.query(
                """
                SELECT position, subject, body FROM notifications
                WHERE position > (SELECT position FROM notification_sinks WHERE name = ?) ORDER BY position LIMIT ?
                """, [.text(sink), SQLValue(max(0, limit))]
            ) { WaitingNotification(position: $0.int64(0), subject: $0.text(1), body: $0.text(2)) }
        }
    }

    /// Notes that a sink has everything up to `position`, and forgets what every sink has. `false`, and nothing, when
    /// `owner` has lost the sink to another.
    public func delivered(_ position: Int64, to sink: String, by owner: String) async throws -> Bool {
        try await database.write { connection in
            let changed = try connection.execute(
                """
                UPDATE notification_sinks SET position = ?, failures = 0, last_error = NULL
                WHERE name = ? AND owner = ? AND position < ?
                """, [.integer(position), .text(sink), .text(owner), .integer(position)])
            guard changed > 0 else { return false }
            try connection.execute(
                "DELETE FROM notifications WHERE position <= (SELECT MIN(position) FROM notification_sinks)")
            return true
        }
    }

    /// Notes why a sink could not be reached.
    public func failed(_ sink: String, _ message: String) async throws {
        try await database.write { connection in
            try connection.execute(
                "UPDATE notification_sinks SET failures = failures + 1, last_error = ? WHERE name = ?",
                [.text(String(message.prefix(1_000))), .text(sink)])
        }
    }

    /// Whether anybody is told anything.
    static func isOn(_ connection: SQLConnection) throws -> Bool {
        try connection.first("SELECT 1 FROM notification_sinks LIMIT 1", [], { $0.int(0) }) != nil
    }

    /// Writes one down in the caller's transaction.
    ///
    /// - Parameters:
    ///   - type: Nova's name: `instance.create.start`.
    ///   - data: the payload's `nova_object.data`.
    static func append(
        _ type: String, payload name: String, version: String, about subject: String, isError: Bool = false,
        publisher: String, requestID: RequestID?, data: [String: JSON], now: Timestamp, _ connection: SQLConnection
    ) throws {
        let position = try Counter.notificationPosition.next(connection)
        let body: JSON = [
            "message_id": .string(makeUUID()), "event_type": .string(type),
            "priority": isError ? "ERROR" : "INFO", "publisher_id": .string(publisher),
            "timestamp": .string(now.iso8601MicrosecondsWithoutZone),
            "request_id": requestID.map { .string($0.rawValue) } ?? .null,
            "position": .integer(position),
            "payload": [
                "nova_object.name": .string(name), "nova_object.namespace": "nova",
                "nova_object.version": .string(version), "nova_object.data": .object(data),
            ],
        ]
        try connection.execute(
            "INSERT INTO notifications (position, subject, body, created_at) VALUES (?, ?, ?, ?)",
            [
                .integer(position), .text(subject), .text(String(decoding: body.serialized(), as: UTF8.self)),
                .integer(now.microseconds),
            ])
        guard position > limit else { return }
        try connection.execute("DELETE FROM notifications WHERE position <= ?", [.integer(position - limit)])
    }
}
