public import Model
public import SQL
internal import Synchronization
internal import Telemetry

/// One SQLite database: a writer that commits in groups, and a few readers.
///
/// Every closure runs on a thread of its own pool, never on the cooperative one, and is not interrupted by cancellation:
/// what was queued is written. Closures must be short and must not wait for anything.
public final class SQLiteDatabase: SQLDatabase {
    public enum Location: Sendable, Hashable {
        case file(String)
        /// Gone with the object; one connection for reads and writes.
        case memory
    }

    private static let readerLimit = 16

    private let writer: ConnectionSlot
    /// `nil` for a database that is in memory.
    private let turn: Mutex<WriteTurn?>
    private let readers: [ConnectionSlot]
    private let freeReaders: Mutex<[Int]>
    /// `nil` for a database that is in memory, which only this process has.
    private let presence: PresenceLocks?
    private let writeThread: BlockingExecutor
    private let readThreads: BlockingExecutor?
    private let queue = WriteQueue()
    private let isClosed = Mutex(false)
    private let labels: [(String, String)]
    private let queueDepth: GaugeCell
    private let commitSeconds: Histogram

    /// Opens a database; a missing file is made, with mode 0600.
    ///
    /// `readers` connections serve `read` (1 to 16, not for `.memory`). A lock held by another process is waited for up to
    /// `busyTimeout`, then the call fails with `.busy`.
    public static func open(
        _ location: Location, readers: Int = 2, busyTimeout: Duration = .seconds(5)
    ) async throws(SQLError) -> SQLiteDatabase {
        let database = SQLiteDatabase(location, readers: readers, busyTimeout: busyTimeout)
        do {
            try await database.writeThread.run { () throws in
                // Reading the schema finds a file that is no database, or is damaged at its root, before anything else does.
                _ = try database.writer.use { try $0.hasTable("") }
            }
        } catch {
            throw error as? SQLError ?? SQLError(.misuse, "\(error)")
        }
        return database
    }

    private init(_ location: Location, readers count: Int, busyTimeout: Duration) {
        let path: String
        switch location {
        case .memory:
            path = ":memory:"
            turn = Mutex(nil)
            presence = nil
            readers = []
            readThreads = nil
            writer = ConnectionSlot(path: path, role: .both, busyTimeout: busyTimeout)
        case .file(let file):
            path = file
            turn = Mutex(WriteTurn(database: file, patience: busyTimeout))
            presence = PresenceLocks(database: file)
            readers = (0..<min(max(count, 1), Self.readerLimit)).map { _ in
                ConnectionSlot(path: file, role: .reader, busyTimeout: busyTimeout)
            }
            readThreads = BlockingExecutor(name: "sqlite-read", threads: readers.count)
            writer = ConnectionSlot(path: file, role: .writer, busyTimeout: busyTimeout)
        }
        freeReaders = Mutex(Array(readers.indices))
        writeThread = BlockingExecutor(name: "sqlite-write", threads: 1)
        labels = [("database", path.split(separator: "/").last.map(String.init) ?? path)]
        queueDepth = Metrics.shared.gauge(
            "sqlite_queue_depth", help: "Writes that wait for their transaction."
        ).cell(labels: labels)
        commitSeconds = Metrics.shared.histogram(
            "sqlite_commit_seconds", help: "Time of a group of writes, from BEGIN to the end of COMMIT.",
            buckets: [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5])
    }

    /// Runs `body` in a writing transaction and returns once it is durable. What `body` throws undoes `body` alone.
    ///
    /// Writes that arrive while a commit runs share the next one. Throws `.queueFull` when 10,000 wait already. Whatever
    /// `isolation`, one transaction writes at a time.
    @discardableResult
    public func write<T: Sendable>(
        _ isolation: WriteIsolation, _ body: @escaping @Sendable (SQLConnection) throws -> T
    ) async throws -> T {
        let write = Write(body)
        queueDepth.set(Double(try queue.append(write)))
        await writeThread.run {
            // An earlier turn of this thread may have taken this write into its group.
            while !write.isSettled { self.commitGroup() }
        }
        return try write.value()
    }

