public import Model

/// What to do with a request that carries an idempotency key.
public enum IdempotencyDecision: Sendable, Hashable {
    /// The first of its key: recorded, to be executed.
    case execute
    /// The key was used with other parameters.
    case mismatch
    /// Executed before: the body of the answer.
    case finished(response: [UInt8])
    /// Recorded and not finished: it runs, or the process that ran it has died.
    case running
}

/// Remembers requests by (peer, method, key). It keeps a hash of the parameters and the answer, never the parameters.
public protocol IdempotencyStore: Sendable {
    /// Decides and records in one step. Throws `Failure(.overloaded)` when the peer has too many records.
    func begin(
        peer: String, method: String, key: String, parametersHash: [UInt8], now: Timestamp
    ) async throws -> IdempotencyDecision
    func finish(peer: String, method: String, key: String, response: [UInt8], now: Timestamp) async throws
    /// Forgets a request whose execution had no effect, so that it may be sent again.
    func abandon(peer: String, method: String, key: String) async throws
    /// Removes records that were made before `moment`.
    func trim(before moment: Timestamp) async throws
}
