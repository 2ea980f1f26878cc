#if PostgreSQL
    internal import SQL

    /// How often, and after which pauses, a transaction is run again. Counts; does not wait.
    struct Attempts {
        /// Why another attempt may succeed where this one failed.
        enum Reason: String, Sendable, Hashable {
            /// The transaction lost against others: a serialization failure or a deadlock.
            case conflict
            /// A row that is there already. Under SERIALIZABLE the server may say so where a conflict is the truth, and then
            /// the second attempt sees the row before it makes its own.
            case duplicate
            /// The connection was lost before COMMIT was sent, so that nothing has happened.
            case connectionLost = "connection_lost"
        }

        static let conflictLimit = 20

        private let patience: Duration
        private var conflicts = 0
        private var duplicates = 0
        private var losses = 0
        private var waited = Duration.zero

        /// - Parameter patience: how long a server that cannot be reached is waited for, without the time of the attempts.
        init(patience: Duration) { self.patience = patience }

        /// Whether the transaction has lost before: it runs alone among its like then.
        var hasLost: Bool { conflicts > 0 }

        /// The pause before the next attempt, `nil` when there is none. `random` is from 0 up to 1.
        mutating func pause(after reason: Reason, random: Double) -> Duration? {
            // Between half and all of it: those that have lost together shall not meet again.
            let share = 0.5 + random / 2
            switch reason {
            case .conflict:
                guard conflicts < Self.conflictLimit else { return nil }
                conflicts += 1
                return Duration.milliseconds(2 << min(conflicts, 7)) * share
            case .duplicate:
                guard duplicates == 0 else { return nil }
                duplicates += 1
                return .zero
            case .connectionLost:
                guard waited < patience else { return nil }
                losses += 1
                let pause = Duration.milliseconds(min(25 << min(losses, 6), 1_000)) * share
                waited += pause
                return pause
            }
        }
    }
#endif
