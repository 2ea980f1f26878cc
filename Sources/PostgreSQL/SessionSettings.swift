#if PostgreSQL
    /// What every session is told first.
    struct SessionSettings: Sendable {
        let statementTimeout: Duration
        let lockTimeout: Duration

        /// A transaction that its program has left must not hold its locks for ever.
        private static let idleInTransaction = Duration.seconds(60)

        var script: String {
            """
            SET statement_timeout = \(milliseconds(statementTimeout));
            \(lockLimit);
            SET idle_in_transaction_session_timeout = \(milliseconds(Self.idleInTransaction));
            SET standard_conforming_strings = on; SET bytea_output = 'hex'; SET extra_float_digits = 1;
            SET synchronous_commit = on
            """
        }

        private var lockLimit: String { "SET lock_timeout = \(milliseconds(lockTimeout))" }

        /// Before a turn is waited for, and after. Those in front may be many, each with a transaction that may take its time.
        var beforeTurn: String {
            "SET lock_timeout = \(milliseconds(max(lockTimeout, min(lockTimeout * 2, statementTimeout - .seconds(1)))))"
        }
        var afterTurn: String { lockLimit }

        private func milliseconds(_ duration: Duration) -> Int64 {
            let (seconds, attoseconds) = duration.components
            return max(1, seconds * 1_000 + attoseconds / 1_000_000_000_000_000)
        }
    }
#endif
