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
            SET lock_timeout = \(milliseconds(lockTimeout));
            SET idle_in_transaction_session_timeout = \(milliseconds(Self.idleInTransaction));
            SET standard_conforming_strings = on; SET bytea_output = 'hex'; SET extra_float_digits = 1;
            SET synchronous_commit = on
            """
        }

        private func milliseconds(_ duration: Duration) -> Int64 {
            let (seconds, attoseconds) = duration.components
            return max(1, seconds * 1_000 + attoseconds / 1_000_000_000_000_000)
        }
    }
#endif
