internal import Model
internal import Synchronization
internal import Telemetry

extension TaskEngine {
    /// The service loop. Returns when cancelled, after the steps under way have ended and their results are recorded; what
    /// is left is given up for others to take. Throws `TaskError.alreadyRunning`.
    public func run() async throws {
        try state.withLock { state in
            guard !state.isRunning else { throw TaskError.alreadyRunning }
            (state.isRunning, state.isStopping) = (true, false)
        }
        // Not a child: leases must be renewed while the steps under way end after this task's cancellation.
        let renewal = Task { await keepLeases() }
        let watching = Task { await keepWatch() }
        while !Task.isCancelled {
            let pause = await pass()
            if pause > .zero { await signalled.wait(atMost: pause, clock: clock) }
        }
        watching.cancel()
        await watching.value
        await stop()
        await withdraw()
        renewal.cancel()
        await renewal.value
    }

    /// So that nobody takes for dead who has ended in order.
    private func withdraw() async {
        guard watch != nil else { return }
        do {
            try await storage.withdraw(owner)
        } catch {
            log.notice("other engines will take this one for dead", ["error": LoggedError(error)])
        }
    }

    /// Takes and starts what is runnable; gives how long to wait before the next look.
    private func pass() async -> Duration {
        let waiters = state.withLock { state in
            defer { state.idleWaiters = [] }
            return state.idleWaiters
        }
        var pause = poll
        var isIdle = false
        do {
            let kinds = state.withLock { state in
                Set(state.definitions.keys.filter { room($0, state) > 0 })
            }
            let next = try await storage.nextWake(kinds: kinds)
            if let next, next <= now() {
                pause = try await startRunnable(kinds) > 0 ? .zero : min(poll, .milliseconds(100))
            } else {
                if let next { pause = max(.microseconds(1), min(poll, next.since(now()))) }
                isIdle = state.withLock { $0.active.isEmpty }
            }
        } catch {
            log.error("tasks could not be leased", ["error": LoggedError(error)])
        }
        if isIdle {
            for waiter in waiters { waiter.resume() }
        } else {
            state.withLock { $0.idleWaiters.append(contentsOf: waiters) }
        }
        return pause
    }

    private func startRunnable(_ kinds: Set<String>) async throws -> Int {
        var started = 0
        for kind in kinds.sorted() {
            let (free, definition) = state.withLock { (room(kind, $0), $0.definitions[kind]) }
            guard free > 0, let definition else { continue }
            let until = now() + lease
            let rows = try await storage.lease(kinds: [kind], owner: owner, until: until, now: now(), limit: free)
            for row in rows {
                let active = ActiveTask(id: row.id, kind: kind, leaseUntil: until)
                let earlier = state.withLock { state in
                    defer { state.active[row.id] = active }
                    return state.active[row.id]
                }
                // Our own lease ended before its renewal: what still runs under it must stop before the task goes on.
                earlier?.interrupt(.leaseLost)
                start(row, definition, active, after: earlier)
                started += 1
            }
        }
        return started
    }

    func start(
        _ row: TaskRow, _ definition: any AnyTaskDefinition, _ active: ActiveTask, after earlier: ActiveTask?
    ) {
        metrics.taskBegan(row.kind)
        // Not a child of the loop: a cancelled loop lets steps end. `stop` waits for every one of these.
        Task {
            await earlier?.ended()
            await RequestScope.$current.withValue(row.requestID) {
                var run = TaskRun(engine: self, definition: definition, active: active, row: row)
                await run.carry()
            }
            metrics.taskEnded(row.kind)
            ended(active)
        }
    }

    /// Frees the task's place, unless its successor has it already.
    func ended(_ active: ActiveTask) {
        let waiter = state.withLock { state in
            if state.active[active.id] === active { state.active[active.id] = nil }
            guard state.active.isEmpty else { return nil as CheckedContinuation<Void, Never>? }
            defer { state.stopWaiter = nil }
            return state.stopWaiter
        }
        active.end()
        waiter?.resume()
        wake()
    }

    private func stop() async {
        await withCheckedContinuation { continuation in
            let isEmpty = state.withLock { state in
                state.isStopping = true
                if !state.active.isEmpty { state.stopWaiter = continuation }
                return state.active.isEmpty
            }
            if isEmpty { continuation.resume() }
        }
        let waiters = state.withLock { state in
            state.isRunning = false
            defer { state.idleWaiters = [] }
            return state.idleWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Looks whether the other engines still live. What one that has died was at goes on at once, and not only when its
    /// leases are over; one that is merely slow, or halted, keeps them until then.
    private func keepWatch() async {
        guard let watch else { return }
        var isTold = false
        // An engine of an earlier release says nothing of itself, and is not missed.
        var absences: [String: Int] = [:]
        while !Task.isCancelled {
            do {
                _ = try await storage.announce(owner)
                let others = try await storage.owners(besides: owner)
                absences = absences.filter { others[$0.key] == false }
                for (other, lives) in others where !lives { absences[other, default: 0] += 1 }
                // Three times in a row: one whose connection was down a moment ago is there again by then.
                for (other, count) in absences where count >= 3 {
                    log.notice("another engine has died: what it was at goes on", ["owner": other])
                    try await storage.expireLeases(owner: other, now: now())
                    try await storage.withdraw(other)
                    absences[other] = nil
                    wake()
                }
                isTold = false
            } catch {
                // What was missed before an outage says nothing of those who live after it.
                absences = [:]
                if !isTold, !Task.isCancelled {
                    log.warning("whether the other engines live is not known", ["error": LoggedError(error)])
                }
                isTold = true
            }
            do { try await clock.sleep(for: watch) } catch { return }
        }
    }

    /// Renews the leases at a third of their length, and learns which cancellations were asked for elsewhere.
    private func keepLeases() async {
        while !Task.isCancelled {
            guard (try? await clock.sleep(for: lease / 3)) != nil else { return }
            let active = state.withLock { Array($0.active.values) }
            guard !active.isEmpty else { continue }
            let ids = active.map(\.id)
            let until = now() + lease
            do {
                let ours = try await storage.renew(ids: ids, owner: owner, until: until)
                let cancelled = try await storage.cancelRequested(among: ids)
                for task in active where ours.contains(task.id) { task.leaseUntil = until }
                for task in active where cancelled.contains(task.id) { task.interrupt(.cancel) }
                // A task that just ended, or was just submitted, is not ours in the storage either: only those whose lease is
                // over by our own count are lost. The others find out at their next save.
            } catch {
                log.error("leases of tasks could not be renewed", ["error": LoggedError(error)])
            }
            for task in active where task.leaseUntil <= now() {
                log.warning("a task's lease was lost", ["task": task.id])
                task.interrupt(.leaseLost)
            }
        }
    }
}
