internal import Model
internal import Synchronization

/// Wakes those who wait for a guest to stop.
final class StopSignals: Sendable {
    /// One waiter's wake-ups; at most one is kept, since it only says to look again.
    struct Subscription: Sendable {
        let number: Int
        let wakeUps: AsyncStream<Void>
    }

    private struct State {
        var last = 0
        var waiters: [InstanceID: [Int: AsyncStream<Void>.Continuation]] = [:]
    }

    private let state = Mutex(State())

    func subscribe(_ id: InstanceID) -> Subscription {
        let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        return state.withLock { state in
            state.last += 1
            state.waiters[id, default: [:]][state.last] = continuation
            return Subscription(number: state.last, wakeUps: stream)
        }
    }

    func unsubscribe(_ id: InstanceID, _ subscription: Subscription) {
        state.withLock { state in
            state.waiters[id]?[subscription.number] = nil
            if state.waiters[id]?.isEmpty == true { state.waiters[id] = nil }
        }
    }

    func signal(_ id: InstanceID) {
        let continuations = state.withLock { $0.waiters[id].map { Array($0.values) } ?? [] }
        for continuation in continuations { continuation.yield() }
    }

    func signalAll() {
        let continuations = state.withLock { $0.waiters.values.flatMap(\.values) }
        for continuation in continuations { continuation.yield() }
    }
}
