internal import CSQLite

/// One row of a query's answer; lives only while the closure that receives it runs. Columns count from 0.
///
/// Where a column's type differs from what is asked for, SQLite converts: NULL reads as 0, "" or [].
public struct SQLRow: ~Copyable {
    private let statement: OpaquePointer

    init(_ statement: OpaquePointer) { self.statement = statement }

    public func isNull(_ column: Int) -> Bool { sqlite3_column_type(statement, Int32(column)) == SQLITE_NULL }

    public func text(_ column: Int) -> String {
        // The pointer first, then its length: the length's call may convert the value and move it.
        guard let start = sqlite3_column_text(statement, Int32(column)) else { return "" }
        let count = Int(sqlite3_column_bytes(statement, Int32(column)))
        return String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    }

    public func int64(_ column: Int) -> Int64 { sqlite3_column_int64(statement, Int32(column)) }

    public func int(_ column: Int) -> Int { Int(int64(column)) }

    public func bool(_ column: Int) -> Bool { int64(column) != 0 }

    public func double(_ column: Int) -> Double { sqlite3_column_double(statement, Int32(column)) }

    public func blob(_ column: Int) -> [UInt8] {
        guard let start = sqlite3_column_blob(statement, Int32(column)) else { return [] }
        let count = Int(sqlite3_column_bytes(statement, Int32(column)))
        return Array(UnsafeRawBufferPointer(start: start, count: count))
    }

    /// The value as it is stored.
    public func value(_ column: Int) -> SQLValue {
        switch sqlite3_column_type(statement, Int32(column)) {
        case SQLITE_NULL: .null
        case SQLITE_INTEGER: .integer(int64(column))
        case SQLITE_FLOAT: .real(double(column))
        case SQLITE_BLOB: .blob(blob(column))
        default: .text(text(column))
        }
    }

    public func textOrNil(_ column: Int) -> String? { isNull(column) ? nil : text(column) }
    public func int64OrNil(_ column: Int) -> Int64? { isNull(column) ? nil : int64(column) }
    public func intOrNil(_ column: Int) -> Int? { isNull(column) ? nil : int(column) }
    public func boolOrNil(_ column: Int) -> Bool? { isNull(column) ? nil : bool(column) }
    public func doubleOrNil(_ column: Int) -> Double? { isNull(column) ? nil : double(column) }
    public func blobOrNil(_ column: Int) -> [UInt8]? { isNull(column) ? nil : blob(column) }
}
