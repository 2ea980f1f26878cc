internal import CSQLite
internal import Glibc
internal import SQL

/// One connection, used by one thread at a time.
final class SQLiteConnection: SQLEngineConnection {
    enum Role { case writer, reader, both }

    private let handle: OpaquePointer
    private var cache = StatementCache()

    /// Opens `path` (`:memory:` for one in memory). A missing file is made with mode 0600.
    init(path: String, role: Role, busyTimeout: Duration) throws(SQLError) {
        let isFile = path != ":memory:"
        if isFile, role != .reader { try createPrivately(path) }
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (isFile ? 0 : SQLITE_OPEN_CREATE)
        let result = sqlite3_open_v2(path, &opened, flags, nil)
        guard result == SQLITE_OK, let opened else {
            let error = SQLError.last(opened, result: result)
            sqlite3_close_v2(opened)
            throw SQLError(error.code, "\(path): \(error.message)")
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
            throw SQLError(error.code, "\(path): \(error.message)", sql: error.sql)
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

    @discardableResult
    func execute(_ sql: String, _ values: [SQLValue] = []) throws(SQLError) -> Int {
        let statement = try cache.take(sql, on: handle)
        defer { cache.giveBack(statement) }
        try statement.bind(values)
        let before = sqlite3_total_changes64(handle)
        while try statement.step() {}
        // `changes` keeps its last value across statements that change nothing, such as DDL.
        return sqlite3_total_changes64(handle) == before ? 0 : Int(sqlite3_changes64(handle))
    }

    func visit(_ sql: String, _ values: [SQLValue], _ body: (borrowing SQLRow) throws -> Void) throws {
        let statement = try cache.take(sql, on: handle)
        defer { cache.giveBack(statement) }
        try statement.bind(values)
        let row = SQLRow(statement)
        while try statement.step() { try body(row) }
    }

    func executeScript(_ sql: String) throws(SQLError) {
        let result = sqlite3_exec(handle, sql, nil, nil, nil)
        guard result == SQLITE_OK else { throw .last(handle, result: result, sql: sql) }
    }

    func hasTable(_ name: String) throws -> Bool {
        var isThere = false
        try visit("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [.text(name)]) { _ in
            isThere = true
        }
        return isThere
    }

    func tables() throws -> [TableShape] {
        let names =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        var shapes: [TableShape] = []
        try visit(names, []) { shapes.append(TableShape(name: $0.text(0), columns: [], primaryKey: [])) }
        for index in shapes.indices {
            var keys: [(place: Int, column: String)] = []
            try visit("SELECT name, pk FROM pragma_table_info(?) ORDER BY cid", [.text(shapes[index].name)]) { row in
                shapes[index].columns.append(row.text(0))
                if row.int(1) > 0 { keys.append((row.int(1), row.text(0))) }
            }
            shapes[index].primaryKey = keys.sorted { $0.place < $1.place }.map(\.column)
        }
        return shapes
    }

    func damages(limit: Int) throws -> [String] {
        var found: [String] = []
        try visit("PRAGMA quick_check(\(limit))", []) { found.append($0.text(0)) }
        return found.filter { $0 != "ok" }
    }

    /// Nothing: `BEGIN IMMEDIATE` lets one transaction write at a time.
    var lockingUnclaimed: String { "" }

    /// Whether a transaction is open; SQLite ends one by itself after a full disk or an I/O error.
    var isInTransaction: Bool { sqlite3_get_autocommit(handle) == 0 }
}

/// Makes an empty file with mode 0600 where none is.
///
/// Only `O_EXCL` is safe: closing any descriptor of a database file drops the locks that this process holds on it.
private func createPrivately(_ path: String) throws(SQLError) {
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    if descriptor >= 0 {
        close(descriptor)
    } else if errno != EEXIST {
        let reason = String(cString: strerror(errno))
        throw SQLError(errno == ENOSPC ? .full : .cannotOpen, "\(path): \(reason)")
    }
}
