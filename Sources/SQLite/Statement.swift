internal import CSQLite
internal import SQL

/// Owns a prepared statement; dropping it finalizes the statement.
final class Statement: SQLRowSource {
    /// SQLite's own limit for one value.
    private static let sizeLimit = 1_000_000_000

    let sql: String
    private let pointer: OpaquePointer
    private let connection: OpaquePointer

    init(_ sql: String, on connection: OpaquePointer) throws(SQLError) {
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
        guard let made else { throw SQLError(.misuse, "the text holds no statement", sql: sql) }
        guard leftOver == 0 || Statement.isBlank(sql.utf8.suffix(leftOver)) else {
            sqlite3_finalize(made)
            throw SQLError(.misuse, "the text holds more than one statement", sql: sql)
        }
        (self.sql, pointer, self.connection) = (sql, made, connection)
    }

    deinit { sqlite3_finalize(pointer) }

    func bind(_ values: [SQLValue]) throws(SQLError) {
        guard sqlite3_bind_parameter_count(pointer) == values.count else {
            throw SQLError(
                .misuse, "\(values.count) values for \(sqlite3_bind_parameter_count(pointer)) parameters", sql: sql)
        }
        for (index, value) in values.enumerated() {
            let position = Int32(index + 1)
            guard value.size <= Self.sizeLimit else {
                throw SQLError(.misuse, "a value of \(value.size) bytes", sql: sql)
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
    func step() throws(SQLError) -> Bool {
        switch sqlite3_step(pointer) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        case let result: throw .last(connection, result: result, sql: sql)
        }
    }

    func isNull(_ column: Int) -> Bool { sqlite3_column_type(pointer, Int32(column)) == SQLITE_NULL }

    func text(_ column: Int) -> String {
        // The pointer first, then its length: the length's call may convert the value and move it.
        guard let start = sqlite3_column_text(pointer, Int32(column)) else { return "" }
        let count = Int(sqlite3_column_bytes(pointer, Int32(column)))
        return String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    }

    func int64(_ column: Int) -> Int64 { sqlite3_column_int64(pointer, Int32(column)) }

    func double(_ column: Int) -> Double { sqlite3_column_double(pointer, Int32(column)) }

    func blob(_ column: Int) -> [UInt8] {
        guard let start = sqlite3_column_blob(pointer, Int32(column)) else { return [] }
        let count = Int(sqlite3_column_bytes(pointer, Int32(column)))
        return Array(UnsafeRawBufferPointer(start: start, count: count))
    }

    func value(_ column: Int) -> SQLValue {
        switch sqlite3_column_type(pointer, Int32(column)) {
        case SQLITE_NULL: .null
        case SQLITE_INTEGER: .integer(int64(column))
        case SQLITE_FLOAT: .real(double(column))
        case SQLITE_BLOB: .blob(blob(column))
        default: .text(text(column))
        }
    }

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
