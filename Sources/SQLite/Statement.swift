internal import CSQLite

/// Owns a prepared statement; dropping it finalizes the statement.
final class Statement {
    /// SQLite's own limit for one value.
    private static let sizeLimit = 1_000_000_000

    let sql: String
    private let pointer: OpaquePointer
    private let connection: OpaquePointer

    init(_ sql: String, on connection: OpaquePointer) throws(SQLiteError) {
        var made: OpaquePointer?
        var leftOver = 0
        var copy = sql
        let result = copy.withUTF8 { bytes -> Int32 in
            bytes.withMemoryRebound(to: CChar.self) { text in
                var tail: UnsafePointer<CChar>?
                let result = sqlite3_prepare_v3(
                    connection, text.baseAddress, Int32(text.count), UInt32(SQLITE_PREPARE_PERSISTENT), &made, &tail)
                if let tail, let start = text.baseAddress { leftOver = text.count - (tail - start) }
                return result
            }
        }
        guard result == SQLITE_OK else { throw .last(connection, result: result, sql: sql) }
        guard let made else { throw SQLiteError(.misuse, "the text holds no statement", sql: sql) }
        guard leftOver == 0 || Statement.isBlank(sql.utf8.suffix(leftOver)) else {
            sqlite3_finalize(made)
            throw SQLiteError(.misuse, "the text holds more than one statement", sql: sql)
        }
        (self.sql, pointer, self.connection) = (sql, made, connection)
    }

    deinit { sqlite3_finalize(pointer) }

    func bind(_ values: [SQLValue]) throws(SQLiteError) {
        guard sqlite3_bind_parameter_count(pointer) == values.count else {
            throw SQLiteError(
                .misuse, "\(values.count) values for \(sqlite3_bind_parameter_count(pointer)) parameters", sql: sql)
        }
        for (index, value) in values.enumerated() {
            let position = Int32(index + 1)
            guard value.size <= Self.sizeLimit else {
                throw SQLiteError(.misuse, "a value of \(value.size) bytes", sql: sql)
            }
            let result: Int32
            switch value {
            case .null: result = sqlite3_bind_null(pointer, position)
            case .integer(let number): result = sqlite3_bind_int64(pointer, position, number)
            case .real(let number): result = sqlite3_bind_double(pointer, position, number)
            case .text(let text):
                var text = text
                result = text.withUTF8 { bytes in
                    bytes.withMemoryRebound(to: CChar.self) {
                        apus_sqlite_bind_text(pointer, position, $0.baseAddress, Int32(clamping: $0.count))
                    }
                }
            case .blob(let bytes):
                result = bytes.withUnsafeBytes {
                    apus_sqlite_bind_blob(pointer, position, $0.baseAddress, Int32(clamping: $0.count))
                }
            }
            guard result == SQLITE_OK else { throw .last(connection, result: result, sql: sql) }
        }
    }

    /// Steps once; true when a row is there.
    func step() throws(SQLiteError) -> Bool {
        switch sqlite3_step(pointer) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        case let result: throw .last(connection, result: result, sql: sql)
        }
    }

    var row: SQLRow { SQLRow(pointer) }

    /// Makes the statement ready for its next use and drops the values it held.
    func reset() {
        sqlite3_reset(pointer)
        sqlite3_clear_bindings(pointer)
    }

    private static func isBlank(_ rest: some Sequence<UInt8>) -> Bool {
        rest.allSatisfy { $0 == 0 || $0 == 10 || $0 == 13 || $0 == 32 || $0 == 9 || $0 == UInt8(ascii: ";") }
    }
}

extension SQLValue {
    fileprivate var size: Int {
        switch self {
        case .text(let text): text.utf8.count
        case .blob(let bytes): bytes.count
        case .null, .integer, .real: 8
        }
    }
}
