/// What an engine's own connection does; stores see it as `SQLConnection`.
public protocol SQLEngineConnection: AnyObject {
    /// Runs one statement and gives the number of rows it changed, 0 for one that changes none.
    func execute(_ sql: String, _ values: [SQLValue]) throws(SQLError) -> Int

    /// Runs one statement to its end and calls `body` with each row, in order; what it throws ends the statement.
    /// `body` may run other statements.
    func visit(_ sql: String, _ values: [SQLValue], _ body: (borrowing SQLRow) throws -> Void) throws

    /// Runs several statements without values.
    func executeScript(_ sql: String) throws(SQLError)

    /// Whether a table of this name is there.
    func hasTable(_ name: String) throws -> Bool

    /// Every table of the schema, by name.
    func tables() throws -> [TableShape]

    /// What is damaged in the database's own structure, in words; empty where the engine looks after that itself.
    func damages(limit: Int) throws -> [String]

    /// What follows a `SELECT … LIMIT` to lock the rows it picks and to pass by those that others have locked; empty
    /// where only one transaction writes at a time.
    var lockingUnclaimed: String { get }
}

/// One connection, lent to the closures of `SQLDatabase.read` and `.write` for their transaction; used by one thread.
///
/// A value of a reference and a table of functions: to lend one costs nothing. After a statement that failed the
/// transaction can only be undone: the closure must throw.
public struct SQLConnection {
    private let engine: any SQLEngineConnection

    /// The connection of an engine; for engines.
    public init(_ engine: any SQLEngineConnection) { self.engine = engine }

    /// Runs one statement and gives the number of rows it changed. With `RETURNING` use `query`.
    @discardableResult
    public func execute(_ sql: String, _ values: [SQLValue] = []) throws(SQLError) -> Int {
        try engine.execute(sql, values)
    }

    /// Runs one statement and gives `map` of each row, in order.
    public func query<T>(
        _ sql: String, _ values: [SQLValue] = [], _ map: (borrowing SQLRow) throws -> T
    ) throws -> [T] {
        var found: [T] = []
        try engine.visit(sql, values) { row in found.append(try map(row)) }
        return found
    }

    /// `map` of the first row, or `nil` when there is none. The statement is run to its end.
    public func first<T>(
        _ sql: String, _ values: [SQLValue] = [], _ map: (borrowing SQLRow) throws -> T
    ) throws -> T? {
        var found: T?
        try engine.visit(sql, values) { row in
            guard found == nil else { return }
            found = .some(try map(row))
        }
        return found
    }

    /// Runs `body` on every row that a statement gives, in order, without keeping any.
    public func forEach(
        _ sql: String, _ values: [SQLValue] = [], _ body: (borrowing SQLRow) throws -> Void
    ) throws {
        try engine.visit(sql, values, body)
    }

    /// Runs several statements without values, as migrations hold them.
    public func executeScript(_ sql: String) throws(SQLError) { try engine.executeScript(sql) }

    /// Whether a table of this name is there.
    public func hasTable(_ name: String) throws -> Bool { try engine.hasTable(name) }

    /// Every table of the schema, by name.
    public func tables() throws -> [TableShape] { try engine.tables() }

    /// What is damaged in the database's own structure, in words, at most `limit` of it; empty where the engine looks after
    /// that itself.
    public func damages(limit: Int) throws -> [String] { try engine.damages(limit: limit) }

    /// What follows a `SELECT … LIMIT` within `write(.rowLocks)` to lock the rows it picks and to pass by those that
    /// others have locked: `FOR UPDATE SKIP LOCKED`, or nothing where only one transaction writes at a time.
    public var lockingUnclaimed: String { engine.lockingUnclaimed }
}
