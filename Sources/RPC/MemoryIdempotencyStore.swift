public import Model
internal import Synchronization

/// Remembers requests for as long as the process lives: for services without state of their own.
public final class MemoryIdempotencyStore: IdempotencyStore {
    private struct Key: Hashable {
        var peer: String
        var method: String
        var key: String
    }
    private struct Entry {
        var hash: [UInt8]
        var response: [UInt8]?
        var at: Timestamp
    }
    private struct State {
        var entries: [Key: Entry] = [:]
        var counts: [String: Int] = [:]
    }
    private let state = Mutex(State())
    private let limit: Int

    /// - Parameter limit: records a peer may have at once.
    public init(limit: Int = 10_000) { self.limit = limit }

    public func begin(
        peer: String, method: String, key: String, parametersHash: [UInt8], now: Timestamp
    ) async throws -> IdempotencyDecision {
        let limit = limit
        return try state.withLock { state in
            let place = Key(peer: peer, method: method, key: key)
            if let known = state.entries[place] {
                guard known.hash == parametersHash else { return .mismatch }
                return known.response.map { .finished(response: $0) } ?? .running
            }
            guard state.counts[peer, default: 0] < limit else {
                throw Failure(.overloaded, "peer \(peer) has \(limit) requests on record", isRetriable: true)
            }
            state.counts[peer, default: 0] += 1
            state.entries[place] = Entry(hash: parametersHash, response: nil, at: now)
            return .execute
        }
    }

    public func finish(peer: String, method: String, key: String, response: [UInt8], now: Timestamp) async throws {
        state.withLock { state in
            state.entries[Key(peer: peer, method: method, key: key)]?.response = response
        }
    }

    public func abandon(peer: String, method: String, key: String) async throws {
        state.withLock { state in
            guard state.entries.removeValue(forKey: Key(peer: peer, method: method, key: key)) != nil else { return }
            state.counts[peer, default: 1] -= 1
        }
    }

    public func trim(before moment: Timestamp) async throws {
        state.withLock { state in
            for (key, entry) in state.entries where entry.at < moment {
                state.entries[key] = nil
                state.counts[key.peer, default: 1] -= 1
            }
        }
    }
}
