internal import Database
internal import Model
internal import RPC
internal import Tasks

/// Takes a shelved instance from its host: its disk is an image by now.
struct OffloadOnHost: TaskStep {
    let name = "offload_on_host"
    let deadline = Duration.seconds(6 * 3_600)
    let retry = RetryPolicy.standard
    // Half a removal helps nobody.
    let canCancel = false
    let ledger: InstanceLedger
    let command: HostCommand
    let liveness: Liveness
    let cleanup: CleanupQueue

    func run(_ state: inout OffloadTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        if instance.vmState == .shelvedOffloaded { return .next }
        if state.host == nil { state.host = instance.host }
        guard let host = state.host else { return .next }
        guard instance.shelved != nil else {
            throw Failure(.conflict, "instance \(state.instance) has no image that it could come back from")
        }
        let progress = try await command.progress(
            DeleteInstance.self, to: host, instance: state.instance, dispatchedEpoch: &state.dispatchedEpoch, context
        ) { .init(header: $0) }
        switch progress {
        case .ended(let report):
            if let failure = report.failure { throw failure }
        case .refused(let failure) where failure.kind == .notFound || failure.kind == .forbidden:
            // The host was revoked: there is nobody left to ask.
            break
        case .refused(let failure):
            throw failure
        case .undelivered, .underWay:
            guard await !liveness.isUp(host, now: context.now()) else {
                return .wait(until: context.now() + .seconds(2))
            }
            // The image is all that is needed to come back; what the host still has is removed when it answers again.
            try await cleanup.add(instance: state.instance, host: host, for: context)
        }
        try await ledger.finishOffload(state.instance, host: host, context)
        return .next
    }
}

/// Inserts the offloading that follows a shelving, where the configuration wants it at once.
struct OffloadQueue: Sendable {
    let engine: TaskEngine
    let tasks: any TaskStorage
    /// `[DEFAULT] shelved_offload_time`.
    let afterSeconds: Int

    var isImmediate: Bool { afterSeconds == 0 }

    /// The same task however often it is asked for: a step that runs again after a crash finds it.
    func add(instance: InstanceID, for context: StepContext) async throws {
        let id = TaskID("\(context.row.id)/offload")
        guard try await tasks.find(id) == nil else { return }
        var row = try TaskEngine.makeRow(
            kind: TaskKind.offload, instance: instance, parent: context.row.id, requestID: context.row.requestID,
            generation: context.row.generation, state: OffloadTaskState(instance: instance), now: context.now())
        (row.id, row.epoch) = (id, context.row.epoch)
        try await tasks.insert(row)
        engine.wake()
    }
}
