internal import Database
internal import Model
internal import RPC
internal import Tasks

/// Takes the guest from its host. A host that is down does not hold up the user: the record is closed, and the host is
/// asked until it answers.
struct DeleteOnHost: TaskStep {
    let name = "delete_on_host"
    // A host may stay away for weeks; what it holds is still to be removed when it is back.
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    // Half a removal helps nobody.
    let canCancel = false
    let ledger: InstanceLedger
    let command: HostCommand
    let liveness: Liveness
    let removal: ImageRemoval
    let cleanup: CleanupQueue

    func run(_ state: inout DeleteTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.find(state.instance)
        if state.host == nil { state.host = instance?.host }
        guard let host = state.host else { return .next }
        if let instance, instance.move?.type != .liveMigration {
            try await cleanOthers(than: host, instance, context)
        }
        // A later delete has done it all.
        if !state.isRecordDeleted, instance?.deletedAt != nil { return .next }
        let progress = try await command.progress(
            DeleteInstance.self, to: host, instance: state.instance, dispatchedEpoch: &state.dispatchedEpoch, context
        ) { .init(header: $0) }
        switch progress {
        case .ended(let report):
            if let failure = report.failure { throw failure }
            if let instance { try await cleanOthers(than: host, instance, context) }
            return .next
        case .refused(let failure) where failure.kind == .notFound || failure.kind == .forbidden:
            // The host was revoked: there is nobody left to ask.
            if let instance { try await cleanOthers(than: host, instance, context) }
            return .next
        case .refused(let failure):
            throw failure
        case .undelivered, .underWay:
            if await !liveness.isUp(host, now: context.now()), !state.isRecordDeleted {
                if let instance { try await cleanOthers(than: host, instance, context) }
                try await ledger.finishDelete(state.instance, context)
                state.isRecordDeleted = true
                try await removal.removeShelved(of: try await ledger.find(state.instance))
            }
            return .wait(until: context.now() + .seconds(state.isRecordDeleted ? 30 : 2))
        }
    }

    /// A move that is under way, or not confirmed, has left something on the other host. In a live migration the source
    /// is done with first: until then it could send its guest there.
    private func cleanOthers(than host: HostName, _ instance: Instance, _ context: StepContext) async throws {
        for other in instance.move?.hosts(besides: host) ?? [] {
            try await cleanup.add(instance: instance.id, host: other, for: context)
        }
    }
}
