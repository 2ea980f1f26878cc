internal import CSQLite
internal import Glibc

/// One connection, lent to the closures of `SQLiteDatabase.read` and `.write`; used by one thread at a time.
public final class SQLiteConnection {
    enum Role { case writer, reader, both }

    private let handle: OpaquePointer
    private var cache = StatementCache()

    /// Opens `path` (`:memory:` for one in memory). A missing file is made with mode 0600.
    init(path: String, role: Role, busyTimeout: Duration) throws(SQLiteError) {
        let isFile = path != ":memory:"
        if isFile, role != .reader { try createPrivately(path) }
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (isFile ? 0 : SQLITE_OPEN_CREATE)
        let result = sqlite3_open_v2(path, &opened, flags, nil)
        guard result == SQLITE_OK, let opened else {
            let error = SQLiteError.last(opened, result: result)
            sqlite3_close_v2(opened)
            throw SQLiteError(error.code, "\(path): \(error.message)")
        }
        handle = opened
        sqlite3_extended_result_codes(handle, 1)
        sqlite3_busy_timeout(
            handle,
            Int32(
                clamping: max(0, busyTimeout.components.seconds) * 1_000
                    + busyTimeout.components.attoseconds / 1_000_000_000_000_000))
        do {
            try executeScript(Self.settings(role: role, isFile: isFile))
        } catch {
            throw SQLiteError(error.code, "\(path): \(error.message)", sql: error.sql)
        }
    }

    deinit {
        cache.removeAll()
        sqlite3_close_v2(handle)
    }

    private static func settings(role: Role, isFile: Bool) -> String {
        var text = "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;"
        if isFile, role != .reader {
            // A WAL that a burst has grown is cut back to 64 MiB at the next checkpoint.
            text += "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;"
        }
        if role == .reader { text += "PRAGMA query_only = ON;" }
        return text
    }

    /// Runs one statement and gives the number of rows it changed. With `RETURNING` use `query`.
    @discardableResult
    public func execute(_ sql: String, _ values: [SQLValue] = []) throws(SQLiteError) -> Int {
        let statement = try cache.take(sql, on: handle)
        defer { cache.giveBack(statement) }
        try statement.bind(values)
        let before = sqlite3_total_changes64(handle)
        while try statement.step() {}
        // `changes` keeps its last value across statements that change nothing, such as DDL.
        return sqlite3_total_changes64(handle) == before ? 0 : Int(sqlite3_changes64(handle))
    }

    /// Runs one statement and gives `map` of each row, in order.
    public func query<T>(
        _ sql: String, _ values: [SQLValue] = [], _ map: (borrowing SQLRow) throws -> T
    ) throws -> [T] {
        let statement = try cache.take(sql, on: handle)
        defer { cache.giveBack(statement) }
        try statement.bind(values)
        var found: [T] = []
        while try statement.step() { found.append(try map(statement.row)) }
        return found
    }

    /// `map` of the first row, or `nil` when there is none. The statement is run to its end.
    public func first<T>(
        _ sql: String, _ values: [SQLValue] = [], _ map: (borrowing SQLRow) throws -> T
    ) throws -> T? {
        let statement = try cache.take(sql, on: handle)
        defer { cache.giveBack(statement) }
        try statement.bind(values)
        guard try statement.step() else { return nil }
        let found = try map(statement.row)
        while try statement.step() {}
        return found
    }

    /// Runs several statements without values, as migrations hold them.
    public func executeScript(_ sql: String) throws(SQLiteError) {
        let result = sqlite3_exec(handle, sql, nil, nil, nil)
        guard result == SQLITE_OK else { throw .last(handle, result: result, sql: sql) }
    }

    /// Whether a transaction is open; SQLite ends one by itself after a full disk or an I/O error.
    var isInTransaction: Bool { sqlite3_get_autocommit(handle) == 0 }
}

/// Makes an empty file with mode 0600 where none is.
///
/// Only `O_EXCL` is safe: closing any descriptor of a database file drops the locks that this process holds on it.
private func createPrivately(_ path: String) throws(SQLiteError) {
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    if descriptor >= 0 {
        close(descriptor)
    } else if errno != EEXIST {
        let reason = String(cString: strerror(errno))
        throw SQLiteError(errno == ENOSPC ? .full : .cannotOpen, "\(path): \(reason)")
    }
}
