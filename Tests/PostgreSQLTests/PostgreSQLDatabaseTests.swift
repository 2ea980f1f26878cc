#if PostgreSQL
    import Dispatch
    import PostgreSQLServer
    import SQL
    import Synchronization
    import Testing

    @testable import PostgreSQL

    @Suite("A PostgreSQL database")
    struct PostgreSQLDatabaseTests {
        private func open(
            _ url: String? = nil, connections: Int = 4, statementTimeout: Duration = .seconds(30),
            lockTimeout: Duration = .seconds(10)
        ) async throws -> PostgreSQLDatabase {
            var settings = PostgreSQLDatabase.Settings()
            settings.connections = connections
            settings.statementTimeout = statementTimeout
            settings.lockTimeout = lockTimeout
            let url = if let url { url } else { try await PostgreSQLServer.shared().makeDatabase() }
            return try await PostgreSQLDatabase.open(url, settings: settings)
        }

        private func code(_ body: () async throws -> Void) async -> SQLError.Code? {
            do {
                try await body()
                return nil
            } catch {
                return (error as? SQLError)?.code
            }
        }

        @Test("Every kind of value comes back as it went in")
        func values() async throws {
            let database = try await open()
            let values: [SQLValue] = [
                .null, .integer(.min), .integer(.max), .real(0.1), .real(-1e300), .text(""), .text("ü'\\\"$1?"),
                .blob([]),
                .blob(Array(0...255)),
            ]
            try await database.write { connection in
                try connection.executeScript(
                    """
                    CREATE TABLE t (a TEXT, b BIGINT, c BIGINT, d DOUBLE PRECISION, e DOUBLE PRECISION, f TEXT, g TEXT,
                        h BLOB, i BLOB)
                    """)
                try connection.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            }
            let found = try await database.read { connection in
                try connection.first("SELECT * FROM t") { row -> [SQLValue] in
                    [
                        SQLValue(row.textOrNil(0)), .integer(row.int64(1)), .integer(row.int64(2)),
                        .real(row.double(3)),
                        .real(row.double(4)), SQLValue(row.textOrNil(5)), .text(row.text(6)),
                        SQLValue(row.blobOrNil(7)),
                        .blob(row.blob(8)),
                    ]
                }
            }
            #expect(found == values)
            await database.close()
        }

        @Test("NULL reads as nil, or as nothing of the wanted kind; sums and truths as numbers")
        func conversions() async throws {
            let database = try await open()
            let isRight = try await database.read { connection in
                try connection.first("SELECT NULL, SUM(n), 1 = 1, 2.75 FROM (VALUES (1::BIGINT), (2)) AS v (n)") {
                    row in
                    row.isNull(0) && row.text(0) == "" && row.int(0) == 0 && row.blob(0).isEmpty
                        && row.textOrNil(0) == nil
                        && row.int(1) == 3 && row.bool(2) && row.int(3) == 2 && row.double(3) == 2.75
                }
            }
            #expect(isRight == true)
            await database.close()
        }

        @Test("Text with a NUL is refused, not cut")
        func unstorable() async throws {
            let database = try await open()
            try await database.write { try $0.executeScript("CREATE TABLE t (a TEXT)") }
            #expect(
                await code { try await database.write { _ = try $0.execute("INSERT INTO t VALUES (?)", ["a\u{0}b"]) } }
                    == .unstorable)
            await database.close()
        }

        @Test("A broken rule is named, and carries the statement but no value")
        func constraints() async throws {
            let database = try await open()
            try await database.write { connection in
                try connection.executeScript(
                    """
                    CREATE TABLE t (a TEXT PRIMARY KEY, b BIGINT NOT NULL CHECK (b > 0));
                    CREATE TABLE u (t TEXT REFERENCES t (a));
                    INSERT INTO t VALUES ('s3cret', 1);
                    """)
            }
            for (sql, values, expected) in [
                ("INSERT INTO t VALUES (?, 5)", ["s3cret"], .unique),
                ("INSERT INTO t VALUES (?, NULL)", ["x"], .notNull),
                ("INSERT INTO t VALUES (?, -1)", ["x"], .check), ("INSERT INTO u VALUES (?)", ["y"], .foreignKey),
            ] as [(String, [SQLValue], SQLError.Constraint)] {
                do {
                    try await database.write { _ = try $0.execute(sql, values) }
                    Issue.record("accepted: \(sql)")
                } catch let error as SQLError {
                    #expect(error.code == .constraint(expected))
                    #expect(error.sql == sql && !error.description.contains("s3cret"))
                }
            }
            await database.close()
        }

        @Test("A statement used wrongly is refused", arguments: ["SELECT ?", "SELECT 1; SELECT 2", "", "SELEC 1"])
        func misuse(sql: String) async throws {
            let database = try await open()
            #expect(await code { _ = try await database.read { try $0.query(sql) { $0.int(0) } } } == .misuse)
            await database.close()
        }

        @Test("A reader cannot write, and sees one state while writes go on")
        func snapshot() async throws {
            let database = try await open()
            try await database.write { try $0.executeScript("CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (1)") }
            #expect(
                await code { try await database.read { _ = try $0.execute("INSERT INTO t VALUES (2)") } } == .readOnly)
            let (seen, go) = (AsyncStream.makeStream(of: Void.self), Gate())
            async let counts = database.read { connection -> [Int?] in
                let before = try connection.first("SELECT count(*) FROM t") { $0.int(0) }
                seen.continuation.yield()
                go.wait()
                return [before, try connection.first("SELECT count(*) FROM t") { $0.int(0) }]
            }
            for await _ in seen.stream { break }
            try await database.write { _ = try $0.execute("INSERT INTO t VALUES (2)") }
            go.open()
            #expect(try await counts == [1, 1])
            await database.close()
        }

        @Test("Two that read, decide and write at once decide one after the other", arguments: [2, 8])
        func writeSkew(databases count: Int) async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            var databases: [PostgreSQLDatabase] = []
            for _ in 0..<count { databases.append(try await open(url)) }
            try await databases[0].write { try $0.executeScript("CREATE TABLE t (a BIGINT)") }
            // No row that both change: only what they read contradicts what the other writes.
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<60 {
                    let database = databases[number % count]
                    group.addTask {
                        try await database.write { connection in
                            let taken = try connection.first("SELECT count(*) FROM t") { $0.int(0) } ?? 0
                            if taken < 10 { try connection.execute("INSERT INTO t VALUES (?)", [SQLValue(number)]) }
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await databases[0].read { try $0.first("SELECT count(*) FROM t") { $0.int(0) } } == 10)
            for database in databases { await database.close() }
        }

        @Test("Many that raise one counter all get through, each with a number of its own")
        func counter() async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            let databases = [try await open(url, connections: 8), try await open(url, connections: 8)]
            try await databases[0].write { try $0.executeScript("CREATE TABLE c (v BIGINT); INSERT INTO c VALUES (0)") }
            let numbers = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<120 {
                    group.addTask {
                        try await databases[number % 2].write { connection in
                            try connection.first("UPDATE c SET v = v + 1 RETURNING v") { $0.int(0) } ?? 0
                        }
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(numbers.sorted() == Array(1...120))
            for database in databases { await database.close() }
        }

        @Test("Connections that the server ends are made anew, unseen by those who come after")
        func reconnect() async throws {
            let server = try await PostgreSQLServer.shared()
            let url = try await server.makeDatabase()
            let database = try await open(url)
            try await database.write { try $0.executeScript("CREATE TABLE t (a BIGINT)") }
            try await server.endConnections(to: url)
            try await database.write { _ = try $0.execute("INSERT INTO t VALUES (1)") }
            #expect(try await database.read { try $0.first("SELECT count(*) FROM t") { $0.int(0) } } == 1)
            await database.close()
        }

        @Test(
            "A connection that ends before COMMIT changes nothing and is tried again; the body runs from its beginning")
        func cutBeforeCommit() async throws {
            let database = try await open()
            try await database.write { try $0.executeScript("CREATE TABLE t (a BIGINT)") }
            let runs = Mutex(0)
            try await database.write { connection in
                let run = runs.withLock { runs in
                    runs += 1
                    return runs
                }
                try connection.execute("INSERT INTO t VALUES (?)", [SQLValue(run)])
                if run == 1 { try connection.execute("SELECT pg_terminate_backend(pg_backend_pid())") }
            }
            #expect(try await database.read { try $0.query("SELECT a FROM t") { $0.int(0) } } == [2])
            await database.close()
        }

        @Test("A connection that ends during COMMIT, before the change is made: the server says so; it is made again")
        func cutDuringCommit() async throws {
            let database = try await open()
            try await database.write { connection in
                // A deferred rule is looked at by COMMIT itself, and this one ends the session that commits.
                try connection.executeScript(
                    """
                    CREATE TABLE t (a BIGINT);
                    CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
                        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END $$;
                    CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
                        FOR EACH ROW WHEN (NEW.a = 1) EXECUTE FUNCTION cut();
                    """)
            }
            let runs = Mutex<Int64>(0)
            let made = try await database.write { connection in
                let run = runs.withLock { runs in
                    runs += 1
                    return runs
                }
                try connection.execute("INSERT INTO t VALUES (?)", [.integer(run)])
                return run
            }
            #expect(made == 2 && runs.withLock { $0 } == 2)
            #expect(try await database.read { try $0.query("SELECT a FROM t") { $0.int(0) } } == [2])
            await database.close()
        }

        @Test("A connection that ends after the change is made, before the answer: it is not made again")
        func cutAfterCommit() async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            let proxy = try CuttingProxy(url)
            let database = try await open(proxy.url, connections: 2)
            try await database.write { try $0.executeScript("CREATE TABLE t (a BIGINT)") }
            let runs = Mutex(0)
            proxy.cutNextCommit()
            let made = try await database.write { connection in
                runs.withLock { $0 += 1 }
                try connection.execute("INSERT INTO t VALUES (1)")
                return "made"
            }
            #expect(proxy.cuts == 1)
            #expect(made == "made" && runs.withLock { $0 } == 1)
            #expect(try await database.read { try $0.query("SELECT a FROM t") { $0.int(0) } } == [1])
            await database.close()
        }

        @Test("A statement that takes too long is ended, and the connection serves on")
        func timeout() async throws {
            let database = try await open(connections: 1, statementTimeout: .seconds(3))
            #expect(
                await code { _ = try await database.read { try $0.first("SELECT pg_sleep(60)") { $0.int(0) } } }
                    == .timeout)
            #expect(try await database.read { try $0.first("SELECT 7") { $0.int(0) } } == 7)
            await database.close()
        }

        @Test("A read ends when its task is cancelled; a task that is cancelled already may still write and read")
        func cancellation() async throws {
            let database = try await open(connections: 1)
            let (began, signal) = AsyncStream.makeStream(of: Void.self)
            let reading = Task {
                try await database.read { connection in
                    signal.yield()
                    _ = try connection.first("SELECT pg_sleep(60)") { $0.int(0) }
                }
            }
            for await _ in began { break }
            reading.cancel()
            await #expect(throws: CancellationError.self) { try await reading.value }
            let ending = Task { () async throws -> Int? in
                while !Task.isCancelled { await Task.yield() }
                try await database.write { try $0.executeScript("CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (3)") }
                return try await database.read { try $0.first("SELECT a FROM t") { $0.int(0) } }
            }
            ending.cancel()
            #expect(try await ending.value == 3)
            await database.close()
        }

        @Test("Another's change wakes, our own does not")
        func changes() async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            let (ours, theirs) = (try await open(url), try await open(url))
            try await ours.write { try $0.executeScript("CREATE TABLE t (a BIGINT)") }
            let (woken, signal) = AsyncStream.makeStream(of: Void.self)
            #expect(ours.onChange { signal.yield() })
            let before = try await ours.dataVersion()
            try await theirs.write { _ = try $0.execute("INSERT INTO t VALUES (1)") }
            for await _ in woken { break }
            #expect(try await ours.dataVersion() != before)
            for database in [ours, theirs] { await database.close() }
        }

        @Test("A schema is made once by many that start at once, and a newer one is refused")
        func migrations() async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            var databases: [PostgreSQLDatabase] = []
            for _ in 0..<6 { databases.append(try await open(url, connections: 2)) }
            let first = Migration(version: 1, sql: "CREATE TABLE t (a TEXT, b BLOB); INSERT INTO t (a) VALUES ('x');")
            let second = Migration(version: 2, sql: "ALTER TABLE t ADD COLUMN c TEXT NOT NULL DEFAULT '';")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for database in databases {
                    group.addTask { try await database.migrate([first, second], component: "test") }
                }
                try await group.waitForAll()
            }
            #expect(try await databases[0].read { try $0.first("SELECT count(*) FROM t") { $0.int(0) } } == 1)
            #expect(
                await code { try await databases[1].migrate([first], component: "test") }
                    == .newerSchema(component: "test", found: 2, known: 1))
            for database in databases { await database.close() }
        }

        @Test(
            "Who waits for a turn waits for all in front, longer than for one lock; the next lock has its limit again")
        func turns() async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            let databases = [
                try await open(url, lockTimeout: .seconds(6)),
                try await open(url, lockTimeout: .seconds(6)),
            ]
            let slow = [
                (
                    component: "a",
                    migrations: [Migration(version: 1, sql: "CREATE TABLE a (v INT); SELECT pg_sleep(6.5);")]
                ),
                (component: "b", migrations: [Migration(version: 1, sql: "CREATE TABLE b (v INT);")]),
            ]
            try await withThrowingTaskGroup(of: Void.self) { group in
                for database in databases { group.addTask { try await database.migrate(slow) } }
                try await group.waitForAll()
            }
            let (held, holds) = AsyncStream.makeStream(of: Void.self)
            let ends = Gate()
            async let holder: Void = databases[0].write {
                _ = try $0.execute("LOCK TABLE a")
                holds.yield()
                ends.wait()
            }
            for await _ in held { break }
            #expect(await code { try await databases[1].write { _ = try $0.execute("LOCK TABLE a") } } == .busy)
            ends.open()
            try await holder
            for database in databases { await database.close() }
        }

        @Test("More texts than the cache holds still give right answers")
        func eviction() async throws {
            let database = try await open(connections: 1)
            let sum = try await database.read { connection in
                try (0..<600).reduce(0) { sum, number in
                    sum + (try connection.first("SELECT \(number)") { $0.int(0) } ?? 0)
                }
            }
            #expect(sum == 599 * 300)
            await database.close()
        }

        @Test("After close every call says so; what was accepted is there")
        func close() async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            let database = try await open(url, connections: 2)
            try await database.write { try $0.executeScript("CREATE TABLE t (a BIGINT)") }
            let writes = (0..<20).map { number in
                Task { try await database.write { _ = try $0.execute("INSERT INTO t VALUES (?)", [SQLValue(number)]) } }
            }
            var stored = 0
            await database.close()
            for write in writes where (try? await write.value) != nil { stored += 1 }
            #expect(await code { try await database.write { _ in } } == .closed)
            #expect(await code { _ = try await database.dataVersion() } == .closed)
            let again = try await open(url)
            #expect(try await again.read { try $0.first("SELECT count(*) FROM t") { $0.int(0) } } == stored)
            await again.close()
        }

        @Test(
            "An address that is none is refused without being repeated",
            arguments: [
                "postgresql://user:s3cret@host/db", "postgresql://user@host/db?password=s3cret",
                "postgresql://user@host/db?p%61ssword=s3cret", "postgresql://user@host/db?nonsense=s3cret",
                "postgresql://%zzs3cret@host/db", "s3cret",
            ])
        func address(url: String) async throws {
            do {
                _ = try await PostgreSQLDatabase.open(url)
                Issue.record("accepted")
            } catch {
                #expect(error.code == .cannotOpen)
                #expect(!error.description.contains("s3cret"))
            }
        }

        @Test("A server that is not there is an error that says which")
        func noServer() async throws {
            var settings = PostgreSQLDatabase.Settings()
            settings.patience = .zero
            do {
                _ = try await PostgreSQLDatabase.open("postgresql://apus@/db?host=/nonexistent", settings: settings)
                Issue.record("connected")
            } catch {
                #expect(error.code == .connectionLost)
                #expect(error.message.contains("/nonexistent"))
            }
        }
    }

    /// Holds one thread back until it is opened.
    private final class Gate: Sendable {
        private let lock = DispatchSemaphore(value: 0)
        func wait() { lock.wait() }
        func open() { lock.signal() }
    }
#endif
