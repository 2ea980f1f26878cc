public import Model

/// How far a writing transaction is kept from others that run at the same time.
public enum WriteIsolation: Sendable, Hashable {
    /// The outcome is that of the transactions one after the other: what was read still holds when it is committed.
    case serializable
    /// Each statement sees what is committed when it begins, and locks the rows that it changes. For a transaction whose
    /// every statement is right by itself, where `serializable` would only make neighbours run again.
    case rowLocks
}

/// A database that stores share, whichever engine it is of.
///
/// Every closure runs on a thread for calls that block, never on the cooperative pool. Closures must be short, must not
/// wait for anything, and must do nothing but use the connection: an engine may run one again from its beginning, in a
/// new transaction, when the transaction lost against another or its connection ended before it was committed.
///
/// SQL is in the dialect that SQLite and PostgreSQL share: `?` for values, BIGINT, TEXT, BLOB and DOUBLE PRECISION,
/// booleans as BIGINT 0 or 1, times as integer microseconds UTC, `ON CONFLICT`, `RETURNING`, no rowid.
public protocol SQLDatabase: Sendable {
    /// Runs `body` in a writing transaction and returns once it is durable. What `body` throws undoes it.
    ///
    /// Not interrupted by cancellation: tasks that end their work because they are cancelled record it here. Throws
    /// `SQLError`: `.queueFull` when too many writes wait, `.outcomeUnknown` when nobody can tell whether it was committed.
    @discardableResult
    func write<T: Sendable>(
        _ isolation: WriteIsolation, _ body: @escaping @Sendable (SQLConnection) throws -> T
    ) async throws -> T

    /// Runs `body` in a reading transaction: all its queries see one state of the database.
    func read<T: Sendable>(_ body: @escaping @Sendable (SQLConnection) throws -> T) async throws -> T

    /// Brings the schemas of several components to their newest versions, in their order and in one transaction. Where
    /// all are there it only looks: of many processes that start at once none waits long for the others.
    ///
    /// Throws `.newerSchema` when a newer program wrote the database, and changes nothing then.
    func migrate(_ schemas: [(component: String, migrations: [Migration])]) async throws

    /// A number that changes whenever another process, or another object of this type, has written.
    func dataVersion() async throws -> Int64

    /// The time by a clock that all who share the database have in common.
    func now() -> Timestamp

    /// Says that `name` lives, for as long as this object does; `false` while another still does under that name, as one
    /// of a process that is about to end.
    func announce(_ name: String) async throws -> Bool

    /// Whether `name` lives. A name of a process that has ended does not; one whose connection to a server is down may
    /// seem not to for a moment.
    func isAnnounced(_ name: String) async throws -> Bool

    /// Has `wake` called soon after another process, or another object of this type, has written; false where the engine
    /// cannot tell, so that callers must ask for `dataVersion` again and again.
    ///
    /// A change may be missed while the connection to a server is down, and is then made up for by one call. `wake` is
    /// called on the engine's own thread: it must return at once.
    func onChange(_ wake: @escaping @Sendable () -> Void) -> Bool

    /// Lets the writes that were accepted end, then closes every connection. Later calls fail with `.closed`.
    func close() async
}

extension SQLDatabase {
    /// Runs `body` in a writing transaction, as `write(.serializable)` does.
    @discardableResult
    public func write<T: Sendable>(_ body: @escaping @Sendable (SQLConnection) throws -> T) async throws -> T {
        try await write(.serializable, body)
    }

    /// Brings `component`'s schema to the newest version of `migrations`, in one transaction.
    ///
    /// Throws `.newerSchema` when a newer program wrote the database, and changes nothing then.
    public func migrate(_ migrations: [Migration], component: String) async throws {
        try await migrate([(component, migrations)])
    }
}
