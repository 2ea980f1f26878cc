import Configuration
import Database
import Model
import SQL
import Testing

#if PostgreSQL
    import PostgreSQLServer
#endif

@Suite("Where the database is")
struct DatabaseLocationTests {
    private func location(_ connection: String) throws -> DatabaseLocation {
        DatabaseOptions.location(
            try Configuration(
                options: CommonOptions.all + DatabaseOptions.all,
                values: [
                    "database.connection": connection, "DEFAULT.state_path": "/state", "database.max_pool_size": "3",
                ]))
    }

    @Test(
        "The option names a file or a server",
        arguments: [
            ("sqlite:///$state_path/apus.db", DatabaseLocation.file("/state/apus.db")),
            ("sqlite:////var/a.db", .file("/var/a.db")), ("sqlite:///var/a.db", .file("/var/a.db")),
            ("postgresql://u@h/d", .server(url: "postgresql://u@h/d", connections: 3)),
            ("postgres://h/d?a=b", .server(url: "postgres://h/d?a=b", connections: 3)),
        ])
    func options(connection: String, expected: DatabaseLocation) throws {
        #expect(try location(connection) == expected)
    }

    @Test(
        "Another kind of database is refused",
        arguments: ["", "mysql://h/d", "sqlite://", "sqlite:///", "postgresql://"])
    func unknown(connection: String) {
        #expect(throws: (any Error).self) { try location(connection) }
    }

    @Test(
        "What is shown of a server has neither user nor password nor parameters",
        arguments: [
            ("postgresql://user:s3cret@host:5432/db", "postgresql://host:5432/db"),
            ("postgresql://user:s3c?ret@host/db?a=b", "postgresql://host/db"),
            ("postgresql://user:s3c@ret@host/db", "postgresql://host/db"),
            ("postgresql://host/db?password=s3cret", "postgresql://host/db"),
            ("postgres://host/db#s3cret", "postgresql://host/db"),
        ])
    func description(url: String, shown: String) {
        #expect(DatabaseLocation.server(url: url, connections: 1).description == shown)
    }

    #if PostgreSQL
        @Test("Processes that start at once on a new server all open it; those that write at once lose nothing")
        func server() async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            let opened = try await withThrowingTaskGroup(of: ControlDatabase.self) { group in
                for _ in 0..<4 {
                    group.addTask { try await ControlDatabase.open(.server(url: url, connections: 3)) }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(try await opened[0].flavors.list().count == 6)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<60 {
                    group.addTask {
                        _ = try await opened[number % 4].instances.create(
                            [plainInstance("i\(number)")], actions: [], tasks: [])
                    }
                }
                try await group.waitForAll()
            }
            let numbers = try await opened[0].instances.list(InstanceQuery()).map(\.number)
            #expect(numbers.sorted() == Array(1...60))
            for database in opened { await database.close() }
        }
    #else
        @Test("A program that was built without PostgreSQL says so, and how to build one")
        func withoutTrait() async throws {
            do {
                _ = try await ControlDatabase.open(.server(url: "postgresql://u@h/d", connections: 1))
                Issue.record("opened")
            } catch let error as SQLError {
                #expect(error.code == .cannotOpen)
                #expect(error.message.contains("--traits PostgreSQL"))
            }
        }
    #endif
}
