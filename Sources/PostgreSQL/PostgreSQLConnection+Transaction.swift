#if PostgreSQL
    internal import SQL

    extension PostgreSQLConnection {
        /// Runs `body` between `begin` and COMMIT; what is thrown undoes it, unless it is `.outcomeUnknown`.
        func transaction<T>(
            _ begin: String, isReading: Bool, _ body: (SQLConnection) throws -> T
        ) throws -> T {
            beginAnew()
            try command(begin)
            let value: T
            do {
                value = try body(SQLConnection(self))
            } catch {
                rollBack()
                throw error
            }
            // The server has given the transaction up, and would answer COMMIT by undoing it.
            if let failure {
                rollBack()
                throw failure
            }
            guard !isReading else {
                // There is nothing to commit, and nothing that a lost answer could leave open.
                rollBack()
                return value
            }
            let answer = try commit()
            guard answer == "COMMIT" else {
                rollBack()
                throw SQLError(.misuse, "a transaction was ended by its own statements")
            }
            return value
        }

        private func commit() throws(SQLError) -> String {
            do {
                return String(try command("COMMIT").command)
            } catch {
                // With the connection the answer is lost, not the commit: it may be on the server's disk.
                guard !isUsable else {
                    rollBack()
                    throw error
                }
                throw SQLError(.outcomeUnknown, "the connection was lost during COMMIT: \(error.message)")
            }
        }

        /// Runs `body` while no other session of any process that also runs this is at it.
        ///
        /// The lock is the session's and is taken before the transaction begins: one that is taken within would be waited for
        /// with a view of the database that is old by then.
        func alone<T>(_ body: () throws -> T) throws -> T {
            beginAnew()
            try command(settings.beforeTurn)
            do throws(SQLError) {
                try command("SELECT pg_advisory_lock(\(Self.lockKey))")
            } catch {
                // A session with another limit than its like is not used on.
                giveUp()
                throw error
            }
            defer { unlock() }
            try command(settings.afterTurn)
            return try body()
        }

        private func unlock() {
            // Whoever cannot give the lock back gives the session up, and with it the lock.
            guard isUsable, (try? command("SELECT pg_advisory_unlock(\(Self.lockKey))")) == nil else { return }
            giveUp()
        }

        /// "apus" as a number; the lock of writers that have lost before, and of migrations.
        private static let lockKey = 0x6170_7573
    }
#endif
