internal import Model
internal import Synchronization
internal import Telemetry

/// Carries one leased task as far as it goes: to its end, to a wait, or to the loss of its lease.
struct TaskRun {
    private static let finishedLimit = Duration.seconds(60)
    private static let undoPolicy = RetryPolicy(
        maxAttempts: .max, initialBackoff: .milliseconds(500), maxBackoff: .seconds(60))
    /// An attempt gets at least this long, even if it begins just before its step's deadline.
    private static let shortestAttempt = Duration.seconds(1)

    let engine: TaskEngine
    let definition: any AnyTaskDefinition
    let active: ActiveTask
    var row: TaskRow

    private var plan: [StepPlan] { definition.plan }
    private var now: Timestamp { engine.now() }

    init(engine: TaskEngine, definition: any AnyTaskDefinition, active: ActiveTask, row: TaskRow) {
        (self.engine, self.definition, self.active, self.row) = (engine, definition, active, row)
        if row.isCancelRequested { active.interrupt(.cancel) }
    }

    mutating func carry() async {
        row.forgiveOutage(plan, tolerance: engine.lease, now: now)
        while !active.isLost {
            await move()
            guard !active.isLost else { break }
            let isParked = row.status.isFinished || row.status == .waiting || row.wakeAt != nil
            let isStopping = engine.state.withLock { $0.isStopping }
            guard await save(isGivenUp: isParked || isStopping) else { break }
            if row.status.isFinished { await wakeParent() }
            guard !isParked, !isStopping else { return }
        }
        engine.log.debug("a task is left to others", ["task": row.id, "kind": row.kind])
    }

    /// One transition: what the row says now is done, and the row says what comes next.
    private mutating func move() async {
        do {
            try definition.check(row.state)
        } catch {
            return park("state", error)
        }
        switch (row.status, row.step) {
        case (_, TaskRow.finishingStep): await finish()
        case (.undoing, let name):
            guard let index = plan.firstIndex(where: { $0.name == name }) else { return park("step", nil) }
            await undo(index)
        case (_, nil):
            row.begin(plan[0], now: now)
            await step(0)
        case (_, let name):
            guard let index = plan.firstIndex(where: { $0.name == name }) else { return park("step", nil) }
            await step(index)
        }
    }

    /// Leaves a row that this program cannot read, written by a newer one, for a while.
    private mutating func park(_ what: String, _ error: (any Error)?) {
        engine.log.error(
            "a task cannot be continued by this version",
            [
                "task": row.id, "kind": row.kind, "step": row.step, "unreadable": what,
                "error": error.map(LoggedError.init),
            ])
        if row.status != .undoing {
            row.lastError = Failure(
                .unsupportedVersion, "this version cannot read the task's \(what)", isRetriable: true)
        }
        row.wakeAt = now + .seconds(60)
    }

    private mutating func step(_ index: Int) async {
        let step = plan[index]
        if active.isCancelRequested {
            row.isCancelRequested = true
            if step.canCancel { return row.beginUndoing(Failure(.cancelled, "cancelled on request"), plan) }
        }
        // Woken by nothing but the deadline: a last look whether the work is done, then it is over.
        let isLate = row.deadline.map { deadline in now >= deadline && (row.wakeAt ?? deadline) >= deadline } ?? false
        row.wakeAt = nil
        let limit = max(Self.shortestAttempt, row.deadline.map { $0.since(now) } ?? step.deadline)
        let context = context
        let (definition, state) = (definition, row.state)
        let overdue = Failure(.timeout, "the step \(step.name) was not done within \(step.deadline.inSeconds) s")
        engine.callHook(row, .beforeStep)
        let began = now
        let (attempt, isOverdue) = await boundedAttempt(
            limit: limit, clock: engine.clock, active: active, step: step.name, isCancellable: step.canCancel
        ) { () async -> Attempt in
            guard isLate else { return await definition.run(step: index, state, context) }
            do {
                let isDone = try await definition.isDone(step: index, state, context)
                return Attempt(state: state, result: isDone ? .success(.next) : .failure(overdue))
            } catch {
                return Attempt(state: state, result: .failure(overdue))
            }
        }
        engine.callHook(row, .afterStep)
        guard !active.isLost else { return }
        row.state = attempt.state
        switch attempt.result {
        case .success(let outcome):
            row.advance(outcome, plan, now: now)
            count(step.name, "done", since: began)
        case .failure(let error):
            if active.isCancelRequested, step.canCancel {
                row.isCancelRequested = true
                row.beginUndoing(Failure(.cancelled, "cancelled on request"), plan)
                return count(step.name, "cancelled", since: began)
            }
            if !isOverdue, let outage = error.outage {
                // None of the step's own attempts: it has not been able to do anything.
                row.wakeAt = now + engine.backoff(.outage, after: 1)
                count(step.name, "outage", since: began)
                return engine.log.warning(
                    "a step waits for its storage", ["task": row.id, "step": step.name, "failure": outage])
            }
            let failure = isOverdue ? overdue : error.taskFailure
            count(step.name, failure.kind == .timeout ? "timeout" : "failed", since: began)
            engine.log.info(
                "a step failed",
                ["task": row.id, "kind": row.kind, "step": step.name, "attempt": row.attempts + 1, "failure": failure])
            row.fail(failure, plan, now: now) { [engine] in engine.backoff(step.retry, after: $0) }
        }
    }

