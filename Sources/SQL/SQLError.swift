public import Model

/// What went wrong in a database, with the statement's text but never its values.
public struct SQLError: FailureConvertible, Sendable, Hashable, CustomStringConvertible {
    /// Which kind of rule a row broke.
    public enum Constraint: String, Sendable, Hashable {
        case unique, primaryKey, foreignKey, notNull, check, other
    }

    public enum Code: Sendable, Hashable {
        /// Another process or connection held a lock for longer than the engine waits.
        case busy
        /// The transaction lost against others that ran at the same time, each time that it was tried.
        case serialization
        case constraint(Constraint)
        /// No space on the file system, or its quota is used up.
        case full
        case corrupt
        case notADatabase
        /// The file, its folder or the server's database cannot be opened, or not by this user.
        case cannotOpen
        case readOnly
        /// The database was written by a newer program; this one knows less and keeps its hands off.
        case newerSchema(component: String, found: Int, known: Int)
        /// The bounded queue of writes is full.
        case queueFull(limit: Int)
        /// The database was closed.
        case closed
        /// The server cannot be reached, or ended the connection before the transaction was to be committed.
        case connectionLost
        /// The connection was cut while the transaction was being committed: it may have been, or not.
        case outcomeUnknown
        /// A statement took longer than the engine allows.
        case timeout
        /// The engine cannot keep the value: PostgreSQL's text has no NUL.
        case unstorable
        /// A statement used in a way that only a bug of ours can cause.
        case misuse
        /// The engine's own code: SQLite's extended result code in decimal, PostgreSQL's SQLSTATE.
        case other(String)
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
        case .serialization: Failure(.storage, "too many changes at the same time", isRetriable: true)
        case .full: Failure(.storage, "the disk with the database is full", isRetriable: true)
        case .queueFull: Failure(.overloaded, "too many writes wait for the database", isRetriable: true)
        case .closed: Failure(.storage, "the database is closed", isRetriable: true)
        case .connectionLost: Failure(.storage, "the database cannot be reached", isRetriable: true)
        // Not retriable by itself: what was asked for may have been done.
        case .outcomeUnknown: Failure(.storage, "the database ended before it said whether the change was made")
        case .timeout: Failure(.storage, "the database took too long", isRetriable: true)
        case .unstorable: Failure(.invalidParameters, "a text holds a character that cannot be stored")
        case .constraint: Failure(.conflict, "the record contradicts what is stored")
        case .corrupt, .notADatabase: Failure(.storage, "the database file is damaged")
        case .newerSchema: Failure(.storage, message)
        case .cannotOpen, .readOnly, .misuse, .other: Failure(.storage, "the database failed")
        }
    }
}
