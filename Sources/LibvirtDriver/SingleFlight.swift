internal import Synchronization

/// Runs one task per key however many ask for it; each gets its result. When nobody waits any more, it is cancelled.
final class SingleFlight: Sendable {
    typealias Body = @Sendable () async throws -> Void

    private struct Flight {
        var task: Task<Void, Never>?
        var waiters: [Int: CheckedContinuation<Void, any Error>] = [:]
        /// Cancelled since its last waiter left; who joins now gets a flight of his own after this one.
        var isDoomed = false
        var next: Body?
    }

    private struct State {
        var flights: [String: Flight] = [:]
        var lastWaiter = 0
    }

    private let state = Mutex(State())

    /// - Throws: what `body` threw, or `CancellationError` when the calling task is cancelled.
    func run(_ key: String, _ body: @escaping Body) async throws {
        let waiter = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { join(key, waiter, $0, body) }
        } onCancel: {
            leave(key, waiter)
        }
    }

    private func join(
        _ key: String, _ waiter: Int, _ continuation: CheckedContinuation<Void, any Error>, _ body: @escaping Body
    ) {
        let isRefused = state.withLock { state in
            // Under the lock: a cancellation before this is seen here, one after it finds the waiter.
            if Task.isCancelled { return true }
            state.flights[key, default: Flight()].waiters[waiter] = continuation
            if state.flights[key]?.task == nil {
                state.flights[key]?.task = Task { await self.fly(key, body) }
            } else if state.flights[key]?.isDoomed == true {
                state.flights[key]?.next = body
            }
            return false
        }
        if isRefused { continuation.resume(throwing: CancellationError()) }
    }

    private func fly(_ key: String, _ body: Body) async {
        let outcome: Result<Void, any Error>
        do {
            outcome = .success(try await body())
        } catch {
            outcome = .failure(error)
        }
        let waiters = state.withLock { state -> [Int: CheckedContinuation<Void, any Error>] in
            if let next = state.flights[key]?.next, state.flights[key]?.waiters.isEmpty == false {
                state.flights[key]?.next = nil
                state.flights[key]?.isDoomed = false
                state.flights[key]?.task = Task { await self.fly(key, next) }
                return [:]
            }
            return state.flights.removeValue(forKey: key)?.waiters ?? [:]
        }
        for continuation in waiters.values { continuation.resume(with: outcome) }
    }

    private func leave(_ key: String, _ waiter: Int) {
        let continuation = state.withLock { state in
            let found = state.flights[key]?.waiters.removeValue(forKey: waiter)
            // The flight stays in the table until its body has ended, so that the next one does not overlap it.
            if found != nil, state.flights[key]?.waiters.isEmpty == true {
                state.flights[key]?.isDoomed = true
                state.flights[key]?.next = nil
                state.flights[key]?.task?.cancel()
            }
            return found
        }
        continuation?.resume(throwing: CancellationError())
    }
}
