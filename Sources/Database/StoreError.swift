public import Model

/// Why a store did not do what it was asked.
public enum StoreError: FailureConvertible, Sendable, Hashable, CustomStringConvertible {
    /// There is no such record (any more).
    case notFound(String)
    /// The record is there already.
    case exists(String)
    /// A report under a host's name with another uuid than the host's: two machines with one name.
    case otherMachine(host: HostName, known: String, given: String)
    /// The policy of the instance's server group forbids the host, for this reason.
    case groupPolicy(host: HostName, reason: String)
    /// The host's agent is heard of, and nobody has declared it down.
    case alive(host: HostName)
    /// Another change came first; `current` is the instance as it is now.
    case conflict(current: Instance)

    /// The error as it crosses process borders.
    public var failure: Failure {
        switch self {
        case .notFound(let what): Failure(.notFound, "\(what) could not be found")
        case .exists(let what): Failure(.conflict, "\(what) already exists")
        case .otherMachine(let host, let known, let given):
            Failure(
                .conflict,
                "host \(host) is known with uuid \(known), and this agent's is \(given): another machine has the name. If "
                    + "this is the same machine, installed anew, delete its compute service first")
        case .groupPolicy(let host, let reason):
            Failure(.insufficientResources, "host \(host) \(reason)", isRetriable: true)
        case .alive(let host):
            Failure(
                .conflict, "the agent of host \(host) is heard of: a host that is declared dead must be off or cut off")
        case .conflict(let current):
            Failure(.conflict, "instance \(current.id) has been changed by a newer request")
        }
    }

    /// Never the record itself: it may hold what is not for logs.
    public var description: String { failure.message }
}
