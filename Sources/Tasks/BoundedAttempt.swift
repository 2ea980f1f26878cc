internal import Synchronization

/// Runs `body` in a Swift task of its own, which `active` can interrupt and which is cancelled after `limit`.
///
/// Always waits for `body` to end, however long that takes: its undo must not run beside it.
func boundedAttempt<T: Sendable>(
    limit: Duration, clock: any Clock<Duration>, active: ActiveTask, step: String? = nil, isCancellable: Bool,
    _ body: @escaping @Sendable () async -> T
) async -> (value: T, isOverdue: Bool) {
    let isOverdue = Mutex(false)
    let work = Task { await body() }
    let timer = Task {
        guard (try? await clock.sleep(for: limit)) != nil else { return }
        isOverdue.withLock { $0 = true }
        work.cancel()
    }
    active.attemptBegan(step: step, isCancellable: isCancellable) { work.cancel() }
    let value = await work.value
    active.attemptEnded()
    timer.cancel()
    await timer.value
    return (value, isOverdue.withLock { $0 })
}