    private mutating func undo(_ index: Int) async {
        let step = plan[index]
        row.wakeAt = nil
        let context = context
        let (definition, state) = (definition, row.state)
        engine.callHook(row, .beforeUndo)
        let began = now
        let (attempt, isOverdue) = await boundedAttempt(
            limit: step.deadline, clock: engine.clock, active: active, isCancellable: false
        ) { await definition.undo(step: index, state, context) }
        engine.callHook(row, .afterUndo)
        guard !active.isLost else { return }
        row.state = attempt.state
        switch attempt.result {
        case .success:
            row.undone(plan)
            count(step.name, "undone", since: began)
        case .failure(let error):
            let failure = isOverdue ? Failure(.timeout, "the undo took too long") : error.taskFailure
            row.undoFailed(failure, plan, limit: engine.undoAttempts, now: now) { [engine] in
                engine.backoff(Self.undoPolicy, after: $0)
            }
            count(step.name, "undo_failed", since: began)
            engine.log.error(
                "a step's undo failed",
                ["task": row.id, "kind": row.kind, "step": step.name, "failure": failure])
        }
    }

    private mutating func finish() async {
        row.wakeAt = nil
        let (definition, state, row) = (definition, self.row.state, self.row)
        engine.callHook(row, .beforeFinished)
        let began = now
        let (attempt, isOverdue) = await boundedAttempt(
            limit: Self.finishedLimit, clock: engine.clock, active: active, isCancellable: false
        ) { await definition.finish(state, row, row.end) }
        engine.callHook(row, .afterFinished)
        guard !active.isLost else { return }
        self.row.state = attempt.state
        switch attempt.result {
        case .success:
            self.row.close(now: now)
            count(TaskRow.finishingStep, "done", since: began)
        case .failure(let error):
            let failure = isOverdue ? Failure(.timeout, "it took too long") : error.taskFailure
            self.row.attempts += 1
            self.row.wakeAt = now + engine.backoff(Self.undoPolicy, after: self.row.attempts)
            count(TaskRow.finishingStep, "failed", since: began)
            engine.log.error(
                "a task's end could not be handled", ["task": row.id, "kind": row.kind, "failure": failure])
        }
    }

    /// Records the row; false when the task is no longer ours. A storage that fails is asked again until the lease ends.
    private mutating func save(isGivenUp: Bool) async -> Bool {
        engine.callHook(row, .beforeSave)
        var attempt = 0
        while true {
            row.updatedAt = now
            row.leaseUntil = isGivenUp ? nil : now + engine.lease
            do {
                try await engine.storage.save(row)
                if let until = row.leaseUntil { active.leaseUntil = until }
                engine.callHook(row, .afterSave)
                return true
            } catch TaskError.leaseLost {
                active.interrupt(.leaseLost)
                return false
            } catch {
                attempt += 1
                engine.log.error("a task could not be recorded", ["task": row.id, "error": LoggedError(error)])
                let pause = engine.backoff(.saving, after: attempt)
                guard now + pause < active.leaseUntil, (try? await engine.clock.sleep(for: pause)) != nil else {
                    active.interrupt(.leaseLost)
                    return false
                }
            }
        }
    }

    /// A parent that waits for its children looks again. It also looks by itself now and then, so a lost word is no harm.
    private func wakeParent() async {
        guard let parent = row.parent else { return }
        do {
            try await engine.signal(parent)
        } catch TaskError.notFound {
            // It has been trimmed.
        } catch {
            engine.log.notice("a task's parent was not woken", ["task": row.id, "error": LoggedError(error)])
        }
    }

    private var context: StepContext {
        let active = active
        return StepContext(row: row, now: engine.now) { active.isCancelRequested }
    }

    private func count(_ step: String, _ result: String, since began: Timestamp) {
        engine.metrics.attemptEnded(row.kind, step, result, after: now.since(began))
    }
}

extension RetryPolicy {
    fileprivate static let outage = RetryPolicy(maxAttempts: .max, initialBackoff: .seconds(2), maxBackoff: .seconds(2))
    fileprivate static let saving = RetryPolicy(
        maxAttempts: .max, initialBackoff: .milliseconds(50), maxBackoff: .seconds(1))
}

extension Error {
    /// The error as a row keeps it: not retriable unless it says so itself.
    fileprivate var taskFailure: Failure {
        self as? Failure ?? (self as? any FailureConvertible)?.failure
            ?? Failure(.internalError, self is CancellationError ? "the step gave up" : "\(self)")
    }

    /// That the engine's own storage, or another beneath the step, cannot be used for a while. What the step itself has
    /// found out it throws as `Failure`.
    fileprivate var outage: Failure? {
        guard !(self is Failure), let failure = (self as? any FailureConvertible)?.failure, failure.isRetriable,
            failure.kind == .storage || failure.kind == .overloaded
        else { return nil }
        return failure
    }
}
