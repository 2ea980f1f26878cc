public import Model
internal import SQL

/// The users' key pairs.
public struct KeyPairStore: Sendable {
    let database: any SQLDatabase

    /// By name.
    public func list(of user: UserID) async throws -> [KeyPair] {
        try await database.read { connection in
            try connection.query(
                "SELECT record FROM key_pairs WHERE user_id = ? ORDER BY name", [.text(user.rawValue)]
            ) { try Record.decode(KeyPair.self, $0.text(0)) }
        }
    }

    public func find(_ name: String, of user: UserID) async throws -> KeyPair? {
        try await database.read { connection in
            try connection.first(
                "SELECT record FROM key_pairs WHERE user_id = ? AND name = ?", [.text(user.rawValue), .text(name)]
            ) { try Record.decode(KeyPair.self, $0.text(0)) }
        }
    }

    /// Throws `.exists` when the user has one of that name; `limit` bounds how many a user has (below 0 it does not), and
    /// is answered with `KeyPairLimitReached`.
    public func create(_ pair: KeyPair, limit: Int) async throws {
        try await database.write { connection in
            let user = SQLValue.text(pair.userID.rawValue)
            let count = try Self.count(of: pair.userID, connection)
            if limit >= 0, count >= limit { throw KeyPairLimitReached(limit: limit, used: count) }
            let made = try connection.execute(
                """
                INSERT INTO key_pairs (user_id, name, record, created_at) VALUES (?, ?, ?, ?)
                ON CONFLICT (user_id, name) DO NOTHING
                """,
                [user, .text(pair.name), .text(try Record.encode(pair)), .integer(pair.createdAt.microseconds)])
            guard made > 0 else { throw StoreError.exists("Key pair '\(pair.name)'") }
        }
    }

    static func count(of user: UserID, _ connection: SQLConnection) throws -> Int {
        try connection.first("SELECT COUNT(*) FROM key_pairs WHERE user_id = ?", [.text(user.rawValue)]) { $0.int(0) }
            ?? 0
    }

    public func delete(_ name: String, of user: UserID) async throws {
        try await database.write { connection in
            let deleted = try connection.execute(
                "DELETE FROM key_pairs WHERE user_id = ? AND name = ?", [.text(user.rawValue), .text(name)])
            guard deleted > 0 else { throw StoreError.notFound("Keypair \(name)") }
        }
    }
}

/// A user has as many key pairs as the quota allows.
public struct KeyPairLimitReached: Error, Sendable, Hashable {
    public let limit: Int
    /// How many the user has; more than the limit when that was lowered since.
    public let used: Int
}
