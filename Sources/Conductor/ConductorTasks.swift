internal import Database
internal import Images
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
    let offload: OffloadQueue
    let imageStorage: any ImageStorage
    let tasks: any TaskStorage
    let hosts: HostStore
    let scheduler: RPCClient
    let images: ServerImages
    let maxAttempts: Int
    let buildTimeout: Duration
    let now: Now

    private var removal: ImageRemoval { ImageRemoval(images: imageStorage, service: images) }

    func register(on engine: TaskEngine) {
        engine.register(TaskDefinition(kind: TaskKind.build, steps: buildSteps) { try await buildEnded(&$0, $1, $2) })
        engine.register(
            TaskDefinition(kind: TaskKind.unshelve, steps: [ReadShelvedImage(images: imageStorage)] + buildSteps) {
                try await unshelveEnded(&$0, $1, $2)
            })
        engine.register(
            TaskDefinition<DeleteTaskState>(
                kind: TaskKind.delete,
                steps: [
                    DeleteOnHost(
                        ledger: ledger, command: command, liveness: liveness, removal: removal, cleanup: cleanup)
                ]
            ) { try await deleteEnded(&$0, $1, $2) })
        engine.register(
            TaskDefinition<GuestTaskState>(
                kind: TaskKind.guest,
                steps: [CommandOnHost(ledger: ledger, command: command, liveness: liveness, offload: offload)]
            ) { try await commandEnded(&$0, $1, $2) })
        engine.register(
            TaskDefinition<GuestTaskState>(
                kind: TaskKind.rebuild,
                steps: [
                    CheckHost(ledger: ledger, scheduler: scheduler),
                    CommandOnHost(ledger: ledger, command: command, liveness: liveness, offload: offload),
                ]
            ) { try await commandEnded(&$0, $1, $2) })
        engine.register(
            TaskDefinition<OffloadTaskState>(
                kind: TaskKind.offload,
                steps: [OffloadOnHost(ledger: ledger, command: command, liveness: liveness, cleanup: cleanup)]
            ) { state, row, end in
                guard let failure = end.failure else { return }
                try await ledger.fail(state.instance, failure, keeping: true, row, now: now())
            })
        registerImageTasks(on: engine)
        registerMoves(on: engine)
        registerLiveMigrations(on: engine)
        registerEvacuations(on: engine)
        engine.register(
            TaskDefinition<BatchTaskState>(kind: TaskKind.batch, steps: [WaitForChildren(tasks: tasks)]))
        engine.register(
            TaskDefinition<CleanupTaskState>(kind: TaskKind.cleanup, steps: [CleanupOnHost(command: command)]))
        engine.register(
            TaskDefinition<CacheImagesTaskState>(
                kind: TaskKind.cacheImages, steps: [CacheOnHost(agents: command.agents, liveness: liveness)]))
    }

    private var buildSteps: [any TaskStep<BuildTaskState>] {
        [
            ScheduleInstance(
                ledger: ledger, selection: HostSelection(scheduler: scheduler, liveness: liveness),
                alternates: maxAttempts - 1),
            BuildOnHost(
                deadline: buildTimeout, ledger: ledger, command: command, liveness: liveness, cleanup: cleanup),
        ]
    }

    private func buildEnded(_ state: inout BuildTaskState, _ row: TaskRow, _ end: TaskEnd) async throws {
        (state.adminPassword, state.files) = (nil, nil)
        guard let failure = end.failure else { return }
        try await abandonBuild(state, row, failure)
        try await ledger.fail(state.instance, failure, keeping: false, row, now: now())
    }

    private func unshelveEnded(_ state: inout BuildTaskState, _ row: TaskRow, _ end: TaskEnd) async throws {
        guard let failure = end.failure else {
            if let image = state.shelvedImage { try await removal.remove(image) }
            return
        }
        try await abandonBuild(state, row, failure)
        // Without its image there is nothing to come back from; otherwise it stays shelved and can be tried again.
        try await ledger.fail(
            state.instance, failure, keeping: failure.kind != .imageUnacceptable, leavingHost: true, row, now: now())
    }

    /// A host that was told to build, and was not waited for, is told to forget it.
    private func abandonBuild(_ state: BuildTaskState, _ row: TaskRow, _ failure: Failure) async throws {
        guard failure.kind == .timeout || failure.kind == .cancelled, let host = state.currentHost else { return }
        try await cleanup.add(instance: state.instance, host: host, for: context(row))
    }

    private func deleteEnded(_ state: inout DeleteTaskState, _ row: TaskRow, _ end: TaskEnd) async throws {
        guard let failure = end.failure else {
            if !state.isRecordDeleted { try await ledger.finishDelete(state.instance, context(row)) }
            return try await removal.removeShelved(of: try await ledger.find(state.instance))
        }
        guard !state.isRecordDeleted else { return }
        try await ledger.fail(state.instance, failure, keeping: false, row, now: now())
    }

    private func commandEnded(_ state: inout GuestTaskState, _ row: TaskRow, _ end: TaskEnd) async throws {
        state.command = state.command.withoutSecrets
        guard let failure = end.failure else {
            if let image = state.spentImage { try await removal.remove(image) }
            return
        }
        if let image = state.formerImage {
            try await ledger.restore(
                image, of: state.instance, isUntouched: state.isHostInQuestion == true, row, now: now())
        }
        if case .shelve(let order?) = state.command,
            try await ledger.find(state.instance)?.shelved?.imageID != order.image
        {
            try await removal.remove(order.image)
        }
        try await commandFailed(state.instance, failure, row)
    }

    /// What the host has reported, and the task has not seen before it failed, is the truth all the same.
    func commandFailed(_ id: InstanceID, _ failure: Failure, _ row: TaskRow) async throws {
        if let host = try await ledger.find(id)?.host,
            let report = try await command.reports.find(task: row.id, host: host)
        {
            try await ledger.takeLate(report, row, now: now())
        }
        try await ledger.fail(id, failure, keeping: true, row, now: now())
    }

    func context(_ row: TaskRow) -> StepContext {
        StepContext(row: row, now: now, isCancelRequested: { false })
    }
}

extension BuildTaskState {
    fileprivate var currentHost: HostName? {
        candidates.flatMap { attempt < $0.count ? $0[attempt] : nil }
    }
}

extension TaskEnd {
    /// Why the task did not succeed; `nil` when it did.
    var failure: Failure? {
        switch self {
        case .succeeded: nil
        case .failed(let failure): failure
        case .cancelled: Failure(.cancelled, "the task was cancelled")
        }
    }
}
