internal import Model
internal import RPC
internal import Synchronization
internal import Telemetry

/// Has images in the cache because the conductor asks, before any guest needs them. One at a time: guests that wait for
/// their own image go first on the host's link and disks.
final class ImagePrefetch: Sendable {
    /// Images that may wait at once.
    static let limit = 64
    /// How long the conductor is kept waiting for an answer.
    static let patience = Duration.seconds(20)

    private typealias Waiter = CheckedContinuation<Void, any Error>

    private struct State {
        /// Who waits, by the digest of the image.
        var orders: [String: [Int: Waiter]] = [:]
        var lastWaiter = 0
        var isClosed = false
    }

    private let state = Mutex(State())
    private let queue: AsyncStream<CacheImage.Params>
    private let sink: AsyncStream<CacheImage.Params>.Continuation
    private let cache: @Sendable (CacheImage.Params) async throws -> Void
    private let clock: any Clock<Duration>
    private let log = Logger("agent.images")
    private let done = Metrics.shared.counter(
        "agent_images_prefetched_total", help: "Images asked for before they were needed, by result.")

    /// - Parameter cache: has one image in the cache.
    init(
        clock: any Clock<Duration> = AlarmClock(), cache: @escaping @Sendable (CacheImage.Params) async throws -> Void
    ) {
        (self.cache, self.clock) = (cache, clock)
        (queue, sink) = AsyncStream.makeStream()
    }

    /// Fetches what is asked for until it is cancelled.
    func run() async {
        for await order in queue {
            guard !Task.isCancelled else { break }
            let failure = await fetch(order)
            done.increment(labels: [("result", failure == nil ? "cached" : "failed")])
            end(order.image.sha512, failure)
        }
        close()
    }

    /// Waits until the image is in the cache, but not longer than `patience`: then `false`, and the fetch goes on.
    ///
    /// - Throws: `Failure`: what the fetch failed with; `.conflict`, retriable, when too many images wait already.
    func ask(_ order: CacheImage.Params) async throws -> Bool {
        // First, so that it is under way however soon nobody waits for it any more.
        if let refusal = state.withLock({ admit(order, &$0) }) { throw refusal }
        return try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try await self.ended(order)
                return true
            }
            group.addTask { [clock] in
                try await clock.sleep(for: Self.patience)
                return false
            }
            defer { group.cancelAll() }
            return try await group.next() ?? false
        }
    }

    private func fetch(_ order: CacheImage.Params) async -> Failure? {
        do {
            try await cache(order)
            log.info("an image is in the cache", ["image": order.image.id, "task": order.task])
            return nil
        } catch let failure as Failure {
            log.notice("an image cannot be cached", ["image": order.image.id, "failure": failure])
            return failure
        } catch {
            log.notice("an image cannot be cached", ["image": order.image.id, "error": LoggedError(error)])
            return Failure(.cancelled, "the host stopped before it had image \(order.image.id)", isRetriable: true)
        }
    }

    /// Waits for the end of the image's fetch, or for the caller's own cancellation.
    private func ended(_ order: CacheImage.Params) async throws {
        let waiter = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { join(order, waiter, $0) }
        } onCancel: {
            state.withLock { $0.orders[order.image.sha512]?.removeValue(forKey: waiter) }?
                .resume(throwing: CancellationError())
        }
    }

    private func join(_ order: CacheImage.Params, _ number: Int, _ waiter: Waiter) {
        let key = order.image.sha512
        let refusal = state.withLock { state -> (any Error)? in
            // Under the lock: a cancellation before this is seen here, one after it finds the waiter.
            if Task.isCancelled { return CancellationError() }
            if let refusal = admit(order, &state) { return refusal }
            state.orders[key]?[number] = waiter
            return nil
        }
        if let refusal { waiter.resume(throwing: refusal) }
    }

    /// Has the image fetched unless that is under way; why not, where it is not taken.
    private func admit(_ order: CacheImage.Params, _ state: inout State) -> Failure? {
        guard !state.isClosed else { return Self.stopped }
        guard state.orders[order.image.sha512] == nil else { return nil }
        guard state.orders.count < Self.limit else {
            return Failure(.conflict, "\(Self.limit) images wait to be cached already", isRetriable: true)
        }
        state.orders[order.image.sha512] = [:]
        sink.yield(order)
        return nil
    }

    private func end(_ key: String, _ failure: Failure?) {
        let waiters = state.withLock { $0.orders.removeValue(forKey: key) } ?? [:]
        for waiter in waiters.values {
            if let failure { waiter.resume(throwing: failure) } else { waiter.resume() }
        }
    }

    private func close() {
        let left = state.withLock { state in
            state.isClosed = true
            defer { state.orders = [:] }
            return state.orders.values.flatMap(\.values)
        }
        for waiter in left { waiter.resume(throwing: Self.stopped) }
    }

    private static let stopped = Failure(.cancelled, "the host is stopping", isRetriable: true)
}
