/// A table's columns, as copies of it need them.
public struct TableShape: Sendable, Hashable {
    public var name: String
    /// In the order of the table's definition.
    public var columns: [String]
    /// The columns of the primary key, in its order.
    public var primaryKey: [String]

    public init(name: String, columns: [String], primaryKey: [String]) {
        (self.name, self.columns, self.primaryKey) = (name, columns, primaryKey)
    }

    /// The statement that gives every row, in the order of the primary key.
    public var selection: String {
        let order = (primaryKey.isEmpty ? columns : primaryKey).joined(separator: ", ")
        return "SELECT \(columns.joined(separator: ", ")) FROM \(name) ORDER BY \(order)"
    }

    /// The statement that adds one row.
    public var insertion: String {
        let places = columns.map { _ in "?" }.joined(separator: ", ")
        return "INSERT INTO \(name) (\(columns.joined(separator: ", "))) VALUES (\(places))"
    }
}
