internal import Database
internal import Model
internal import RPC
internal import Tasks

extension ConductorTasks {
    /// Evacuations: an instance whose host is dead is started on another.
    func registerEvacuations(on engine: TaskEngine) {
        let part = HostPart(command: command, liveness: liveness)
        let releases = ReleaseQueue(engine: engine, tasks: tasks)
        let (ledger, agents) = (ledger, command.agents)
        engine.register(
            TaskDefinition<MoveTaskState>(
                kind: TaskKind.evacuate,
                steps: [
                    ScheduleEvacuation(
                        ledger: ledger, selection: HostSelection(scheduler: scheduler, liveness: liveness),
                        images: imageStorage, alternates: maxAttempts - 1),
                    ReserveRoom(
                        ledger: ledger, part: part, images: imageStorage, releases: releases,
                        objection: { host in
                            guard try await !agents.serves(TakeInGuest.self, host) else { return nil }
                            return Failure(
                                .unsupportedVersion,
                                "the agent of host \(host) is of a release that evacuates nothing: upgrade it")
                        }, aim: { try await ledger.aimEvacuation($0, at: $1, $2) }),
                    TakeInOnDestination(ledger: ledger, part: part),
                    GiveUpEvacuation(ledger: ledger, part: part),
                ]
            ) { try await evacuationEnded(&$0, $1, $2, on: engine) })
    }

    private func evacuationEnded(
        _ state: inout MoveTaskState, _ row: TaskRow, _ end: TaskEnd, on engine: TaskEngine
    ) async throws {
        state.evacuation?.adminPassword = nil
        guard let failure = end.failure else { return }
        if state.isTouched == true, state.isLost != true, failure.kind == .cancelled,
            let destination = try await ledger.find(state.instance)?.move?.destination
        {
            // A newer request has come in between: what the destination has is nobody's.
            try await ReleaseQueue(engine: engine, tasks: tasks).add(
                instance: state.instance, host: destination, isSource: false,
                for: StepContext(row: row, now: now, isCancelRequested: { false }))
        }
        try await ledger.failEvacuation(
            state.instance, failure, migration: state.migration, isUntouched: state.isTouched != true,
            isLost: state.isLost == true, row, now: now())
    }
}
