internal import Database
internal import Model
internal import RPC
internal import Tasks

/// Has the instance's host do something with its guest, and writes down what became of it.
struct CommandOnHost: TaskStep {
    /// How long a host that counts as up may be out of reach: its agent may be starting anew, and serves only once it
    /// has finished what it was in the middle of (`recovery_timeout`, 60 s).
    static let patience = Duration.seconds(120)

    let name = "command_on_host"
    /// The command's own limit counts from when the host has it; this one bounds what can go wrong beside it.
    let deadline = GuestCommand.longestHostLimit + .seconds(3_600)
    let retry = RetryPolicy.standard
    // Once the host has the command only the host can end it; it is asked to.
    let canCancel = false
    let ledger: InstanceLedger
    let command: HostCommand
    let liveness: Liveness
    let offload: OffloadQueue

    func run(_ state: inout GuestTaskState, _ context: StepContext) async throws -> StepOutcome {
        var instance = try await ledger.current(state.instance, context)
        guard let host = instance.host else {
            throw Failure(.conflict, "instance \(state.instance) is on no host")
        }
        if context.isCancelRequested, state.dispatchedEpoch == nil {
            throw Failure(.cancelled, "cancelled on request")
        }
        let order = state.command
        if !order.writesConfigDrive { instance.userData = nil }
        // The same words each time that it is sent: what a report meanwhile changes is nothing to the host.
        (instance.postponedReport, instance.updatedAt) = (nil, instance.createdAt)
        let record = instance
        let epoch = state.dispatchedEpoch
        let progress = try await command.progress(
            OperateGuest.self, to: host, instance: state.instance, dispatchedEpoch: &state.dispatchedEpoch, context
        ) { .init(header: $0, command: order, instance: record) }
        let now = context.now()
        if state.sentAt == nil || state.dispatchedEpoch != epoch { state.sentAt = now }
        switch progress {
        case .ended(let report):
            let leavesHost = order.isShelving && offload.isImmediate
            try await ledger.finishCommand(
                order, report, followedBy: leavesHost ? .shelvingOffloading : nil, context)
            if let failure = report.failure { throw failure }
            if leavesHost { try await offload.add(instance: state.instance, for: context) }
            return .next
        case .refused(let failure):
            throw failure
        case .undelivered(let failure):
            state.sentAt = nil
            guard await liveness.isUp(host, now: now) else {
                throw Failure(.unreachable, "host \(host) is down: \(failure.message)")
            }
            let since = state.unreachableSince ?? now
            state.unreachableSince = since
            guard now.since(since) < Self.patience else { throw Failure(failure.kind, failure.message) }
            return .wait(until: now + max(.milliseconds(500), min(.seconds(5), now.since(since) / 4)))
        case .underWay:
            state.unreachableSince = nil
            guard await liveness.isUp(host, now: now) else {
                throw Failure(.unreachable, "host \(host) went down during the operation")
            }
            guard let sentAt = state.sentAt, now.since(sentAt) < order.hostLimit else {
                throw Failure(
                    .timeout, "host \(host) has not ended \(order.name) within \(order.hostLimit.inSeconds) s")
            }
            if context.isCancelRequested, state.isCancelAnswered != true {
                state.isCancelAnswered = try await command.cancel(on: host, instance: state.instance, context)
            }
            let isAsking = context.isCancelRequested && state.isCancelAnswered != true
            return .wait(until: now + .seconds(isAsking ? 1 : 10))
        }
    }
}

extension GuestCommand {
    /// Whether the guest's disk is an image afterwards, so that the host can do without it.
    fileprivate var isShelving: Bool {
        if case .shelve(.some) = self { true } else { false }
    }
}
