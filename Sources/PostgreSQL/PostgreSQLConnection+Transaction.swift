#if PostgreSQL
    internal import SQL

    /// A transaction whose COMMIT was sent, and whose answer was lost with the connection. What has become of it the server
    /// can tell by its number.
    struct CutCommit<T: Sendable>: Error {
        /// What the transaction gave, if it was made.
        let value: T
        let number: String
        let error: SQLError
    }

    extension PostgreSQLConnection {
        /// Runs `body` between `begin` and COMMIT; what is thrown undoes it, unless it is `CutCommit` or, of a server that
        /// does not number its transactions, `.outcomeUnknown`.
        func transaction<T: Sendable>(
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
            let number = try transactionNumber()
            let answer: String
            do throws(SQLError) {
                answer = try commit()
            } catch {
                guard error.code == .outcomeUnknown, let number else { throw error }
                throw CutCommit(value: value, number: number, error: error)
            }
            guard answer == "COMMIT" else {
                rollBack()
                throw SQLError(.misuse, "a transaction was ended by its own statements")
            }
            return value
        }

        /// The server's number for the transaction at hand; `nil` for one that has changed nothing.
        private func transactionNumber() throws(SQLError) -> String? {
            guard numbersTransactions else { return nil }
            do {
                let answer = try command("SELECT txid_current_if_assigned()")
                guard answer.rowCount > 0, !answer.text(0).isEmpty else { return nil }
                return answer.text(0)
            } catch {
                rollBack()
                throw error
            }
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
