internal import Database
internal import Model
internal import RPC
internal import Tasks

// Images made of servers. Whatever a task fails by, an image that it did not fill is gone afterwards.
extension ConductorTasks {
    func registerImageTasks(on engine: TaskEngine) {
        let (ledger, images) = (ledger, images)
        let copy = CommandOnHost(ledger: ledger, command: command, liveness: liveness, offload: offload)
        let finished: TaskDefinition<GuestTaskState>.Finished = { state, row, end in
            guard let failure = end.failure else { return }
            if case .snapshot(let order) = state.command { try await images.discard(order.image) }
            try await commandFailed(state.instance, failure, row)
        }
        engine.register(TaskDefinition<GuestTaskState>(kind: TaskKind.snapshot, steps: [copy], finished: finished))
        engine.register(
            TaskDefinition<GuestTaskState>(
                kind: TaskKind.backup, steps: [copy, RotateBackups<GuestTaskState>(ledger: ledger, images: images)],
                finished: finished))
        engine.register(
            TaskDefinition<RotationTaskState>(
                kind: TaskKind.rotateBackups,
                steps: [RotateBackups<RotationTaskState>(ledger: ledger, images: images)]
            ) { state, row, end in
                if let failure = end.failure {
                    return try await ledger.fail(state.instance, failure, keeping: true, row, now: now())
                }
                do {
                    try await ledger.finish(
                        state.instance, event: "compute_backup_instance",
                        StepContext(row: row, now: now, isCancelRequested: { false }))
                } catch let overtaken as Failure where overtaken.kind == .cancelled {
                    try await ledger.fail(state.instance, overtaken, keeping: true, row, now: now())
                }
            })
    }
}
