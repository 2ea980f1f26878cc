#if PostgreSQL
    internal import SQL
    internal import Synchronization

    /// A place for one connection that several threads use in turn; opened at its first use, and again after it was lost.
    final class ConnectionSlot: Sendable {
        private let address: ServerAddress
        private let settings: SessionSettings
        private let content = Mutex<PostgreSQLConnection?>(nil)

        init(_ address: ServerAddress, settings: SessionSettings) {
            (self.address, self.settings) = (address, settings)
        }

        /// Lends the connection to `body`. Blocks while another thread has it.
        func use<T: Sendable>(_ body: (PostgreSQLConnection) throws -> T) throws -> T {
            try content.withLock { connection in
                defer {
                    if let known = connection, !known.isUsable || known.isRetiring { connection = nil }
                }
                if let connection { return try body(connection) }
                let opened = try PostgreSQLConnection(address, settings: settings)
                connection = opened
                return try body(opened)
            }
        }

        func close() { content.withLock { $0 = nil } }
    }
#endif
