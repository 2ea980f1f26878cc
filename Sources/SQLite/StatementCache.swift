internal import SQL

/// Prepared statements by text. A statement in use is out of the cache, so that a nested query of the same text gets its own.
struct StatementCache {
    /// Enough for every statement of a store set; texts with lists of varying length push out the oldest.
    private static let limit = 256

    private var statements: [String: Statement] = [:]
    private var lastUse: [String: UInt64] = [:]
    private var counter: UInt64 = 0

    mutating func take(_ sql: String, on connection: OpaquePointer) throws(SQLError) -> Statement {
        if let known = statements.removeValue(forKey: sql) { return known }
        return try Statement(sql, on: connection)
    }

    mutating func giveBack(_ statement: Statement) {
        statement.reset()
        counter += 1
        statements[statement.sql] = statement
        lastUse[statement.sql] = counter
        guard statements.count > Self.limit,
            let oldest = statements.keys.min(by: { lastUse[$0, default: 0] < lastUse[$1, default: 0] })
        else { return }
        statements[oldest] = nil
        lastUse[oldest] = nil
    }

    mutating func removeAll() {
        statements = [:]
        lastUse = [:]
    }
}
