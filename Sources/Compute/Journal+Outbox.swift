internal import Crypto
internal import Model
internal import RPC
internal import SQL
internal import SQLite

/// What waits to be told to the conductor.
struct OutboxRow: Sendable, Hashable {
    enum Kind: String, Sendable, Hashable {
        /// The newest state of an instance; an older one is replaced.
        case state
        /// The outcome of an operation.
        case operation
        /// The number of outcomes that were dropped because too many waited.
        case dropped
    }
    var position: Int64
    var instance: InstanceID
    var kind: Kind
    var idempotencyKey: String
    var requestID: RequestID
    var payload: [UInt8]
    var createdAt: Timestamp
}

extension SQLConnection {
    /// Outcomes that may wait for one instance; beyond that the oldest are dropped and counted.
    static var outboxLimit: Int { 1_000 }

    /// Queues an outcome behind what waits for the instance. `key` makes the conductor recognise a repetition.
    func enqueue(_ report: ReportOperation.Params, key: String, requestID: RequestID, now: Timestamp) throws {
        let instance = report.header.instance
        let waiting =
            try first(
                "SELECT count(*) FROM outbox WHERE instance = ? AND kind = 'operation'", [.text(instance.rawValue)]
            ) { $0.int(0) } ?? 0
        if waiting >= Self.outboxLimit { try dropOldest(of: instance, waiting - Self.outboxLimit + 1, now: now) }
        try insertOutbox(
            instance, .operation, key: key, requestID: requestID, payload: try encode(report), now: now)
    }

    /// Queues the newest state of an instance in place of an older one that still waits.
    func enqueue(_ report: ReportInstance.Params, requestID: RequestID, now: Timestamp) throws {
        try execute(
            "DELETE FROM outbox WHERE instance = ? AND kind = 'state'", [.text(report.instance.rawValue)])
        try insertOutbox(
            report.instance, .state, key: makeUUID(), requestID: requestID, payload: try encode(report), now: now)
    }

    /// The first row of each instance that has any, oldest first.
    func outboxHeads() throws -> [InstanceID] {
        try query("SELECT instance FROM outbox GROUP BY instance ORDER BY min(position)") { InstanceID($0.text(0)) }
    }

    func outboxHead(_ instance: InstanceID) throws -> OutboxRow? {
        try query(
            """
            SELECT position, instance, kind, idempotency_key, request_id, payload, created_at
            FROM outbox WHERE instance = ? ORDER BY position LIMIT 1
            """, [.text(instance.rawValue)]
        ) { row in
            OutboxRow(
                position: row.int64(0), instance: InstanceID(row.text(1)),
                kind: OutboxRow.Kind(rawValue: row.text(2)) ?? .dropped, idempotencyKey: row.text(3),
                requestID: RequestID(row.text(4)), payload: row.blob(5),
                createdAt: Timestamp(microseconds: row.int64(6)))
        }.first
    }

    func removeOutbox(_ position: Int64) throws {
        try execute("DELETE FROM outbox WHERE position = ?", [.integer(position)])
    }

    func outboxCount() throws -> Int { try first("SELECT count(*) FROM outbox") { $0.int(0) } ?? 0 }

    private func dropOldest(of instance: InstanceID, _ count: Int, now: Timestamp) throws {
        let dropped = try execute(
            """
            DELETE FROM outbox WHERE position IN (
                SELECT position FROM outbox WHERE instance = ? AND kind = 'operation' ORDER BY position LIMIT ?)
            """, [.text(instance.rawValue), SQLValue(count)])
        let marker = try query(
            "SELECT position, payload FROM outbox WHERE instance = ? AND kind = 'dropped'", [.text(instance.rawValue)]
        ) { ($0.int64(0), try decode(Int.self, $0.blob(1))) }.first
        if let (position, before) = marker {
            try execute(
                "UPDATE outbox SET payload = ? WHERE position = ?",
                [.blob(try encode(before + dropped)), .integer(position)])
        } else {
            try insertOutbox(
                instance, .dropped, key: makeUUID(), requestID: RequestID(""), payload: try encode(dropped), now: now)
        }
    }

    private func insertOutbox(
        _ instance: InstanceID, _ kind: OutboxRow.Kind, key: String, requestID: RequestID, payload: [UInt8],
        now: Timestamp
    ) throws {
        try execute(
            """
            INSERT INTO outbox (instance, kind, idempotency_key, request_id, payload, created_at)
            VALUES (?, ?, ?, ?, ?, ?)
            """,
            [
                .text(instance.rawValue), .text(kind.rawValue), .text(key), .text(requestID.rawValue), .blob(payload),
                .integer(now.microseconds),
            ])
    }
}
