import SQL
import SQLite

#if PostgreSQL
    import PostgreSQL
    import PostgreSQLServer
#endif

/// What the stores keep their promises on.
enum Engine: Sendable, CaseIterable {
    case sqlite
    #if PostgreSQL
        case postgresql
    #endif

    /// A database that can be opened several times.
    enum Location: Sendable {
        case file(String)
        #if PostgreSQL
            case server(String)
        #endif

        func open() async throws -> any SQLDatabase {
            switch self {
            case .file(let path): return try await SQLiteDatabase.open(.file(path))
            #if PostgreSQL
                case .server(let url):
                    var settings = PostgreSQLDatabase.Settings()
                    settings.connections = 3
                    return try await PostgreSQLDatabase.open(url, settings: settings)
            #endif
            }
        }
    }

    /// A new database: of SQLite the file at `file`.
    func makeLocation(file: String) async throws -> Location {
        switch self {
        case .sqlite: return .file(file)
        #if PostgreSQL
            case .postgresql: return .server(try await PostgreSQLServer.shared().makeDatabase())
        #endif
        }
    }

    /// An empty database; of SQLite one in memory.
    func open() async throws -> any SQLDatabase {
        switch self {
        case .sqlite: return try await SQLiteDatabase.open(.memory)
        #if PostgreSQL
            case .postgresql: return try await makeLocation(file: "").open()
        #endif
        }
    }
}
