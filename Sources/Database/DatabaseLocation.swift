internal import SQL
internal import SQLite

#if PostgreSQL
    internal import PostgreSQL
#endif

/// Where the control plane's database is.
public enum DatabaseLocation: Sendable, Hashable, CustomStringConvertible {
    /// Gone with the object; for tests.
    case memory
    /// An SQLite file.
    case file(String)
    /// A PostgreSQL database by its URL, and how many connections this process may have to it.
    case server(url: String, connections: Int)

    /// For people: a path, or a URL without user and parameters, among which somebody may have put a password.
    public var description: String {
        switch self {
        case .memory: "in memory"
        case .file(let path): path
        case .server(let url, _): Self.withoutSecrets(url)
        }
    }

    private static func withoutSecrets(_ url: String) -> String {
        var rest = url.drop { $0 != "/" }.drop { $0 == "/" }
        // As libpq looks for a user: what stands before the first @ or / may hold any other character.
        if let mark = rest.firstIndex(where: { $0 == "@" || $0 == "/" }), rest[mark] == "@" {
            rest = rest[rest.index(after: mark)...]
        }
        let place = rest.prefix { $0 != "?" && $0 != "#" }
        return "postgresql://" + String(place.split(separator: "@", omittingEmptySubsequences: false).last ?? "")
    }

    /// Opens it, whichever engine it is of. Throws `SQLError`.
    func open() async throws -> any SQLDatabase {
        switch self {
        case .memory: return try await SQLiteDatabase.open(.memory)
        case .file(let path): return try await SQLiteDatabase.open(.file(path))
        case .server(let url, let connections):
            #if PostgreSQL
                var settings = PostgreSQLDatabase.Settings()
                settings.connections = connections
                return try await PostgreSQLDatabase.open(url, settings: settings)
            #else
                _ = (url, connections)
                throw SQLError(
                    .cannotOpen,
                    "this program was built without PostgreSQL: build it with --traits PostgreSQL, or use sqlite:////PATH"
                )
            #endif
        }
    }
}
