#if PostgreSQL
    internal import CPostgreSQL
    internal import CSystem
    internal import Glibc
    internal import SQL

    /// One connection, used by one thread at a time.
    ///
    /// Statements are sent and their answers awaited without libpq's own blocking, so that a server that is gone costs no
    /// more than the statement's time, and so that another thread can end the wait.
    final class PostgreSQLConnection: SQLEngineConnection {
        /// After which a request to end a statement is made again: one that comes before its statement is not heard.
        private static let cancelInterval = Duration.milliseconds(250)
        /// How much longer than the server's own limit an answer is waited for.
        private static let grace = Duration.seconds(5)

        private let handle: OpaquePointer
        private let wakeup: Int32
        private let patience: Duration
        private var cache = PreparedStatements()

        let settings: SessionSettings

        /// Whether the connection can take another statement.
        private(set) var isUsable = true
        /// Set when the connection must not be used after the transaction at hand.
        private(set) var isRetiring = false
        /// The first error of a statement since the transaction began, whatever became of it in the caller's hands.
        private(set) var failure: SQLError?
        /// Whether the server tells, by a transaction's number, what has become of it.
        private(set) var numbersTransactions = false
        /// Whether a statement of the transaction changed rows.
        private(set) var hasWritten = false

        /// Connects. Throws `.connectionLost` when that fails; the message names host and user but never a password.
        init(_ address: ServerAddress, settings: SessionSettings) throws(SQLError) {
            guard let opened = address.connect() else { throw SQLError(.other("memory"), "no memory for a connection") }
            guard PQstatus(opened) == CONNECTION_OK, PQsetnonblocking(opened, 1) == 0 else {
                let message = Self.message(opened)
                PQfinish(opened)
                throw SQLError(.connectionLost, message)
            }
            PQsetNoticeProcessor(opened, ignoreNotice, nil)
            let descriptor = apus_eventfd()
            guard descriptor >= 0 else {
                PQfinish(opened)
                throw SQLError(
                    .other("descriptors"), "no descriptor for a connection: \(String(cString: strerror(errno)))")
            }
            self.settings = settings
            (handle, wakeup, patience) = (opened, descriptor, settings.statementTimeout + Self.grace)
            guard let encoding = PQparameterStatus(opened, "server_encoding"), String(cString: encoding) == "UTF8"
            else {
                throw SQLError(.cannotOpen, "the database's encoding is not UTF8: create it with ENCODING 'UTF8'")
            }
            try executeScript(settings.script)
            do throws(SQLError) {
                // PostgreSQL 10 and later; not every engine that speaks its protocol.
                try command("SELECT txid_status(txid_current_if_assigned())")
                numbersTransactions = true
            } catch {
                guard isUsable else { throw error }
                beginAnew()
            }
        }

        deinit {
            PQfinish(handle)
            close(wakeup)
        }

        // MARK: Statements

        func execute(_ sql: String, _ values: [SQLValue]) throws(SQLError) -> Int {
            let changed = try run(sql, values).changedRows
            if changed > 0 { hasWritten = true }
            return changed
        }

        func visit(_ sql: String, _ values: [SQLValue], _ body: (borrowing SQLRow) throws -> Void) throws {
            let result = try run(sql, values)
            if result.changedRows > 0 { hasWritten = true }
            let row = SQLRow(result)
            for index in 0..<result.rowCount {
                result.stand(at: index)
                try body(row)
            }
        }

        func executeScript(_ sql: String) throws(SQLError) {
            hasWritten = true
            try command(Dialect.schema(sql))
        }

        func hasTable(_ name: String) throws -> Bool {
            let sql = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = ?"
            return try run(sql, [.text(name)]).rowCount > 0
        }

        func tables() throws -> [TableShape] {
            let result = try run(
                """
                SELECT tables.relname, columns.attname,
                    COALESCE(array_position(keys.indkey::INT2[], columns.attnum), -1)
                FROM pg_catalog.pg_class tables
                JOIN pg_catalog.pg_attribute columns ON columns.attrelid = tables.oid
                LEFT JOIN pg_catalog.pg_index keys ON keys.indrelid = tables.oid AND keys.indisprimary
                WHERE tables.relkind = 'r' AND tables.relnamespace = current_schema()::REGNAMESPACE
                AND columns.attnum > 0 AND NOT columns.attisdropped
                ORDER BY tables.relname COLLATE "C", columns.attnum
                """, [])
            var shapes: [TableShape] = []
            var keys: [[(place: Int, column: String)]] = []
            for index in 0..<result.rowCount {
                result.stand(at: index)
                let (name, column) = (result.text(0), result.text(1))
                if shapes.last?.name != name {
                    shapes.append(TableShape(name: name, columns: [], primaryKey: []))
                    keys.append([])
                }
                shapes[shapes.count - 1].columns.append(column)
                // `indkey` counts from 0.
                if result.int64(2) >= 0 { keys[keys.count - 1].append((Int(result.int64(2)), column)) }
            }
            for index in shapes.indices {
                shapes[index].primaryKey = keys[index].sorted { $0.place < $1.place }.map(\.column)
            }
            return shapes
        }

        /// Nothing: the server looks after its own files.
        func damages(limit: Int) throws -> [String] { [] }

        var lockingUnclaimed: String { "FOR UPDATE SKIP LOCKED" }

        /// Runs a text without values, of one or more statements, and gives what the last one answered.
        @discardableResult
        func command(_ text: String) throws(SQLError) -> ServerResult {
            try roundTrip(text) { handle in PQsendQuery(handle, text) }
        }

        private func run(_ sql: String, _ values: [SQLValue]) throws(SQLError) -> ServerResult {
            // A request to end that came between two statements ended neither.
            guard !isRetiring else { throw SQLError(.timeout, "the transaction was ended", sql: sql) }
            let statement = try prepared(sql)
            guard statement.parameters == values.count else {
                throw SQLError(.misuse, "\(values.count) values for \(statement.parameters) parameters", sql: sql)
            }
            let parameters = try Parameters(values, sql: sql)
            return try roundTrip(sql) { handle in
                parameters.withPointers { values, lengths, formats in
                    PQsendQueryPrepared(handle, statement.name, Int32(parameters.count), values, lengths, formats, 0)
                }
            }
        }

        private func prepared(_ sql: String) throws(SQLError) -> PreparedStatements.Statement {
            if let known = cache.find(sql) { return known }
            if let oldest = cache.oldestToDrop() {
                try command("DEALLOCATE \(oldest.name)")
                cache.drop(oldest)
            }
            let (text, parameters) = Dialect.statement(sql)
            guard parameters <= Parameters.limit else {
                throw SQLError(.misuse, "\(parameters) parameters are more than a statement can have", sql: sql)
            }
            let name = cache.nextName()
            _ = try roundTrip(sql) { handle in PQsendPrepare(handle, name, text, 0, nil) }
            return cache.keep(sql, name: name, parameters: parameters)
        }

        // MARK: Transactions

        /// Forgets what the last transaction did.
        func beginAnew() {
            failure = nil
            hasWritten = false
        }

        /// Undoes the open transaction, if there is one; a connection that cannot is of no more use.
        func rollBack() {
            guard isUsable, PQtransactionStatus(handle) != PQTRANS_IDLE else { return }
            do {
                try command("ROLLBACK")
            } catch {
                isUsable = false
            }
        }

        /// Makes the connection be replaced before its next use.
        func giveUp() { isUsable = false }

        // MARK: Other threads

        /// Runs `body` so that `interruption` ends the statement that is at work.
        func interruptible<T>(by interruption: Interruption, _ body: () throws -> T) throws -> T {
            guard interruption.arm(wakeup) else { throw CancellationError() }
            defer {
                interruption.disarm()
                drain(wakeup)
            }
            return try body()
        }

        // MARK: The wire

        /// Sends by `send` and waits for all of the answer; gives the last result, or throws the first error.
        private func roundTrip(_ sql: String, _ send: (OpaquePointer) -> Int32) throws(SQLError) -> ServerResult {
            guard isUsable else { throw SQLError(.connectionLost, "the connection was lost before") }
            do throws(SQLError) {
                let deadline = ContinuousClock.now + patience
                guard send(handle) == 1 else { throw lost(sql) }
                try flush(sql, until: deadline)
                var last: ServerResult?
                var complaint: SQLError?
                while let result = try nextResult(sql, until: deadline) {
                    if complaint == nil { complaint = result.error(sql: sql) }
                    last = result
                }
                guard PQstatus(handle) == CONNECTION_OK else { throw lost(sql, after: complaint) }
                if let complaint { throw complaint }
                guard let last else { throw lost(sql) }
                return last
            } catch {
                if failure == nil { failure = error }
                // A plan that no longer fits the tables is made anew by another session.
                if error.code == .other("0A000") { isUsable = false }
                throw error
            }
        }

        private func flush(_ sql: String, until deadline: ContinuousClock.Instant) throws(SQLError) {
            while true {
                switch PQflush(handle) {
                case 0: return
                case 1:
                    // The server may have to get rid of an answer before it reads on.
                    let ready = try wait(Int16(POLLIN | POLLOUT), sql, until: deadline)
                    if ready & Int16(POLLIN) != 0, PQconsumeInput(handle) != 1 { throw lost(sql) }
                default: throw lost(sql)
                }
            }
        }

        private func nextResult(
            _ sql: String, until deadline: ContinuousClock.Instant
        ) throws(SQLError) -> ServerResult? {
            while PQisBusy(handle) == 1 {
                _ = try wait(Int16(POLLIN), sql, until: deadline)
                guard PQconsumeInput(handle) == 1 else { throw lost(sql) }
            }
            return PQgetResult(handle).map { ServerResult(owning: $0) }
        }

        /// Waits until the socket is ready, and gives for what. Another thread's request ends the statement on the way.
        private func wait(
            _ events: Int16, _ sql: String, until deadline: ContinuousClock.Instant
        ) throws(SQLError) -> Int16 {
            while true {
                var waited = [
                    pollfd(fd: PQsocket(handle), events: events, revents: 0),
                    pollfd(fd: wakeup, events: Int16(POLLIN), revents: 0),
                ]
                let left = max(.zero, deadline - ContinuousClock.now)
                let time = isRetiring ? min(left, Self.cancelInterval) : left
                let count = poll(&waited, 2, time.pollMilliseconds)
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else { throw lost(sql) }
                if count == 0 {
                    guard isRetiring, left > Self.cancelInterval else {
                        isUsable = false
                        throw SQLError(.connectionLost, "the server does not answer", sql: sql)
                    }
                    cancelStatement()
                }
                if waited[1].revents != 0 { cancelStatement() }
                if waited[0].revents != 0 { return waited[0].revents }
            }
        }

        /// Asks the server to end the statement. The connection is not used again: a request that comes late would end a
        /// statement of somebody else.
        private func cancelStatement() {
            drain(wakeup)
            isRetiring = true
            guard let cancel = PQgetCancel(handle) else { return }
            defer { PQfreeCancel(cancel) }
            var complaint = [CChar](repeating: 0, count: 256)
            // When it fails the statement runs to its own end, within the server's limit.
            _ = PQcancel(cancel, &complaint, Int32(complaint.count))
        }

        private func lost(_ sql: String?, after complaint: SQLError? = nil) -> SQLError {
            isUsable = false
            return SQLError(.connectionLost, complaint?.message ?? Self.message(handle), sql: sql)
        }

        private static func message(_ handle: OpaquePointer) -> String {
            let text = PQerrorMessage(handle).map { String(cString: $0) } ?? ""
            let line = text.split(separator: "\n").map(String.init).joined(separator: "; ")
            return line.isEmpty ? "the connection to the database is lost" : line
        }

        // MARK: Notifications

        /// Waits for what others notify, for `descriptor` or for the end of `time`; true when another session notified.
        func waitForNotification(or descriptor: Int32, atMost time: Duration) throws(SQLError) -> Bool {
            var waited = [
                pollfd(fd: PQsocket(handle), events: Int16(POLLIN), revents: 0),
                pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&waited, 2, time.pollMilliseconds) >= 0 || errno == EINTR else { throw lost(nil) }
            if waited[0].revents != 0, PQconsumeInput(handle) != 1 { throw lost(nil) }
            return takeNotifications()
        }

        /// Whether another session has notified since the last look.
        func takeNotifications() -> Bool {
            var isByOthers = false
            while let notification = PQnotifies(handle) {
                if notification.pointee.be_pid != PQbackendPID(handle) { isByOthers = true }
                PQfreemem(notification)
            }
            return isByOthers
        }
    }

    extension Duration {
        /// For `poll`, rounded up; from nothing to an hour.
        var pollMilliseconds: Int32 {
            let (seconds, attoseconds) = max(.zero, self).components
            return Int32(min(seconds, 3_600)) * 1_000
                + Int32((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
        }
    }

    /// Notices are what a server says beside its answers, such as that an index was made; by default libpq prints them.
    private func ignoreNotice(_: UnsafeMutableRawPointer?, _: UnsafePointer<CChar>?) {}
#endif
