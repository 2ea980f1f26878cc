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
        var instance = try await ledger.current(state.instance, context)
        guard let source = instance.move?.source else { throw Failure(.conflict, "the evacuation is over") }
        guard try await images.find(instance.imageID)?.reference != nil else {
            // The disk stands on it, or is to be made from it.
            throw Failure(
                .imageUnacceptable,
                "the image \(instance.imageID) of instance \(state.instance) is gone: it cannot be evacuated")
        }
        if let host = state.requestedHost, state.evacuation?.isForced == true {
            state.candidates = [host]
            return .next
        }
        // What was asked for when it was made has been done.
        instance.destination = nil
        var request = PlacementRequest(of: instance, alternates: state.requestedHost == nil ? alternates : 0)
        request.requestedHost = state.requestedHost
        request.ignoredHosts.insert(source)
        return try await selection.run(request, into: &state.candidates, context)
    }
}

/// Has one of the candidates promise the room.
struct ReserveForEvacuation: TaskStep {
    let name = "reserve_for_evacuation"
    let deadline = Duration.seconds(3_600)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let part: HostPart
    let images: any ImageStorage
    let releases: ReleaseQueue

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let candidates = state.candidates ?? []
        while state.attempt < candidates.count {
            let host = candidates[state.attempt]
            guard try await part.command.agents.serves(TakeInGuest.self, host) else {
                state.tryNext(
                    after: host,
                    Failure(
                        .unsupportedVersion,
                        "the agent of host \(host) is of a release that evacuates nothing: upgrade it"))
                continue
            }
            let instance = try await ledger.aimEvacuation(state.instance, at: host, context)
            if state.image == nil { state.image = try await images.find(instance.imageID)?.reference }
            guard let image = state.image else {
                throw Failure(.imageUnacceptable, "the image \(instance.imageID) of the instance is gone")
            }
            let progress = try await part.look(
                "reserve.\(state.attempt + 1)", .reserve(image), on: host, instance, &state, context)
            switch progress {
            case .waiting(let outcome): return outcome
            case .ended: return .next
            case .refused(let failure), .failed(let failure): state.tryNext(after: host, failure)
            case .lost(let failure):
                // What it may have promised it gives back when it answers again.
                try await releases.add(instance: state.instance, host: host, isSource: false, for: context)
                state.tryNext(after: host, failure)
            }
        }
        let reasons = state.failures.map { "\($0.host): \($0.failure.message)" }.joined(separator: "; ")
        throw Failure(
            .noValidHost, "None of \(candidates.count) hosts can take instance \(state.instance) in. \(reasons)")
    }

    /// A task that ends here has nobody else who would give the room back.
    func undo(_ state: inout MoveTaskState, _ context: StepContext) async throws {
        guard state.isTouched != true, let candidates = state.candidates, state.attempt < candidates.count else {
            return
        }
        try await releases.add(
            instance: state.instance, host: candidates[state.attempt], isSource: false, for: context)
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
    private static let mostAttempts = 30

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
        let attempt = state.releases ?? 0
        let name = attempt == 0 ? "release" : "release.\(attempt)"
        switch try await part.look(name, .release, on: destination, instance, &state, isWaitedFor: true, context) {
        case .waiting(let outcome):
            guard try await part.liveness.isKnownDead(destination) else { return outcome }
            state.isLost = true
            throw failure.told
        case .ended: throw failure.told
        case .refused(let refusal) where [.notFound, .forbidden].contains(refusal.kind):
            // The host was revoked: there is nobody left to ask.
            throw failure.told
        case .refused(let refusal), .failed(let refusal), .lost(let refusal):
            guard attempt < Self.mostAttempts else {
                // Its guest may still run there.
                state.isLost = true
                throw Failure(
                    failure.kind, "\(failure.message); and host \(destination) cannot give it up: \(refusal.message)")
            }
            state.releases = attempt + 1
            return .wait(until: context.now() + .seconds(min(60, 5 << min(attempt, 4))))
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

extension MoveTaskState {
    /// The next candidate's turn.
    fileprivate mutating func tryNext(after host: HostName, _ failure: Failure) {
        failures.append(HostFailure(host: host, failure: failure))
        attempt += 1
        beginPart()
    }
}
