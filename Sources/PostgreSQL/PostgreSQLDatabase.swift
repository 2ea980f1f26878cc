#if PostgreSQL
    public import Model
    public import SQL
    internal import Synchronization
    internal import Telemetry

    /// One PostgreSQL database: a bounded pool of connections, each with a thread of its own while it works.
    ///
    /// Writing transactions are SERIALIZABLE, so that the stores' reads still hold when what follows from them is written,
    /// whichever of several processes it is: no store names what it must lock. One that loses is run again; from its second
    /// attempt on one at a time in all processes, so that many that want the same row do not starve each other. Reads are
    /// REPEATABLE READ: one state of the database, and they never lose.
    public final class PostgreSQLDatabase: SQLDatabase {
        /// How the database is used; the defaults serve a control process.
        public struct Settings: Sendable, Hashable {
            /// Connections at most, from 1 to 100; one more listens.
            public var connections = 8
            /// After which a statement is ended.
            public var statementTimeout = Duration.seconds(30)
            /// After which a statement that waits for a lock fails with `.busy`.
            public var lockTimeout = Duration.seconds(10)
            /// How long a server that cannot be reached is waited for.
            public var patience = Duration.seconds(5)

            public init() {}
        }

        private static let queueLimit = 10_000

        private struct State {
            var pending = 0
            var isClosed = false
            var closer: CheckedContinuation<Void, Never>?
        }

        private enum Outcome<T: Sendable>: Sendable {
            case done(T)
            case failed(any Error, Attempts.Reason?)
            case cut(CutCommit<T>)
        }

        private let slots: [ConnectionSlot]
        private let freeSlots: Mutex<[Int]>
        private let threads: BlockingExecutor
        private let clock = ServerClock()
        private let log = Logger("postgresql")
        private let listener: ChangeListener
        private let patience: Duration
        private let state = Mutex(State())
        private let seconds: Histogram
        private let retries: Counter

        /// Connects to the database at `url`, `postgresql://USER@HOST:PORT/DATABASE?KEYWORD=VALUE` with libpq's keywords
        /// (`passfile`, `sslmode`, `sslrootcert` …); it must exist and be in UTF8.
        ///
        /// Throws `.cannotOpen` for a text that is no such URL, `.connectionLost` when the server cannot be reached within
        /// `settings.patience` or refuses the user.
        public static func open(
            _ url: String, settings: Settings = Settings()
        ) async throws(SQLError) -> PostgreSQLDatabase {
            let database = try PostgreSQLDatabase(ServerAddress(url: url), settings)
            database.listener.start()
            do {
                let clock = database.clock
                try await database.read { connection in
                    let start = ContinuousClock.now
                    let time = try connection.first(ServerClock.question) { $0.int64(0) }
                    if let time { clock.note(time, askedAt: start) }
                }
            } catch {
                await database.close()
                throw error as? SQLError ?? SQLError(.misuse, "\(error)")
            }
            return database
        }

        private init(_ address: ServerAddress, _ settings: Settings) throws(SQLError) {
            let session = SessionSettings(
                statementTimeout: settings.statementTimeout, lockTimeout: settings.lockTimeout)
            slots = (0..<min(max(settings.connections, 1), 100)).map { _ in ConnectionSlot(address, settings: session) }
            freeSlots = Mutex(Array(slots.indices))
            threads = BlockingExecutor(name: "postgresql", threads: slots.count)
            listener = try ChangeListener(address, settings: session, clock: clock)
            patience = settings.patience
            seconds = Metrics.shared.histogram(
                "postgresql_transaction_seconds", help: "Time of a transaction, from BEGIN to the end of COMMIT.",
                buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5])
            retries = Metrics.shared.counter(
                "postgresql_retries_total", help: "Transactions that were run again, by reason.")
        }

        deinit { listener.requestEnd() }

        /// Runs `body` in a writing transaction and returns once it is durable. What `body` throws undoes it.
        ///
        /// `body` may run several times. Not interrupted by cancellation. Throws `.serialization` when it has lost 20 times,
        /// `.connectionLost` when nothing was changed, `.outcomeUnknown` when the connection was cut during COMMIT and the
        /// server, asked again, does not say whether it was made: what was is not made again, what was not is.
        @discardableResult
        public func write<T: Sendable>(
            _ isolation: WriteIsolation, _ body: @escaping @Sendable (SQLConnection) throws -> T
        ) async throws -> T {
            let begin =
                switch isolation {
                case .serializable: "BEGIN ISOLATION LEVEL SERIALIZABLE"
                case .rowLocks: "BEGIN ISOLATION LEVEL READ COMMITTED"
                }
            return try await run(begin, "write", retriesDuplicates: isolation == .serializable, nil, body)
        }

        /// Runs `body` in a reading transaction: all its queries see one state of the database.
        ///
        /// Ends with `CancellationError` when its task is cancelled while it runs. A task that is cancelled already may still
        /// read: it does so to end its work.
        public func read<T: Sendable>(_ body: @escaping @Sendable (SQLConnection) throws -> T) async throws -> T {
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            guard !Task.isCancelled else { return try await run(begin, "read", retriesDuplicates: false, nil, body) }
            let interruption = Interruption()
            return try await withTaskCancellationHandler {
                try await run(begin, "read", retriesDuplicates: false, interruption, body)
            } onCancel: {
                interruption.request()
            }
        }

        public func migrate(_ schemas: [(component: String, migrations: [Migration])]) async throws {
            let migration = try SchemaMigration(schemas)
            guard try await !read({ try migration.isDone($0) }) else { return }
            // READ COMMITTED behind the lock: what an earlier migration did is seen, and there is no other beside it.
            try await run(
                "BEGIN ISOLATION LEVEL READ COMMITTED", "migrate", retriesDuplicates: false, nil, isAlone: true
            ) { try migration.run($0) }
        }

        /// A number that rises soon after another session has written; with every call while no connection tells of that.
        public func dataVersion() async throws -> Int64 {
            guard !state.withLock({ $0.isClosed }) else { throw Self.closed }
            return listener.version
        }

        /// The server's time.
        public func now() -> Timestamp { clock.now() }

        public func announce(_ name: String) async throws -> Bool {
            guard !state.withLock({ $0.isClosed }) else { throw Self.closed }
            return listener.announce(name)
        }

        public func isAnnounced(_ name: String) async throws -> Bool {
            let lock = ChangeListener.lock(name)
            return try await read { connection in
                try connection.first(
                    """
                    SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND classid = CAST(CAST(? AS BIGINT) AS OID) AND objid = CAST(CAST(? AS BIGINT) AS OID)
                    """,
                    [
                        .integer(Int64(UInt32(bitPattern: lock.space))),
                        .integer(Int64(UInt32(bitPattern: lock.number))),
                    ]
                ) { $0.int(0) } != nil
            }
        }

        /// True: the server tells of changes.
        public func onChange(_ wake: @escaping @Sendable () -> Void) -> Bool {
            listener.add(wake)
            return true
        }

        /// Lets the transactions that were accepted end, then closes every connection. Later calls fail with `.closed`.
        public func close() async {
            await withCheckedContinuation { continuation in
                let isIdle = state.withLock { state in
                    let isFirst = !state.isClosed
                    state.isClosed = true
                    guard state.pending > 0, isFirst else { return true }
                    state.closer = continuation
                    return false
                }
                if isIdle { continuation.resume() }
            }
            await listener.end()
            await threads.run { for slot in self.slots { slot.close() } }
            threads.shutdown()
        }

        private static let closed = SQLError(.closed, "the database is closed")

        // MARK: Attempts

        private func run<T: Sendable>(
            _ begin: String, _ kind: String, retriesDuplicates: Bool, _ interruption: Interruption?,
            isAlone: Bool = false,
            _ body: @escaping @Sendable (SQLConnection) throws -> T
        ) async throws -> T {
            try enter()
            defer { leave() }
            var attempts = Attempts(patience: patience)
            while true {
                let isAlone = isAlone || attempts.hasLost
                let outcome = await threads.run {
                    self.attempt(begin, kind, isAlone: isAlone, interruption, body)
                }
                switch outcome {
                case .done(let value): return value
                case .failed(let error, let reason):
                    guard let reason, reason != .duplicate || retriesDuplicates,
                        let pause = attempts.pause(after: reason, random: .random(in: 0..<1))
                    else { throw error }
                    retries.increment(labels: [("reason", reason.rawValue)])
                    await rest(pause)
                case .cut(let cut):
                    // Asked until it is known: what was made must not be made twice, and what was not is to be made.
                    if try await isMade(cut) { return cut.value }
                    guard let pause = attempts.pause(after: .connectionLost, random: .random(in: 0..<1)) else {
                        throw SQLError(.connectionLost, cut.error.message)
                    }
                    retries.increment(labels: [("reason", "cut_commit")])
                    await rest(pause)
                }
            }
        }

        /// Whether a transaction is durable whose COMMIT was not answered. `.outcomeUnknown` when the server cannot be
        /// reached, or does not know.
        private func isMade<T>(_ cut: CutCommit<T>) async throws -> Bool {
            let end = ContinuousClock.now + patience
            while true {
                let status: String?
                do {
                    status = try await run("BEGIN READ ONLY", "status", retriesDuplicates: false, nil) { connection in
                        try connection.first(
                            "SELECT txid_status(CAST(? AS BIGINT))", [.integer(Int64(cut.number) ?? 0)]
                        ) { $0.textOrNil(0) } ?? nil
                    }
                } catch {
                    log.error("whether a change was made is not known", ["error": LoggedError(error)])
                    throw cut.error
                }
                switch status {
                case "committed": return true
                case "aborted": return false
                // Its session is still at its end.
                case "in progress" where ContinuousClock.now < end: await rest(.milliseconds(50))
                default: throw cut.error
                }
            }
        }

        private func attempt<T: Sendable>(
            _ begin: String, _ kind: String, isAlone: Bool, _ interruption: Interruption?,
            _ body: @escaping @Sendable (SQLConnection) throws -> T
        ) -> Outcome<T> {
            // There are as many connections as threads, so that one is always free.
            guard let index = freeSlots.withLock({ $0.popLast() }) else {
                return .failed(SQLError(.misuse, "more threads than connections"), nil)
            }
            defer { freeSlots.withLock { $0.append(index) } }
            let start = ContinuousClock.now
            do {
                return try slots[index].use { connection in
                    let transaction = { () throws -> T in
                        try connection.transaction(begin, isReading: kind == "read" || kind == "status", body)
                    }
                    do {
                        let value =
                            if let interruption {
                                try connection.interruptible(by: interruption, transaction)
                            } else if isAlone {
                                try connection.alone(transaction)
                            } else {
                                try transaction()
                            }
                        if connection.hasWritten { listener.noteWrite() }
                        seconds.observe((ContinuousClock.now - start).inSeconds, labels: [("kind", kind)])
                        return .done(value)
                    } catch let cut as CutCommit<T> {
                        return .cut(cut)
                    } catch {
                        if interruption?.isRequested == true { return .failed(CancellationError(), nil) }
                        // What the server said counts, also where a store has made another error of it.
                        return .failed(error, Self.reason(error, connection.failure))
                    }
                }
            } catch {
                return .failed(error, Self.reason(error, nil))
            }
        }

        private static func reason(_ error: any Error, _ failure: SQLError?) -> Attempts.Reason? {
            if (error as? SQLError)?.code == .outcomeUnknown { return nil }
            switch (failure ?? error as? SQLError)?.code {
            case .serialization: return .conflict
            case .constraint(.unique): return .duplicate
            // The second of these: a plan that no longer fits the tables. The connection that has it is closed by now.
            case .connectionLost, .other("0A000"): return .connectionLost
            default: return nil
            }
        }

        /// Waits without being interrupted by cancellation: a write is to be made by a cancelled task as well.
        private func rest(_ pause: Duration) async {
            guard pause > .zero else { return }
            await Task { _ = try? await Task.sleep(for: pause) }.value
        }

        private func enter() throws(SQLError) {
            try state.withLock { (state) throws(SQLError) in
                guard !state.isClosed else { throw Self.closed }
                guard state.pending < Self.queueLimit else {
                    throw SQLError(.queueFull(limit: Self.queueLimit), "\(Self.queueLimit) transactions wait already")
                }
                state.pending += 1
            }
        }

        private func leave() {
            let closer = state.withLock { state in
                state.pending -= 1
                guard state.pending == 0 else { return nil as CheckedContinuation<Void, Never>? }
                defer { state.closer = nil }
                return state.closer
            }
            closer?.resume()
        }
    }
#endif
