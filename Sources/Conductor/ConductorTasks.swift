internal import Database
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// The durable tasks, each with its steps and what to write when it ends.
struct ConductorTasks: Sendable {
    let ledger: InstanceLedger
    let command: HostCommand
    let liveness: Liveness
    let cleanup: CleanupQueue
    let scheduler: RPCClient
    let maxAttempts: Int
    let buildTimeout: Duration
    let now: Now

    func register(on engine: TaskEngine) {
        engine.register(
            TaskDefinition<BuildTaskState>(
                kind: TaskKind.build,
                steps: [
                    ScheduleInstance(ledger: ledger, scheduler: scheduler, alternates: maxAttempts - 1),
                    BuildOnHost(
                        deadline: buildTimeout, ledger: ledger, command: command, liveness: liveness,
                        cleanup: cleanup),
                ]
            ) { state, row, end in
                state.adminPassword = nil
                guard let failure = end.failure else { return }
                if failure.kind == .timeout, let host = state.currentHost {
                    try await cleanup.add(
                        instance: state.instance, host: host,
                        for: StepContext(row: row, now: now, isCancelRequested: { false }))
                }
                try await ledger.fail(state.instance, failure, keeping: false, row, now: now())
            })
        engine.register(
            TaskDefinition<DeleteTaskState>(
                kind: TaskKind.delete,
                steps: [DeleteOnHost(ledger: ledger, command: command, liveness: liveness)]
            ) { state, row, end in
                if let failure = end.failure {
                    guard !state.isRecordDeleted else { return }
                    try await ledger.fail(state.instance, failure, keeping: false, row, now: now())
                } else if !state.isRecordDeleted {
                    try await ledger.finishDelete(
                        state.instance, StepContext(row: row, now: now, isCancelRequested: { false }))
                }
            })
        engine.register(
            TaskDefinition<PowerTaskState>(
                kind: TaskKind.power,
                steps: [ChangePowerOnHost(ledger: ledger, command: command, liveness: liveness)]
            ) { state, row, end in
                guard let failure = end.failure else { return }
                try await ledger.fail(state.instance, failure, keeping: true, row, now: now())
            })
        engine.register(
            TaskDefinition<CleanupTaskState>(
                kind: TaskKind.cleanup, steps: [CleanupOnHost(command: command)]
            ) { _, _, _ in })
    }
}

extension BuildTaskState {
    fileprivate var currentHost: HostName? {
        candidates.flatMap { attempt < $0.count ? $0[attempt] : nil }
    }
}

extension TaskEnd {
    /// Why the task did not succeed; `nil` when it did.
    fileprivate var failure: Failure? {
        switch self {
        case .succeeded: nil
        case .failed(let failure): failure
        case .cancelled: Failure(.cancelled, "the task was cancelled")
        }
    }
}
