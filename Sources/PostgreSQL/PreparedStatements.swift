#if PostgreSQL
    /// The prepared statements of one connection, by text. Bounded: the one that was used longest ago goes first.
    struct PreparedStatements {
        struct Statement {
            let sql: String
            let name: String
            let parameters: Int
        }

        /// Enough for every statement of a store set; texts with lists of varying length push out the oldest.
        private static let limit = 256

        private var statements: [String: Statement] = [:]
        private var lastUse: [String: UInt64] = [:]
        private var counter: UInt64 = 0

        mutating func find(_ sql: String) -> Statement? {
            guard let known = statements[sql] else { return nil }
            counter += 1
            lastUse[sql] = counter
            return known
        }

        /// What must be dropped before another one is kept.
        func oldestToDrop() -> Statement? {
            guard statements.count >= Self.limit else { return nil }
            return statements.values.min { lastUse[$0.sql, default: 0] < lastUse[$1.sql, default: 0] }
        }

        mutating func drop(_ statement: Statement) {
            statements[statement.sql] = nil
            lastUse[statement.sql] = nil
        }

        /// A name that this connection never had.
        mutating func nextName() -> String {
            counter += 1
            return "s\(counter)"
        }

        mutating func keep(_ sql: String, name: String, parameters: Int) -> Statement {
            let statement = Statement(sql: sql, name: name, parameters: parameters)
            statements[sql] = statement
            lastUse[sql] = counter
            return statement
        }
    }
#endif
