internal import Libvirt
internal import Model
internal import Synchronization

/// Tells those who asked guests to let go of devices what came of it.
final class RemovalSignals: Sendable {
    private struct Waiter {
        var id: InstanceID
        var alias: String
        var answer: AsyncStream<Bool>.Continuation
    }

    private struct State {
        var last = 0
        var waiters: [Int: Waiter] = [:]
    }

    private let state = Mutex(State())

    /// Runs `body`, then waits for the guest's answer, at most `limit`: whether the device is gone, or `nil` when it says
    /// nothing. Listens before `body` begins, so that no answer is too early.
    func answer(
        of id: InstanceID, _ alias: String, atMost limit: Duration, clock: any Clock<Duration>,
        after body: () async throws -> Void
    ) async throws -> Bool? {
        let (answers, continuation) = AsyncStream<Bool>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let number = state.withLock { state in
            state.last += 1
            state.waiters[state.last] = Waiter(id: id, alias: alias, answer: continuation)
            return state.last
        }
        defer { state.withLock { _ = $0.waiters.removeValue(forKey: number) } }
        try await body()
        return await withTaskGroup(of: Bool?.self) { group in
            group.addTask {
                var iterator = answers.makeAsyncIterator()
                return await iterator.next()
            }
            group.addTask {
                // Ends early only when cancelled, which the caller looks for.
                try? await clock.sleep(for: limit)
                return nil
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first
        }
    }

    func signal(_ removal: DeviceRemoval) {
        let waiters = state.withLock { state in
            state.waiters.values.filter { $0.id.rawValue == removal.uuid && $0.alias == removal.alias }
        }
        for waiter in waiters { waiter.answer.yield(removal.isRemoved) }
    }
}
