public import Model
public import RPC
public import SQL

/// Remembers requests with idempotency keys in a table, so that a repetition after a restart is recognised.
public struct SQLIdempotencyStore: IdempotencyStore {
    /// The schema's component, for `SQLDatabase.migrate`.
    public static let component = "idempotency"

    public static let migrations = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE idempotency_records (
                    peer TEXT NOT NULL, method TEXT NOT NULL, request_key TEXT NOT NULL, parameters_hash BLOB NOT NULL,
                    response BLOB, created_at BIGINT NOT NULL, finished_at BIGINT,
                    PRIMARY KEY (peer, method, request_key));
                CREATE INDEX idempotency_records_by_time ON idempotency_records (created_at);
                CREATE TABLE idempotency_peers (peer TEXT PRIMARY KEY, records BIGINT NOT NULL);
                """)
    ]

    private let database: any SQLDatabase
    private let limit: Int

    /// A store in `database`, which has been migrated; `limit` records a peer at most.
    public init(database: any SQLDatabase, limit: Int = 10_000) {
        (self.database, self.limit) = (database, limit)
    }

    public func begin(
        peer: String, method: String, key: String, parametersHash: [UInt8], now: Timestamp
    ) async throws -> IdempotencyDecision {
        let limit = limit
        return try await database.write { connection in
            let known = try connection.first(
                """
                SELECT parameters_hash, response FROM idempotency_records
                WHERE peer = ? AND method = ? AND request_key = ?
                """, [.text(peer), .text(method), .text(key)]
            ) { (hash: $0.blob(0), response: $0.blobOrNil(1)) }
            if let known {
                guard known.hash == parametersHash else { return .mismatch }
                return known.response.map { .finished(response: $0) } ?? .running
            }
            // A count kept beside the records: counting them would cost more than everything else here.
            let count = try connection.first(
                """
                INSERT INTO idempotency_peers (peer, records) VALUES (?, 1)
                ON CONFLICT (peer) DO UPDATE SET records = idempotency_peers.records + 1 RETURNING records
                """, [.text(peer)]
            ) { $0.int(0) }
            guard count ?? 0 <= limit else {
                throw Failure(.overloaded, "peer \(peer) has \(limit) requests on record", isRetriable: true)
            }
            try connection.execute(
                """
                INSERT INTO idempotency_records (peer, method, request_key, parameters_hash, created_at)
                VALUES (?, ?, ?, ?, ?)
                """,
                [.text(peer), .text(method), .text(key), .blob(parametersHash), .integer(now.microseconds)])
            return .execute
        }
    }

    public func finish(peer: String, method: String, key: String, response: [UInt8], now: Timestamp) async throws {
        try await database.write { connection in
            try connection.execute(
                """
                UPDATE idempotency_records SET response = ?, finished_at = ?
                WHERE peer = ? AND method = ? AND request_key = ?
                """,
                [.blob(response), .integer(now.microseconds), .text(peer), .text(method), .text(key)])
        }
    }

    public func abandon(peer: String, method: String, key: String) async throws {
        try await database.write { connection in
            let gone = try connection.execute(
                "DELETE FROM idempotency_records WHERE peer = ? AND method = ? AND request_key = ?",
                [.text(peer), .text(method), .text(key)])
            guard gone > 0 else { return }
            try connection.execute(
                "UPDATE idempotency_peers SET records = records - 1 WHERE peer = ?", [.text(peer)])
        }
    }

    public func trim(before moment: Timestamp) async throws {
        try await database.write { connection in
            let gone = try connection.execute(
                "DELETE FROM idempotency_records WHERE created_at < ?", [.integer(moment.microseconds)])
            guard gone > 0 else { return }
            try connection.execute("DELETE FROM idempotency_peers")
            try connection.execute(
                """
                INSERT INTO idempotency_peers (peer, records)
                SELECT peer, count(*) FROM idempotency_records GROUP BY peer
                """)
        }
    }
}
