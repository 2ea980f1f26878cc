internal import SQL

/// Runs a group of writes in one transaction, each in a savepoint of its own.
struct GroupCommit {
    let connection: SQLiteConnection

    /// Settles every write but those it returns, which have not run because the transaction was lost before their turn.
    func run(_ writes: [any QueuedWrite]) -> ArraySlice<any QueuedWrite> {
        do {
            // IMMEDIATE: a read that turned into a write would fail at once with "locked", whatever the busy timeout.
            try connection.execute("BEGIN IMMEDIATE")
        } catch {
            for write in writes { write.settle(error) }
            return []
        }
        for (index, write) in writes.enumerated() {
            do {
                try runInSavepoint(write)
            } catch {
                for done in writes[...index] { done.settle(done.thrown ?? error) }
                rollBack()
                return writes[(index + 1)...]
            }
        }
        do {
            try connection.execute("COMMIT")
            for write in writes { write.settle(nil) }
        } catch {
            for write in writes { write.settle(write.thrown ?? error) }
            rollBack()
        }
        return []
    }

    /// Throws only when the whole transaction is lost; what the write's body threw stays with the write.
    private func runInSavepoint(_ write: any QueuedWrite) throws(SQLError) {
        try connection.execute("SAVEPOINT one_write")
        write.perform(on: connection)
        guard connection.isInTransaction else {
            throw write.thrown as? SQLError ?? SQLError(.misuse, "a write ended its transaction by itself")
        }
        if write.thrown != nil { try connection.execute("ROLLBACK TO one_write") }
        try connection.execute("RELEASE one_write")
    }

    private func rollBack() {
        guard connection.isInTransaction else { return }
        // When this fails the transaction stays open, which the caller sees and answers with a new connection.
        _ = try? connection.execute("ROLLBACK")
    }
}
