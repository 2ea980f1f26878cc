internal import Database
internal import Model
internal import RPC
internal import Tasks

extension ConductorTasks {
    /// Live migrations, and what their sources remove afterwards.
    func registerLiveMigrations(on engine: TaskEngine) {
        let part = HostPart(command: command, liveness: liveness)
        let releases = ReleaseQueue(engine: engine, tasks: tasks)
        let ledger = ledger
        engine.register(
            TaskDefinition(
                kind: TaskKind.liveMigrate,
                steps: [
                    ScheduleLive(
                        ledger: ledger, selection: HostSelection(scheduler: scheduler, liveness: liveness),
                        images: imageStorage, hosts: hosts, alternates: maxAttempts - 1, agents: command.agents),
                    OfferOnSource(ledger: ledger, part: part),
                    ReserveRoom(ledger: ledger, part: part, images: imageStorage, releases: releases) {
                        try await ledger.aim($0, at: $1, .migrating, $2)
                    },
                    ReceiveOnDestination(ledger: ledger, part: part, releases: releases),
                    CommitLive(ledger: ledger),
                    SendToDestination(ledger: ledger, part: part, releases: releases),
                    ArriveAtDestination(ledger: ledger, part: part),
                ]
            ) { try await liveEnded(&$0, $1, $2, releases) })
        engine.register(
            TaskDefinition<CleanupTaskState>(
                kind: TaskKind.leave,
                steps: [ReleaseOnHost(name: "leave_on_host", order: .leave, ledger: ledger, command: command)]))
    }

    private func liveEnded(
        _ state: inout MoveTaskState, _ row: TaskRow, _ end: TaskEnd, _ releases: ReleaseQueue
    ) async throws {
        if state.isSent == true, let source = state.source {
            // The guest is elsewhere for good, whatever became of it there.
            try await releases.add(
                instance: state.instance, host: source, isSource: true, kind: TaskKind.leave, for: context(row))
        }
        guard let failure = end.failure else { return }
        func report(_ part: String, _ host: HostName?) async throws -> ReportOperation.Params? {
            guard let host else { return nil }
            return try await command.reports.find(task: row.id.part(part), host: host)
        }
        if state.isSent == true, let target = state.target {
            try await ledger.failArrival(
                state.instance, failure, at: target, try await report(ArriveAtDestination.part, target), row,
                now: now())
        } else if state.isTouched == true, state.isBack != true {
            try await ledger.loseLive(state.instance, failure, row, now: now())
        } else {
            try await ledger.endLive(
                state.instance, failure, back: try await report(SendToDestination.part, state.source),
                isBegun: state.isTouched == true, row, now: now())
        }
    }
}