    /// Runs `body` in a reading transaction: all its queries see one state of the database.
    public func read<T: Sendable>(_ body: @escaping @Sendable (SQLConnection) throws -> T) async throws -> T {
        guard !isClosed.withLock({ $0 }) else { throw SQLError(.closed, "the database is closed") }
        guard let readThreads else {
            return try await writeThread.run { () throws in try self.writer.use { try $0.reading(body) } }
        }
        return try await readThreads.run { () throws in
            // There are as many readers as threads, so that one is always free.
            guard let index = self.freeReaders.withLock({ $0.popLast() }) else {
                throw SQLError(.misuse, "more threads than readers")
            }
            defer { self.freeReaders.withLock { $0.append(index) } }
            return try self.readers[index].use { try $0.reading(body) }
        }
    }

    /// A number that changes whenever another process, or another `SQLiteDatabase`, wrote to the file.
    public func dataVersion() async throws -> Int64 {
        guard !isClosed.withLock({ $0 }) else { throw SQLError(.closed, "the database is closed") }
        return try await writeThread.run { () throws in
            // On the writer's own connection, whose commits do not count for itself.
            try self.writer.use { try SQLConnection($0).first("PRAGMA data_version") { $0.int64(0) } ?? 0 }
        }
    }

    /// This machine's time: the file is shared by processes of one machine.
    public func now() -> Timestamp { WallClock.now() }

    public func announce(_ name: String) async throws -> Bool { try presence?.announce(name) ?? true }

    public func isAnnounced(_ name: String) async throws -> Bool { try presence?.isAnnounced(name) ?? true }

    /// False: SQLite tells no other process of a change.
    public func onChange(_ wake: @escaping @Sendable () -> Void) -> Bool { false }

    public func migrate(_ schemas: [(component: String, migrations: [Migration])]) async throws {
        let migration = try SchemaMigration(schemas)
        guard try await !read({ try migration.isDone($0) }) else { return }
        try await write { try migration.run($0) }
    }

    var waitingWrites: Int { queue.count }

    /// Lets the queued writes end, then closes every connection. Later calls fail with `.closed`.
    public func close() async {
        queue.close()
        isClosed.withLock { $0 = true }
        await readThreads?.run { for reader in self.readers { reader.close() } }
        // The only thread for writes: it comes here after everything that was queued.
        await writeThread.run {
            while self.commitGroup() {}
            self.writer.close()
            self.turn.withLock { $0 = nil }
            self.presence?.release()
        }
        readThreads?.shutdown()
        writeThread.shutdown()
    }

    /// Commits the writes that wait, up to one group; false when there were none.
    @discardableResult
    private func commitGroup() -> Bool {
        let (group, left) = queue.takeGroup()
        queueDepth.set(Double(left))
        guard !group.isEmpty else { return false }
        let start = ContinuousClock.now
        do {
            let (unrun, isStuck) = try turn.withLock { turn in
                try turn?.take()
                defer { turn?.end() }
                return try writer.use { connection in
                    (GroupCommit(connection: connection).run(group), connection.isInTransaction)
                }
            }
            // A rollback that failed leaves its transaction open; a new connection starts clean.
            if isStuck { writer.close() }
            queue.putBack(unrun)
        } catch {
            for write in group { write.settle(error) }
        }
        commitSeconds.observe((ContinuousClock.now - start).inSeconds, labels: labels)
        return true
    }
}

extension SQLiteConnection {
    fileprivate func reading<T>(_ body: (SQLConnection) throws -> T) throws -> T {
        try execute("BEGIN")
        do {
            let value = try body(SQLConnection(self))
            try execute("COMMIT")
            return value
        } catch {
            if isInTransaction { try execute("ROLLBACK") }
            throw error
        }
    }
}
