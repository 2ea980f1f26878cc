import Model
import SQL
import Testing

@testable import SQLite

@Suite("Turns of processes that write to one file")
struct WriteTurnTests {
    @Test("Who writes without a pause keeps nobody else out")
    func fair() async throws {
        let folder = try TemporaryFolder()
        let greedy = try await SQLiteDatabase.open(.file(folder.file("a.db")))
        let others = try await [
            SQLiteDatabase.open(.file(folder.file("a.db")), busyTimeout: .seconds(2)),
            SQLiteDatabase.open(.file(folder.file("a.db")), busyTimeout: .seconds(2)),
        ]
        try await greedy.write { try $0.executeScript("CREATE TABLE t (who BIGINT NOT NULL)") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    while !Task.isCancelled {
                        try await greedy.write { try $0.execute("INSERT INTO t (who) VALUES (0)") }
                    }
                }
            }
            for (number, other) in others.enumerated() {
                for _ in 0..<50 {
                    try await other.write { try $0.execute("INSERT INTO t (who) VALUES (?)", [SQLValue(number + 1)]) }
                }
            }
            group.cancelAll()
            try await group.waitForAll()
        }
        for number in [1, 2] {
            let count = try await greedy.read { connection in
                try connection.first("SELECT COUNT(*) FROM t WHERE who = ?", [SQLValue(number)]) { $0.int(0) }
            }
            #expect(count == 50)
        }
        for database in others + [greedy] { await database.close() }
    }

    @Test("A turn that does not end makes the others fail when their patience is over, and its holder's end frees it")
    func stuck() async throws {
        let folder = try TemporaryFolder()
        let database = try await SQLiteDatabase.open(.file(folder.file("a.db")), busyTimeout: .milliseconds(50))
        try await database.write { try $0.executeScript("CREATE TABLE t (a BIGINT)") }
        var holder: WriteTurn? = WriteTurn(database: folder.file("a.db"), patience: .zero)
        try holder?.take()
        await #expect(throws: SQLError.self) { try await database.write { try $0.execute("INSERT INTO t VALUES (1)") } }
        holder = nil
        try await database.write { try $0.execute("INSERT INTO t VALUES (2)") }
        let found = try await database.read { try $0.query("SELECT a FROM t") { $0.int(0) } }
        #expect(found == [2])
        await database.close()
    }
}
