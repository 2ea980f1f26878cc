internal import CSQLite
internal import Glibc
public import Model

/// What went wrong in a database, with the statement's text but never its values.
public struct SQLiteError: FailureConvertible, Sendable, Hashable, CustomStringConvertible {
    /// Which kind of rule a row broke.
    public enum Constraint: String, Sendable, Hashable {
        case unique, primaryKey, foreignKey, notNull, check, other
    }

    public enum Code: Sendable, Hashable {
        /// Another process or connection held the lock for longer than the busy timeout.
        case busy
        case constraint(Constraint)
        /// No space on the file system, or its quota is used up.
        case full
        case corrupt
        case notADatabase
        /// The file, or its folder, cannot be opened or made.
        case cannotOpen
        case readOnly
        /// The file was written by a newer program; this one knows less and keeps its hands off.
        case newerSchema(component: String, found: Int, known: Int)
        /// The bounded queue of writes is full.
        case queueFull(limit: Int)
        /// The database was closed.
        case closed
        /// A statement used in a way that only a bug of ours can cause.
        case misuse
        /// SQLite's extended result code.
        case other(Int32)
    }

    public let code: Code
    public let message: String
    /// The statement, without values; `nil` where no statement was at work.
    public let sql: String?

    public init(_ code: Code, _ message: String, sql: String? = nil) {
        (self.code, self.message, self.sql) = (code, message, sql)
    }

    public var description: String { sql.map { "\(message) [\($0)]" } ?? message }

    /// Whether a unique or primary key was broken: the row is there already.
    public var isDuplicate: Bool {
        code == .constraint(.unique) || code == .constraint(.primaryKey)
    }

    /// The error as it crosses process borders; the statement stays behind.
    public var failure: Failure {
        switch code {
        case .busy: Failure(.storage, "the database is locked by another process", isRetriable: true)
        case .full: Failure(.storage, "the disk with the database is full", isRetriable: true)
        case .queueFull: Failure(.overloaded, "too many writes wait for the database", isRetriable: true)
        case .closed: Failure(.storage, "the database is closed", isRetriable: true)
        case .constraint: Failure(.conflict, "the record contradicts what is stored")
        case .corrupt, .notADatabase: Failure(.storage, "the database file is damaged")
        case .newerSchema: Failure(.storage, message)
        case .cannotOpen, .readOnly, .misuse, .other: Failure(.storage, "the database failed")
        }
    }
}

extension SQLiteError {
    /// The error for an extended result code; `systemError` is the `errno` of the call beneath it.
    static func make(result: Int32, message: String, systemError: Int32, sql: String?) -> SQLiteError {
        SQLiteError(code(result: result, systemError: systemError), message, sql: sql)
    }

    /// Reads the connection's last error; to be called on the failing thread before the next call.
    static func last(_ connection: OpaquePointer?, result: Int32, sql: String? = nil) -> SQLiteError {
        let message: String
        if let connection, let text = sqlite3_errmsg(connection) {
            message = String(cString: text)
        } else {
            message = String(cString: sqlite3_errstr(result))
        }
        let systemError = connection.map { sqlite3_system_errno($0) } ?? 0
        return make(result: result, message: message, systemError: systemError, sql: sql)
    }

    private static func code(result: Int32, systemError: Int32) -> Code {
        switch result & 0xFF {
        case SQLITE_BUSY, SQLITE_LOCKED: return .busy
        case SQLITE_FULL: return .full
        // A quota that is used up, or a full disk met by the shared-memory file, arrives as an I/O error.
        case SQLITE_IOERR where systemError == ENOSPC || systemError == EDQUOT: return .full
        case SQLITE_CORRUPT: return .corrupt
        case SQLITE_NOTADB: return .notADatabase
        case SQLITE_CANTOPEN: return .cannotOpen
        case SQLITE_READONLY: return .readOnly
        case SQLITE_MISUSE, SQLITE_RANGE: return .misuse
        case SQLITE_CONSTRAINT: return .constraint(constraint(result))
        default: return .other(result)
        }
    }

    private static func constraint(_ result: Int32) -> Constraint {
        switch result >> 8 {
        case 1: .check
        case 3: .foreignKey
        case 5: .notNull
        case 6: .primaryKey
        case 8: .unique
        default: .other
        }
    }
}
