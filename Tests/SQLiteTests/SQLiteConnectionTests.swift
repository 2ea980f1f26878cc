import SQL
import SQLite
import Testing

@Suite("Statements and values")
struct SQLiteConnectionTests {
    @Test("Every kind of value comes back as it went in")
    func values() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        let values: [SQLValue] = [
            .null, .integer(.min), .integer(.max), .real(0.5), .text(""), .text("ü\u{0}b"), .blob([]), .blob([0, 255]),
        ]
        try await database.write { connection in
            try connection.execute("CREATE TABLE t (a, b, c, d, e, f, g, h)")
            try connection.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        }
        let found = try await database.read { connection in
            try connection.first("SELECT * FROM t") { row -> [SQLValue] in
                [
                    SQLValue(row.textOrNil(0)), .integer(row.int64(1)), .integer(row.int64(2)), .real(row.double(3)),
                    SQLValue(row.textOrNil(4)), .text(row.text(5)), SQLValue(row.blobOrNil(6)), .blob(row.blob(7)),
                ]
            }
        }
        #expect(found == values)
    }

    @Test("NULL reads as nil, or as nothing of the wanted kind")
    func nulls() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        let isRight = try await database.read { connection in
            try connection.first("SELECT NULL") { row in
                row.textOrNil(0) == nil && row.int64OrNil(0) == nil && row.blobOrNil(0) == nil && row.isNull(0)
                    && row.text(0) == "" && row.int(0) == 0 && !row.bool(0) && row.blob(0).isEmpty
            }
        }
        #expect(isRight == true)
    }

    @Test("execute counts the rows it changed, not those of an earlier statement")
    func changes() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        let counts = try await database.write { connection in
            try connection.executeScript("CREATE TABLE t (a INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)")
            return [
                try connection.execute("UPDATE t SET a = a + 10"),
                try connection.execute("CREATE TABLE u (a)"),
                try connection.execute("DELETE FROM t WHERE a = ?", [99]),
            ]
        }
        #expect(counts == [3, 0, 0])
    }

    @Test("A query inside a query of the same text has a statement of its own")
    func nested() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        let found = try await database.write { connection in
            try connection.executeScript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
            let sql = "SELECT a FROM t ORDER BY a"
            return try connection.query(sql) { outer in
                try connection.query(sql) { $0.int(0) }.map { $0 * 10 + outer.int(0) }
            }
        }
        #expect(found == [[11, 21], [12, 22]])
    }

    @Test("More texts than the cache holds still give right answers")
    func eviction() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        let sum = try await database.read { connection in
            try (0..<600).reduce(0) { sum, number in
                sum + (try connection.first("SELECT \(number)") { $0.int(0) } ?? 0)
            }
        }
        #expect(sum == 599 * 300)
    }

    @Test(
        "A statement used wrongly is refused before it runs",
        arguments: ["SELECT ?", "SELECT 1; SELECT 2", "", "  -- nothing"])
    func misuse(sql: String) async throws {
        let database = try await SQLiteDatabase.open(.memory)
        let code = await SQLError.code { _ = try await database.read { try $0.query(sql) { $0.int(0) } } }
        #expect(code == .misuse)
    }

    @Test("An error carries the statement's text, never its values")
    func secrets() async throws {
        let database = try await SQLiteDatabase.open(.memory)
        try await database.write {
            try $0.executeScript("CREATE TABLE t (a PRIMARY KEY); INSERT INTO t VALUES ('s3cret')")
        }
        do {
            try await database.write { _ = try $0.execute("INSERT INTO t VALUES (?)", ["s3cret"]) }
            Issue.record("a duplicate was accepted")
        } catch let error as SQLError {
            #expect(error.sql == "INSERT INTO t VALUES (?)")
            #expect(!error.description.contains("s3cret"))
            #expect(error.isDuplicate)
        }
    }

    @Test(
        "A broken rule is named",
        arguments: [
            ("INSERT INTO t (a, b) VALUES (1, 5)", SQLError.Constraint.primaryKey),
            ("INSERT INTO t (a, b, c) VALUES (2, 5, 1)", .unique),
            ("INSERT INTO t (a) VALUES (3)", .notNull),
            ("INSERT INTO t (a, b) VALUES (4, -1)", .check),
            ("INSERT INTO u (t) VALUES (99)", .foreignKey),
        ])
    func constraints(sql: String, expected: SQLError.Constraint) async throws {
        let database = try await SQLiteDatabase.open(.memory)
        try await database.write { connection in
            try connection.executeScript(
                """
                CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER NOT NULL CHECK (b > 0), c INTEGER UNIQUE);
                CREATE TABLE u (t INTEGER REFERENCES t (a));
                INSERT INTO t VALUES (1, 1, 1);
                """)
        }
        let code = await SQLError.code { try await database.write { _ = try $0.execute(sql) } }
        #expect(code == .constraint(expected))
    }
}
