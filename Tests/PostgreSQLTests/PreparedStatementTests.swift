#if PostgreSQL
    import Foundation
    import PostgreSQLServer
    import SQL
    import Testing

    @testable import PostgreSQL

    @Suite("Prepared statements")
    struct PreparedStatementTests {
        private static let counting = "SELECT a FROM counted WHERE a = ?"

        /// What the session that answers has prepared of the counted text, and how often it has run.
        private struct Prepared: Equatable {
            var names: Int
            var runs: Int
        }

        private func open(_ url: String, connections: Int = 1) async throws -> PostgreSQLDatabase {
            var settings = PostgreSQLDatabase.Settings()
            settings.connections = connections
            return try await PostgreSQLDatabase.open(url, settings: settings)
        }

        private func prepared(_ connection: SQLConnection) throws -> Prepared? {
            try connection.first(
                """
                SELECT count(*), COALESCE(SUM(generic_plans + custom_plans), 0) FROM pg_prepared_statements
                WHERE statement LIKE ?
                """, ["SELECT a FROM counted %"]
            ) { Prepared(names: $0.int(0), runs: $0.int(1)) }
        }

        private func made() async throws -> (url: String, server: PostgreSQLServer) {
            let server = try await PostgreSQLServer.shared()
            let url = try await server.makeDatabase()
            let database = try await open(url)
            try await database.write {
                try $0.executeScript("CREATE TABLE counted (a BIGINT); INSERT INTO counted VALUES (1), (2), (3)")
            }
            await database.close()
            return (url, server)
        }

        @Test("A text is prepared once by a connection and used again, by transactions of every kind")
        func once() async throws {
            let (url, _) = try await made()
            let database = try await open(url)
            #expect(try await database.read { try prepared($0) } == Prepared(names: 0, runs: 0))
            for number in 1...3 {
                let read = try await database.read { try $0.first(Self.counting, [SQLValue(number)]) { $0.int(0) } }
                let written = try await database.write { try $0.first(Self.counting, [SQLValue(number)]) { $0.int(0) } }
                #expect(read == number && written == number)
            }
            #expect(try await database.read { try prepared($0) } == Prepared(names: 1, runs: 6))
            await database.close()
        }

        @Test("Each connection prepares for itself")
        func connections() async throws {
            let (url, _) = try await made()
            let database = try await open(url, connections: 2)
            // Two at once have both connections: each goes on when the other has begun.
            let meeting = Meeting(of: 2)
            let found = try await withThrowingTaskGroup(of: Prepared?.self) { group in
                for number in 1...2 {
                    group.addTask {
                        try await database.read { connection in
                            meeting.wait()
                            for _ in 0..<number {
                                _ = try connection.first(Self.counting, [SQLValue(number)]) { $0.int(0) }
                            }
                            return try prepared(connection)
                        }
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(Set(found.compactMap(\.?.runs)) == [1, 2])
            #expect(found.allSatisfy { $0?.names == 1 })
            await database.close()
        }

        @Test("A connection that is made anew prepares anew, and answers as before")
        func reconnect() async throws {
            let (url, server) = try await made()
            let database = try await open(url)
            for number in 1...2 {
                #expect(
                    try await database.read { try $0.first(Self.counting, [SQLValue(number)]) { $0.int(0) } } == number)
            }
            #expect(try await database.read { try prepared($0) } == Prepared(names: 1, runs: 2))
            try await server.endConnections(to: url)
            #expect(try await database.read { try $0.first(Self.counting, [3]) { $0.int(0) } } == 3)
            #expect(try await database.read { try prepared($0) } == Prepared(names: 1, runs: 1))
            await database.close()
        }
    }

    /// Holds threads back until so many have come.
    private final class Meeting: @unchecked Sendable {
        // Sendable: `count` is touched under `condition` only.
        private let condition = NSCondition()
        private var count: Int

        init(of count: Int) { self.count = count }

        func wait() {
            condition.lock()
            defer { condition.unlock() }
            count -= 1
            if count <= 0 { condition.broadcast() }
            while count > 0 { condition.wait() }
        }
    }
#endif
