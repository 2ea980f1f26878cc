public import Model

/// Why a store did not do what it was asked.
public enum StoreError: Error, Sendable, Hashable, CustomStringConvertible {
    /// There is no such record (any more).
    case notFound(String)
    /// The record is there already.
    case exists(String)
    /// Another change came first; `current` is the instance as it is now.
    case conflict(current: Instance)

    /// The error as it crosses process borders.
    public var failure: Failure {
        switch self {
        case .notFound(let what): Failure(.notFound, "\(what) could not be found")
        case .exists(let what): Failure(.conflict, "\(what) already exists")
        case .conflict(let current):
            Failure(.conflict, "instance \(current.id) has been changed by a newer request")
        }
    }

    /// Never the record itself: it may hold what is not for logs.
    public var description: String { failure.message }
}
