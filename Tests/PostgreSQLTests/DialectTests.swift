#if PostgreSQL
    import Testing

    @testable import PostgreSQL

    @Suite("From the stores' dialect to PostgreSQL's")
    struct DialectTests {
        @Test(
            "Places for values are numbered; what only looks like one stays",
            arguments: [
                ("SELECT ?", "SELECT $1", 1),
                ("a = ? AND b IN (?, ?)", "a = $1 AND b IN ($2, $3)", 3),
                ("a = '?' AND b = ?", "a = '?' AND b = $1", 1),
                ("a = 'it''s ?' AND b = ?", "a = 'it''s ?' AND b = $1", 1),
                ("a = '\\' AND b = ?", "a = '\\' AND b = $1", 1),
                ("a = E'\\'?' AND b = ?", "a = E'\\'?' AND b = $1", 1),
                ("a = e'\\\\' AND b = ?", "a = e'\\\\' AND b = $1", 1),
                ("note '?'", "note '?'", 0),
                ("\"?\" = ?", "\"?\" = $1", 1),
                ("\"a\"\"?\" = ?", "\"a\"\"?\" = $1", 1),
                ("a -- ?\n= ?", "a -- ?\n= $1", 1),
                ("a -- ?", "a -- ?", 0),
                ("/* ? /* ? */ ? */ ?", "/* ? /* ? */ ? */ $1", 1),
                ("$$ ? $$ ?", "$$ ? $$ $1", 1),
                ("$tag$ ? $$ ? $tag$ ?", "$tag$ ? $$ ? $tag$ $1", 1),
                ("a$b$ = ? AND c$b$ = ?", "a$b$ = $1 AND c$b$ = $2", 2),
                ("'never closed ?", "'never closed ?", 0),
                ("/* never closed ?", "/* never closed ?", 0),
                ("$x$ never closed ?", "$x$ never closed ?", 0),
                ("E'\\", "E'\\", 0),
                ("", "", 0),
                ("ü = ? -- ß", "ü = $1 -- ß", 1),
            ])
        func placeholders(sql: String, expected: String, count: Int) {
            let (text, parameters) = Dialect.statement(sql)
            #expect(text == expected)
            #expect(parameters == count)
        }

        @Test(
            "Types of columns are translated as words only",
            arguments: [
                ("CREATE TABLE t (a BLOB NOT NULL)", "CREATE TABLE t (a BYTEA NOT NULL)"),
                ("CREATE TABLE t (a text, b BIGINT)", "CREATE TABLE t (a TEXT COLLATE \"C\", b BIGINT)"),
                ("CREATE TABLE blobs (context BIGINT)", "CREATE TABLE blobs (context BIGINT)"),
                ("INSERT INTO t VALUES ('BLOB TEXT')", "INSERT INTO t VALUES ('BLOB TEXT')"),
                ("-- a BLOB\nSELECT 1", "-- a BLOB\nSELECT 1"),
            ])
        func types(sql: String, expected: String) {
            #expect(Dialect.schema(sql) == expected)
        }
    }
#endif
