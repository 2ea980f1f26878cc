import SQL
import SQLite
import Testing

@Suite("Migrations")
struct MigrationTests {
    private let first = Migration(version: 1, sql: "CREATE TABLE t (a); INSERT INTO t VALUES (1);")
    private let second = Migration(version: 2, sql: "ALTER TABLE t ADD COLUMN b; UPDATE t SET b = a + 1;")

    @Test("Each runs once, in the order of the versions, however often it is asked for")
    func order() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        try await database.migrate([first], component: "test")
        try await database.migrate([second, first], component: "test")
        try await database.migrate([second, first], component: "test")
        #expect(try await database.read { try $0.query("SELECT b FROM t") { $0.int(0) } } == [2])
    }

    @Test("Components have versions of their own")
    func components() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        try await database.migrate([first], component: "one")
        try await database.migrate([Migration(version: 1, sql: "CREATE TABLE u (a)")], component: "two")
        #expect(try await database.read { try $0.first("SELECT count(*) FROM u") { $0.int(0) } } == 0)
    }

    @Test("A schema newer than the program is refused by name and version, and left alone")
    func newer() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        try await database.migrate([first, second], component: "test")
        do {
            try await database.migrate([first], component: "test")
            Issue.record("an old program accepted a new schema")
        } catch let error as SQLError {
            #expect(error.code == .newerSchema(component: "test", found: 2, known: 1))
            #expect(error.message.contains("2") && error.message.contains("1") && error.message.contains("test"))
        }
    }

    @Test("A migration that fails leaves nothing of itself or its fellows")
    func failure() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        let broken = Migration(version: 2, sql: "CREATE TABLE u (a); SELECT * FROM missing;")
        await #expect(throws: SQLError.self) { try await database.migrate([first, broken], component: "test") }
        let tables = try await database.read { connection in
            try connection.query("SELECT name FROM sqlite_master WHERE name IN ('t', 'u')") { $0.text(0) }
        }
        #expect(tables.isEmpty)
    }

    @Test("Two migrations of one version are a mistake")
    func duplicates() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        let code = await SQLError.code { try await database.migrate([first, first], component: "test") }
        #expect(code == .misuse)
    }
}
