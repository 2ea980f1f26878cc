internal import Database
internal import Images
internal import Model
internal import RPC
internal import Tasks

/// First step of an evacuation: the hosts to try, in order. Nothing has been touched yet.
struct ScheduleEvacuation: TaskStep {
    let name = "schedule_evacuation"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let selection: HostSelection
    let images: any ImageStorage
    let alternates: Int

    func isDone(_ state: MoveTaskState, _ context: StepContext) async throws -> Bool { state.candidates != nil }

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let source = instance.move?.source else { throw Failure(.conflict, "the evacuation is over") }
        try await images.requireBase(of: instance, toBe: "evacuated")
        if let host = state.requestedHost, state.evacuation?.isForced == true {
            state.candidates = [host]
            return .next
        }
        let request = PlacementRequest(of: instance, state, alternates: alternates, ignoring: [source])
        return try await selection.run(request, into: &state.candidates, context)
    }
}

/// Has the destination start the guest. Once it has been told to, only it can say what became of the guest: it is waited
/// for, unless an operator says that it is dead, too.
struct TakeInOnDestination: TaskStep {
    let name = "take_in_on_destination"
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let move = instance.move, let destination = move.destination, let image = state.image else {
            throw Failure(.conflict, "the record of the evacuation is not complete")
        }
        if state.isTouched != true {
            guard try await part.liveness.isKnownDead(move.source) else {
                throw Failure(
                    .conflict,
                    "host \(move.source) has come back, or is not declared down any more: nothing was done")
            }
            state.isTouched = true
        }
        let order = state.evacuation
        let epoch = state.dispatchedEpoch
        let sent = HostPart.record(of: instance, withUserData: true)
        let progress = try await part.command.progress(
            TakeInGuest.self, to: destination, instance: instance.id, part: "take_in",
            dispatchedEpoch: &state.dispatchedEpoch, context
        ) { header in
            TakeInGuest.Params(
                header: header, migration: move.migration, instance: sent, image: image,
                adminPassword: order?.adminPassword, vmState: move.formerVMState, sharesDisks: order?.sharesDisks)
        }
        switch await part.judge(
            progress, of: destination, since: epoch, doing: "take_in", within: TakeInGuest.hostLimit, &state,
            isWaitedFor: true, context)
        {
        case .waiting(let outcome):
            guard try await part.liveness.isKnownDead(destination) else { return outcome }
            // It may have the guest, or come to have it when it returns: from now on it is the instance's host.
            state.isLost = true
            throw Failure(
                .unreachable,
                "host \(destination), which was to take the instance in, is declared dead: evacuate the instance from it"
            )
        case .ended(let report):
            try await ledger.finishEvacuation(report, context)
            return .finish
        case .refused(let failure), .failed(let failure), .lost(let failure):
            state.failure = failure
            return .jump(GiveUpEvacuation.stepName)
        }
    }
}

/// Has the destination remove what it has made, before anybody may try anything else.
struct GiveUpEvacuation: TaskStep {
    static let stepName = "give_up_evacuation"

    let name = Self.stepName
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        let failure = state.failure ?? Failure(.internalError, "the evacuation was given up without a reason")
        guard let destination = instance.move?.destination else { throw failure.told }
        switch try await part.giveUp(on: destination, instance, &state, context) {
        case .waiting(let outcome):
            guard try await part.liveness.isKnownDead(destination) else { return outcome }
            state.isLost = true
            throw failure.told
        case .done: throw failure.told
        case .impossible(let refusal):
            // Its guest may still run there.
            state.isLost = true
            throw Failure(
                failure.kind, "\(failure.message); and host \(destination) cannot give it up: \(refusal.message)")
        }
    }
}

extension Failure {
    /// Why an evacuation failed, once and for all: what is left of it has been removed.
    fileprivate var told: Failure {
        var told = self
        told.isRetriable = false
        return told
    }
}
