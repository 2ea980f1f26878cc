internal import Model
internal import Synchronization

/// What valid tokens mean, kept for a few seconds, so that not every call of the API asks the database.
///
/// A change made in this process is seen at once (`forget`, `forgetAll`); one made by another process when the entry's time is over.
public final class TokenCache: Sendable {
    private struct Entry: Sendable {
        var context: AuthenticatedContext
        var until: Timestamp
    }

    private struct State: Sendable {
        var entries: [String: Entry] = [:]
        /// Rises with each change: what was read before a change must not be kept after it.
        var generation = 0
    }

    private let capacity: Int
    private let lifetime: Duration
    private let state = Mutex(State())

    /// At most `capacity` tokens, each for `lifetime`.
    public init(capacity: Int = 10_000, lifetime: Duration = .seconds(5)) {
        precondition(capacity > 0, "a cache without room would be asked in vain")
        (self.capacity, self.lifetime) = (capacity, lifetime)
    }

    func find(_ token: String, now: Timestamp) -> AuthenticatedContext? {
        state.withLock { state in
            guard let entry = state.entries[token] else { return nil }
            guard entry.until > now, entry.context.expiresAt > now else {
                state.entries[token] = nil
                return nil
            }
            return entry.context
        }
    }

    var generation: Int { state.withLock { $0.generation } }

    /// Keeps what was read while `generation` was current; drops it when something changed since.
    func keep(_ context: AuthenticatedContext, generation: Int, now: Timestamp) {
        state.withLock { state in
            guard state.generation == generation else { return }
            if state.entries.count >= capacity {
                state.entries = state.entries.filter { $0.value.until > now }
            }
            if state.entries.count >= capacity { state.entries.removeAll(keepingCapacity: true) }
            state.entries[context.token] = Entry(context: context, until: now + lifetime)
        }
    }

    /// Forgets one token.
    public func forget(_ token: String) {
        state.withLock {
            $0.generation += 1
            $0.entries[token] = nil
        }
    }

    /// Forgets everything, after a change of users, roles or projects.
    public func forgetAll() {
        state.withLock {
            $0.generation += 1
            $0.entries.removeAll(keepingCapacity: true)
        }
    }

    var count: Int { state.withLock { $0.entries.count } }
}
