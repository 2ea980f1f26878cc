import Foundation
import Model
import SQL
import Telemetry
import Testing

@testable import SQLite

@Suite("Transactions")
struct SQLiteDatabaseTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func open(_ name: String = "db", busyTimeout: Duration = .seconds(5)) async throws -> SQLiteDatabase {
        try await SQLiteDatabase.open(.file(folder.file(name)), busyTimeout: busyTimeout)
    }

    @Test("A new file is readable by its owner only, as are its WAL and index")
    func mode() async throws {
        let database = try await open()
        try await database.write { try $0.executeScript("CREATE TABLE t (a)") }
        for name in ["db", "db-wal", "db-shm"] {
            let attributes = try FileManager.default.attributesOfItem(atPath: folder.file(name))
            #expect(attributes[.posixPermissions] as? Int == 0o600, "\(name)")
        }
    }

    @Test("WAL, full synchronisation and foreign keys are on")
    func settings() async throws {
        let database = try await open()
        let found = try await database.write { connection in
            try ["journal_mode", "synchronous", "foreign_keys"].map { name in
                try connection.first("PRAGMA \(name)") { $0.text(0) }
            }
        }
        #expect(found == ["wal", "2", "1"])
    }

    @Test("What a write throws undoes that write alone")
    func isolation() async throws {
        struct Refused: Error {}
        let database = try await open()
        try await database.write { try $0.executeScript("CREATE TABLE t (a)") }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<200 {
                group.addTask {
                    do {
                        try await database.write { connection in
                            try connection.execute("INSERT INTO t VALUES (?)", [SQLValue(number)])
                            if number.isMultiple(of: 3) { throw Refused() }
                        }
                        return true
                    } catch is Refused {
                        return false
                    }
                }
            }
            var accepted = 0
            for try await isAccepted in group where isAccepted { accepted += 1 }
            #expect(accepted == 133)
        }
        let found = try await database.read { try $0.query("SELECT a FROM t ORDER BY a") { $0.int(0) } }
        #expect(found == (0..<200).filter { !$0.isMultiple(of: 3) })
    }

    @Test("Writes that wait share one commit")
    func groupCommit() async throws {
        let database = try await open("grouped")
        try await database.write { try $0.executeScript("CREATE TABLE t (a)") }
        let (entered, gate) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        async let first: Void = database.write { _ in
            entered.signal()
            gate.wait()
        }
        await entered.signalled()
        let others = (0..<50).map { number in
            Task { try await database.write { _ = try $0.execute("INSERT INTO t VALUES (?)", [SQLValue(number)]) } }
        }
        while database.waitingWrites < 50 { await Task.yield() }
        gate.signal()
        try await first
        for other in others { try await other.value }
        // The table, the first write, and one commit for all the others.
        let metrics = String(decoding: Metrics.shared.render(), as: UTF8.self)
        #expect(metrics.contains("sqlite_commit_seconds_count{database=\"grouped\"} 3\n"))
    }

    @Test("The queue of writes is bounded, and says so")
    func bound() async throws {
        let queue = WriteQueue()
        for _ in 0..<WriteQueue.limit { _ = try queue.append(Write { _ in }) }
        #expect(throws: SQLError(.queueFull(limit: 10_000), "10000 writes wait already")) {
            try queue.append(Write { _ in })
        }
    }

    @Test("A reader sees one state, while writes go on")
    func snapshot() async throws {
        let database = try await open()
        try await database.write { try $0.executeScript("CREATE TABLE t (a); INSERT INTO t VALUES (1)") }
        let (entered, left) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        async let counts = database.read { connection -> [Int?] in
            let before = try connection.first("SELECT count(*) FROM t") { $0.int(0) }
            entered.signal()
            left.wait()
            return [before, try connection.first("SELECT count(*) FROM t") { $0.int(0) }]
        }
        await entered.signalled()
        try await database.write { _ = try $0.execute("INSERT INTO t VALUES (2)") }
        left.signal()
        #expect(try await counts == [1, 1])
        #expect(try await database.read { try $0.first("SELECT count(*) FROM t") { $0.int(0) } } == 2)
    }

    @Test("A reader cannot write")
    func readOnly() async throws {
        let database = try await open()
        let code = await SQLError.code { try await database.read { _ = try $0.execute("CREATE TABLE t (a)") } }
        #expect(code == .readOnly)
    }

    @Test("The data version changes when another connection wrote, not by our own writes")
    func dataVersion() async throws {
        let (ours, theirs) = (try await open(), try await open())
        try await ours.write { try $0.executeScript("CREATE TABLE t (a)") }
        let before = try await ours.dataVersion()
        try await ours.write { _ = try $0.execute("INSERT INTO t VALUES (1)") }
        #expect(try await ours.dataVersion() == before)
        try await theirs.write { _ = try $0.execute("INSERT INTO t VALUES (2)") }
        #expect(try await ours.dataVersion() != before)
    }

    @Test("A lock held elsewhere is waited for, then named; afterwards writes go on")
    func locked() async throws {
        let database = try await open(busyTimeout: .milliseconds(50))
        try await database.write { try $0.executeScript("CREATE TABLE t (a)") }
        do {
            let other = try SQLiteConnection(path: folder.file("db"), role: .writer, busyTimeout: .zero)
            try other.execute("BEGIN IMMEDIATE")
            do {
                try await database.write { _ = try $0.execute("INSERT INTO t VALUES (1)") }
                Issue.record("wrote through another's lock")
            } catch let error as SQLError {
                #expect(error.code == .busy)
                #expect(error.failure.message == "the database is locked by another process")
                #expect(error.failure.isRetriable)
            }
        }
        try await database.write { _ = try $0.execute("INSERT INTO t VALUES (2)") }
        #expect(try await database.read { try $0.query("SELECT a FROM t") { $0.int(0) } } == [2])
    }

    @Test("A full disk fails the writes that met it, and later ones succeed when there is room")
    func full() async throws {
        let database = try await open()
        try await database.write { try $0.executeScript("CREATE TABLE t (a)") }
        try await database.write { connection in _ = try connection.first("PRAGMA max_page_count = 4") { $0.int(0) } }
        let code = await SQLError.code {
            try await database.write { connection in
                for _ in 0..<10 { try connection.execute("INSERT INTO t VALUES (zeroblob(4000))") }
            }
        }
        #expect(code == .full)
        try await database.write { connection in _ = try connection.first("PRAGMA max_page_count = 4000") { $0.int(0) }
        }
        try await database.write { _ = try $0.execute("INSERT INTO t VALUES (zeroblob(4000))") }
        #expect(try await database.read { try $0.first("SELECT count(*) FROM t") { $0.int(0) } } == 1)
    }

    @Test("A write that ends the transaction by itself fails alone with those before it; the rest still run")
    func misuse() async throws {
        let connection = try SQLiteConnection(path: ":memory:", role: .both, busyTimeout: .zero)
        try connection.executeScript("CREATE TABLE t (a)")
        let writes = [
            Write { _ = try $0.execute("INSERT INTO t VALUES (1)") },
            Write { _ = try $0.execute("ROLLBACK") },
            Write { _ = try $0.execute("INSERT INTO t VALUES (3)") },
        ]
        let left = GroupCommit(connection: connection).run(writes)
        #expect(left.count == 1)
        #expect(throws: SQLError.self) { try writes[0].value() }
        #expect(throws: SQLError.self) { try writes[1].value() }
        #expect(GroupCommit(connection: connection).run(Array(left)).isEmpty)
        try writes[2].value()
        #expect(try SQLConnection(connection).query("SELECT a FROM t") { $0.int(0) } == [3])
    }

    @Test("A file that is no database, a damaged one and a missing folder are told apart")
    func damage() async throws {
        try Data(repeating: 65, count: 8_192).write(to: URL(fileURLWithPath: folder.file("text")))
        #expect(await SQLError.code { _ = try await open("text") } == .notADatabase)
        #expect(await SQLError.code { _ = try await open("no/such") } == .cannotOpen)

        let database = try await open("torn")
        try await database.write { connection in
            try connection.executeScript("CREATE TABLE t (a); PRAGMA user_version = 1;")
            for _ in 0..<50 { try connection.execute("INSERT INTO t VALUES (zeroblob(3000))") }
        }
        await database.close()
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: folder.file("torn")))
        try file.seek(toOffset: 4_096)
        try file.write(contentsOf: Data(repeating: 0xAB, count: 40_960))
        try file.close()
        let torn = try await open("torn")
        let code = await SQLError.code {
            _ = try await torn.read { try $0.query("SELECT a FROM t") { $0.blob(0).count } }
        }
        #expect(code == .corrupt)
    }

    @Test("After close every call says so; what was queued is there")
    func close() async throws {
        let database = try await open()
        try await database.write { try $0.executeScript("CREATE TABLE t (a)") }
        let queued = (0..<20).map { number in
            Task { try await database.write { _ = try $0.execute("INSERT INTO t VALUES (?)", [SQLValue(number)]) } }
        }
        var stored = 0
        await database.close()
        for write in queued where (try? await write.value) != nil { stored += 1 }
        #expect(await SQLError.code { try await database.write { _ in } } == .closed)
        #expect(await SQLError.code { try await database.read { _ in } } == .closed)
        let again = try await open()
        #expect(try await again.read { try $0.first("SELECT count(*) FROM t") { $0.int(0) } } == stored)
    }

    @Test("A database in memory reads what it wrote")
    func memory() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        try await database.write { try $0.executeScript("CREATE TABLE t (a); INSERT INTO t VALUES (7)") }
        #expect(try await database.read { try $0.first("SELECT a FROM t") { $0.int(0) } } == 7)
    }
}
