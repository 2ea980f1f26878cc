/// A table's columns, as copies of it need them.
public struct TableShape: Sendable, Hashable {
    public var name: String
    /// In the order of the table's definition.
    public var columns: [String]
    /// The columns of the primary key, in its order.
    public var primaryKey: [String]

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

extension SQLiteConnection {
    /// Every table of the schema, by name.
    public func tables() throws -> [TableShape] {
        let names = try query(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        ) { $0.text(0) }
        return try names.map { name in
            let columns = try query("SELECT name, pk FROM pragma_table_info(?) ORDER BY cid", [.text(name)]) {
                ($0.text(0), $0.int(1))
            }
            return TableShape(
                name: name, columns: columns.map(\.0),
                primaryKey: columns.filter { $0.1 > 0 }.sorted { $0.1 < $1.1 }.map(\.0))
        }
    }

    /// Runs `body` on every row that a statement gives, without keeping any.
    public func forEach(
        _ sql: String, _ values: [SQLValue] = [], _ body: (borrowing SQLRow) throws -> Void
    ) throws {
        _ = try query(sql, values) { row in try body(row) }
    }
}
