internal import Libvirt
internal import Model
internal import Synchronization

/// Tells those who wait for it what becomes of a guest's job.
final class JobWatch: Sendable {
    enum News: Sendable, Hashable {
        case ended(JobEnd)
        /// The guest is off, and its job with it.
        case stopped
        /// The connection broke: whether the job goes on is not known, nor will its end be told.
        case lost
    }

    /// One waiter's news, until it is dropped.
    final class Subscription: Sendable {
        let news: AsyncStream<News>
        private let end: @Sendable () -> Void

        init(_ news: AsyncStream<News>, end: @escaping @Sendable () -> Void) { (self.news, self.end) = (news, end) }

        deinit { end() }
    }

    private struct State {
        var last = 0
        var waiters: [InstanceID: [Int: AsyncStream<News>.Continuation]] = [:]
    }

    private let state = Mutex(State())

    /// To be made before the job is begun: its end may come at once.
    func subscribe(_ id: InstanceID) -> Subscription {
        let (stream, continuation) = AsyncStream<News>.makeStream(bufferingPolicy: .bufferingOldest(16))
        let number = state.withLock { state in
            state.last += 1
            state.waiters[id, default: [:]][state.last] = continuation
            return state.last
        }
        return Subscription(stream) { [weak self] in
            self?.state.withLock { state in
                state.waiters[id]?[number] = nil
                if state.waiters[id]?.isEmpty == true { state.waiters[id] = nil }
            }
        }
    }

    func tell(_ id: InstanceID, _ news: News) {
        let waiters = state.withLock { $0.waiters[id].map { Array($0.values) } ?? [] }
        for waiter in waiters { waiter.yield(news) }
    }

    func lose() {
        let waiters = state.withLock { $0.waiters.values.flatMap(\.values) }
        for waiter in waiters { waiter.yield(.lost) }
    }
}
