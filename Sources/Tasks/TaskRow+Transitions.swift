internal import Model

/// How a row moves: values only, so that every rule can be tested without an engine.
extension TaskRow {
    /// The row as it stands when `step` begins for the first time, or again after a jump.
    mutating func begin(_ step: StepPlan, now: Timestamp) {
        status = .running
        self.step = step.name
        if !begun.contains(step.name) { begun.append(step.name) }
        (stepStartedAt, deadline) = (now, now + step.deadline)
        (attempts, wakeAt, lastError) = (0, nil, nil)
    }

    /// Time in which no engine ran does not count: the step's time starts anew when the task was not picked up in time.
    mutating func forgiveOutage(_ plan: [StepPlan], tolerance: Duration, now: Timestamp) {
        guard status == .running, let current = plan.first(where: { $0.name == step }) else { return }
        if let wakeAt, now.since(wakeAt) <= tolerance { return }
        deadline = now + current.deadline
    }

    /// What follows a step that returned `outcome`.
    mutating func advance(_ outcome: StepOutcome, _ plan: [StepPlan], now: Timestamp) {
        let index = plan.firstIndex { $0.name == step } ?? 0
        switch outcome {
        case .next where index + 1 < plan.count: begin(plan[index + 1], now: now)
        case .next, .finish: beginFinishing()
        case .wait(let until):
            status = .waiting
            (attempts, lastError) = (0, nil)
            wakeAt = [until, deadline].compactMap { $0 }.min()
        case .jump(let name):
            if let target = plan.first(where: { $0.name == name }) {
                begin(target, now: now)
            } else {
                let reason = "the step \(step ?? "") of \(kind) jumped to \(name), which does not exist"
                beginUndoing(Failure(.internalError, reason), plan)
            }
        }
    }

    /// What follows a failed attempt: another one after `pause`, or the undoing of everything.
    mutating func fail(_ failure: Failure, _ plan: [StepPlan], now: Timestamp, pause: (Int) -> Duration) {
        attempts += 1
        let policy = plan.first { $0.name == step }?.retry ?? .none
        if failure.isRetriable, attempts < policy.maxAttempts {
            let next = now + pause(attempts)
            if deadline.map({ next < $0 }) ?? true {
                (status, wakeAt, lastError) = (.waiting, next, failure)
                return
            }
        }
        beginUndoing(failure, plan)
    }

    /// Turns round: from here on what was begun is undone, last step of the definition first.
    mutating func beginUndoing(_ cause: Failure, _ plan: [StepPlan]) {
        (status, lastError, attempts, wakeAt) = (.undoing, cause, 0, nil)
        pointAtNextUndo(plan)
    }

    mutating func undone(_ plan: [StepPlan]) {
        begun.removeAll { $0 == step }
        (attempts, wakeAt) = (0, nil)
        pointAtNextUndo(plan)
    }

    /// What follows a failed undo: another try after `pause`, or, after `limit`, a note and the next one. Where what the
    /// undo works with is out of reach there is no limit: given up then, something would be left behind for certain.
    mutating func undoFailed(
        _ failure: Failure, _ plan: [StepPlan], limit: Int, now: Timestamp, pause: (Int) -> Duration
    ) {
        attempts += 1
        guard attempts >= limit, failure.kind != .unreachable else {
            wakeAt = now + pause(attempts)
            return
        }
        undoFailures.append("\(step ?? ""): \(failure.message)")
        undone(plan)
    }

    mutating func beginFinishing() {
        (step, stepStartedAt, deadline) = (Self.finishingStep, nil, nil)
        (attempts, wakeAt) = (0, nil)
        if status != .undoing { (status, lastError) = (.running, nil) }
    }

    /// How the task ends, once it is at `finishingStep`.
    var end: TaskEnd {
        guard status == .undoing else { return .succeeded }
        let cause = lastError ?? Failure(.internalError, "the task failed for an unrecorded reason")
        return cause.kind == .cancelled ? .cancelled : .failed(cause)
    }

    mutating func close(now: Timestamp) {
        switch end {
        case .succeeded: (status, lastError) = (.succeeded, nil)
        case .failed: status = .failed
        case .cancelled: status = .cancelled
        }
        (step, wakeAt, leaseUntil, finishedAt, attempts) = (nil, nil, nil, now, 0)
    }

    private mutating func pointAtNextUndo(_ plan: [StepPlan]) {
        guard let last = plan.last(where: { begun.contains($0.name) }) else { return beginFinishing() }
        (step, stepStartedAt, deadline) = (last.name, nil, nil)
    }
}
