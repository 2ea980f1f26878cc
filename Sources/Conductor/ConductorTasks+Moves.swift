internal import Database
internal import Model
internal import RPC
internal import Tasks

extension ConductorTasks {
    /// Resizes and cold migrations, their confirmation and the way back.
    func registerMoves(on engine: TaskEngine) {
        let part = HostPart(command: command, liveness: liveness)
        let releases = ReleaseQueue(engine: engine, tasks: tasks)
        let ledger = ledger
        let back: [any TaskStep<MoveTaskState>] = [
            GiveUpDestination(ledger: ledger, part: part), TakeBackOnSource(ledger: ledger, part: part),
        ]
        engine.register(
            TaskDefinition(
                kind: TaskKind.move,
                steps: [
                    ScheduleMove(
                        ledger: ledger, selection: HostSelection(scheduler: scheduler, liveness: liveness),
                        images: imageStorage, alternates: maxAttempts - 1, agents: command.agents),
                    ReserveRoom(ledger: ledger, part: part, images: imageStorage, releases: releases) {
                        try await ledger.aim($0, at: $1, .resizePrep, $2)
                    },
                    SetAsideOnSource(ledger: ledger, part: part),
                    TakeOverOnDestination(ledger: ledger, part: part),
                ] + back
            ) { try await moveEnded(&$0, $1, $2) })
        engine.register(
            TaskDefinition<MoveTaskState>(
                kind: TaskKind.confirmMove, steps: [ForgetOnSource(ledger: ledger, part: part)]
            ) { try await verificationEnded(&$0, $1, $2) })
        engine.register(
            TaskDefinition<MoveTaskState>(kind: TaskKind.revertMove, steps: back) {
                try await verificationEnded(&$0, $1, $2)
            })
        engine.register(
            TaskDefinition<CleanupTaskState>(
                kind: TaskKind.release, steps: [ReleaseOnHost(ledger: ledger, command: command)]))
    }

    private func moveEnded(_ state: inout MoveTaskState, _ row: TaskRow, _ end: TaskEnd) async throws {
        guard let failure = end.failure else { return }
        let source = try await ledger.find(state.instance)?.move?.source
        var report: ReportOperation.Params?
        if let source, state.isBack == true {
            report = try await command.reports.find(task: row.id.part("take_back"), host: source)
        }
        try await ledger.failMove(
            state.instance, failure, back: report,
            isLost: state.isLost == true || (state.isTouched == true && state.isBack != true), row, now: now())
    }

    private func verificationEnded(_ state: inout MoveTaskState, _ row: TaskRow, _ end: TaskEnd) async throws {
        guard let failure = end.failure else { return }
        try await ledger.failVerification(state.instance, failure, isLost: state.isLost == true, row, now: now())
    }
}
