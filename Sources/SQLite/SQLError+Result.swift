internal import CSQLite
internal import Glibc
internal import SQL

extension SQLError {
    /// The error for an extended result code; `systemError` is the `errno` of the call beneath it.
    static func make(result: Int32, message: String, systemError: Int32, sql: String?) -> SQLError {
        SQLError(code(result: result, systemError: systemError), message, sql: sql)
    }

    /// Reads the connection's last error; to be called on the failing thread before the next call.
    static func last(_ connection: OpaquePointer?, result: Int32, sql: String? = nil) -> SQLError {
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
        default: return .other(String(result))
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
