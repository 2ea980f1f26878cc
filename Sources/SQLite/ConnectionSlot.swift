internal import SQL
internal import Synchronization

/// A place for one connection that several threads use in turn; opened at its first use.
final class ConnectionSlot: Sendable {
    private let path: String
    private let role: SQLiteConnection.Role
    private let busyTimeout: Duration
    private let content = Mutex<SQLiteConnection?>(nil)

    init(path: String, role: SQLiteConnection.Role, busyTimeout: Duration) {
        (self.path, self.role, self.busyTimeout) = (path, role, busyTimeout)
    }

    /// Lends the connection to `body`. Blocks while another thread has it.
    func use<T: Sendable>(_ body: (SQLiteConnection) throws -> T) throws -> T {
        try content.withLock { connection in
            if let connection { return try body(connection) }
            let opened = try SQLiteConnection(path: path, role: role, busyTimeout: busyTimeout)
            connection = opened
            return try body(opened)
        }
    }

    func close() { content.withLock { $0 = nil } }
}
