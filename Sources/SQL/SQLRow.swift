/// The columns of the row at which a statement stands, as an engine gives them. Columns count from 0.
///
/// Where a column's type differs from what is asked for, the engine converts: NULL reads as 0, "" or [].
public protocol SQLRowSource: AnyObject {
    /// Whether the column is NULL.
    func isNull(_ column: Int) -> Bool
    /// The column as text.
    func text(_ column: Int) -> String
    /// The column as an integer; a fraction is cut off.
    func int64(_ column: Int) -> Int64
    /// The column as a number.
    func double(_ column: Int) -> Double
    /// The value as it is stored.
    func value(_ column: Int) -> SQLValue
    /// The column as bytes; of a text its UTF-8.
    func blob(_ column: Int) -> [UInt8]
}

/// One row of a query's answer; lives only while the closure that receives it runs. Columns count from 0.
///
/// Where a column's type differs from what is asked for, the engine converts: NULL reads as 0, "" or [].
public struct SQLRow: ~Copyable {
    private let source: any SQLRowSource

    /// The row at which `source` stands; for engines.
    public init(_ source: any SQLRowSource) { self.source = source }

    public func isNull(_ column: Int) -> Bool { source.isNull(column) }

    public func text(_ column: Int) -> String { source.text(column) }

    public func int64(_ column: Int) -> Int64 { source.int64(column) }

    public func int(_ column: Int) -> Int { Int(int64(column)) }

    public func bool(_ column: Int) -> Bool { int64(column) != 0 }

    public func double(_ column: Int) -> Double { source.double(column) }

    public func blob(_ column: Int) -> [UInt8] { source.blob(column) }

    /// The value as it is stored.
    public func value(_ column: Int) -> SQLValue { source.value(column) }

    public func textOrNil(_ column: Int) -> String? { isNull(column) ? nil : text(column) }
    public func int64OrNil(_ column: Int) -> Int64? { isNull(column) ? nil : int64(column) }
    public func intOrNil(_ column: Int) -> Int? { isNull(column) ? nil : int(column) }
    public func boolOrNil(_ column: Int) -> Bool? { isNull(column) ? nil : bool(column) }
    public func doubleOrNil(_ column: Int) -> Double? { isNull(column) ? nil : double(column) }
    public func blobOrNil(_ column: Int) -> [UInt8]? { isNull(column) ? nil : blob(column) }
}
