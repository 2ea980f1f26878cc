internal import Database
internal import Images
internal import Model
internal import RPC
internal import Tasks

/// First step of a live migration: the hosts to try, in order.
struct ScheduleLive: TaskStep {
    let name = "schedule_live_migration"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let selection: HostSelection
    let images: any ImageStorage
    let hosts: HostStore
    let alternates: Int
    let agents: AgentDirectory

    func isDone(_ state: MoveTaskState, _ context: StepContext) async throws -> Bool { state.candidates != nil }

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let source = instance.host else {
            throw Failure(.conflict, "instance \(state.instance) is on no host")
        }
        state.source = source
        try await images.requireBase(of: instance, toBe: "moved")
        if let failure = try await objection(to: source) { throw failure }
        guard let home = try await hosts.find(source)?.report else {
            throw Failure(.conflict, "host \(source) has not said what it is")
        }
        if let wanted = state.requestedHost, state.isForced == true {
            if let failure = try await objection(to: wanted, from: home) { throw failure }
            state.candidates = [wanted]
            return .next
        }
        while true {
            let request = PlacementRequest(
                of: instance, state, alternates: alternates, ignoring: [source] + state.failures.map(\.host))
            var found: [HostName]?
            do {
                let outcome = try await selection.run(request, into: &found, context)
                guard found != nil else { return outcome }
            } catch let failure as Failure where failure.kind == .noValidHost && !state.failures.isEmpty {
                throw Failure(.noValidHost, "\(failure.message) \(state.reasons)", details: failure.details)
            }
            var fit: [HostName] = []
            for host in found ?? [] {
                if let failure = try await objection(to: host, from: home) {
                    state.failures.append(HostFailure(host: host, failure: failure))
                } else {
                    fit.append(host)
                }
            }
            guard fit.isEmpty else {
                state.candidates = fit
                return .next
            }
            guard state.requestedHost == nil else {
                throw Failure(.noValidHost, "No valid host was found. \(state.reasons)")
            }
        }
    }

    /// Why a host cannot take part in a live migration, or not in one from the host that `home` tells of.
    private func objection(to host: HostName, from home: HostReport? = nil) async throws -> Failure? {
        guard try await agents.serves(ForceMigration.self, host) else {
            return Failure(
                .unsupportedVersion,
                "the agent of host \(host) is of a release that moves no guest that runs: upgrade it")
        }
        guard let home else { return nil }
        guard let there = try await hosts.find(host)?.report else {
            return Failure(.conflict, "host \(host) has not said what it is")
        }
        guard there.hypervisorType == home.hypervisorType else {
            return Failure(
                .conflict,
                "host \(host) runs \(there.hypervisorType), and \(home.host) \(home.hypervisorType)")
        }
        guard there.hypervisorVersion >= home.hypervisorVersion else {
            return Failure(
                .unsupportedVersion,
                "the hypervisor of host \(host) is of version \(there.hypervisorVersion), older than "
                    + "\(home.hypervisorVersion) of \(home.host)")
        }
        return nil
    }
}

/// Has the source look whether its guest can be carried over at all. Nothing is touched by it.
struct OfferOnSource: TaskStep {
    let name = "offer_on_source"
    let deadline = Duration.seconds(3_600)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.reach(.migrating, .preparing, state.instance, context)
        guard let source = instance.move?.source else { throw Failure(.conflict, "the move is over") }
        switch try await part.look("offer", .offer, on: source, instance, &state, context) {
        case .waiting(let outcome): return outcome
        case .ended: return .next
        case .refused(var failure), .failed(var failure), .lost(var failure):
            // Asked again it would only say the same again.
            failure.isRetriable = false
            throw failure
        }
    }
}

/// Has the candidate that has promised the room make what the guest needs, and wait for it.
struct ReceiveOnDestination: TaskStep {
    let name = "receive_on_destination"
    let deadline = Duration.seconds(2 * 3_600)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let part: HostPart
    let releases: ReleaseQueue

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let move = instance.move, let destination = move.destination, let image = state.image else {
            throw Failure(.conflict, "the record of the move is not complete")
        }
        let source = try await part.command.agents.moveSource(
            move.source, migration: move.migration, instance: instance.id, destination: destination)
        let order = MoveOrder.receive(image, from: source, state.request ?? LiveRequest())
        switch try await part.look("receive.\(state.attempt + 1)", order, on: destination, instance, &state, context) {
        case .waiting(let outcome): return outcome
        case .ended: return .next
        case .refused(let failure), .failed(let failure), .lost(let failure):
            // It has promised the room, and may have made something.
            try await releases.add(instance: instance.id, host: destination, for: context)
            state.next(destination, failure)
            return .jump(ReserveRoom.stepName)
        }
    }
}

/// From here on only the source can say where the guest is. That is on record before the source hears of it.
struct CommitLive: TaskStep {
    let name = "commit_live_migration"
    let deadline = Duration.seconds(60)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        if context.isCancelRequested { throw Failure(.cancelled, "cancelled on request") }
        let instance = try await ledger.reach(.migrating, .running, state.instance, context)
        guard let destination = instance.move?.destination else { throw Failure(.conflict, "the move is over") }
        (state.target, state.isTouched) = (destination, true)
        return .next
    }
}

/// Has the source carry its guest over. It is waited for, however long it is away.
struct SendToDestination: TaskStep {
    static let part = "send"

    let name = "send_to_destination"
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    // Once the source has the command only the source can end it; it is asked to.
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart
    let releases: ReleaseQueue

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let move = instance.move, let target = state.target else {
            throw Failure(.conflict, "the record of the move is not complete")
        }
        var address: MoveSource
        do {
            address = try await part.command.agents.moveSource(
                target, migration: move.migration, instance: instance.id, destination: move.source)
        } catch let failure as Failure where failure.isRetriable {
            // It gets new credentials; or it was revoked for good, which the source then finds out by itself.
            let began = context.row.stepStartedAt ?? context.now()
            guard state.dispatchedEpoch != nil || context.now().since(began) >= HostPart.patience else {
                return .wait(until: context.now() + .seconds(10))
            }
            address = MoveSource(host: target, url: "", ticket: "")
        }
        let order = MoveOrder.send(to: address, state.request ?? LiveRequest())
        switch try await part.look(
            Self.part, order, on: move.source, instance, &state, isWaitedFor: true, context)
        {
        case .waiting(let outcome):
            if try await part.liveness.isKnownDead(move.source) {
                // Only the destination is left to ask.
                (state.isSent, state.isSourceDead) = (true, true)
                state.beginPart()
                return .next
            }
            return try await askToCancel(on: move.source, &state, context) ?? outcome
        case .ended:
            state.isSent = true
            return .next
        case .refused(var failure):
            failure.isRetriable = false
            // Nobody is left to say where the guest is, unless it was never told.
            let isRevoked = await isRevoked(move.source)
            state.isBack = !isRevoked
            throw failure
        case .failed(let failure):
            state.isBack = true
            throw failure
        case .lost(let failure): throw failure
        }
    }

    /// The destination has no guest then, and gives back what it has for it.
    func undo(_ state: inout MoveTaskState, _ context: StepContext) async throws {
        guard state.isBack == true, let target = state.target else { return }
        try await releases.add(instance: state.instance, host: target, for: context)
    }

    private func askToCancel(
        on source: HostName, _ state: inout MoveTaskState, _ context: StepContext
    ) async throws -> StepOutcome? {
        guard context.isCancelRequested, state.dispatchedEpoch != nil, state.isCancelAnswered != true else {
            return nil
        }
        let isAnswered = try await part.command.cancel(
            on: source, instance: state.instance, part: Self.part, context)
        state.isCancelAnswered = isAnswered
        return .wait(until: context.now() + .seconds(isAnswered ? 10 : 1))
    }

    private func isRevoked(_ host: HostName) async -> Bool {
        do {
            _ = try await part.command.agents.client(for: host)
            return false
        } catch { return true }
    }
}

/// Has the destination take the guest for its own and let it go on. The guest is nowhere else: it is waited for.
struct ArriveAtDestination: TaskStep {
    static let part = "arrive"

    let name = "arrive_at_destination"
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        // Written before, by this step ahead of a crash.
        if instance.move == nil, instance.host == state.target { return .finish }
        guard let target = state.target, let image = state.image else {
            throw Failure(.conflict, "the record of the move is not complete")
        }
        switch try await part.look(
            Self.part, .arrive(image), on: target, instance, &state, isWaitedFor: true, context)
        {
        case .waiting(let outcome):
            // With both dead nobody can say which of them has it.
            guard state.isSourceDead != true, try await part.liveness.isKnownDead(target) else { return outcome }
            throw Failure(
                .unreachable, "host \(target), which has the guest, is declared dead: evacuate the instance from it")
        case .ended(let report):
            try await ledger.finishLive(report, state.evidence(context), context)
            return .finish
        case .refused(var failure), .failed(var failure), .lost(var failure):
            failure.isRetriable = false
            guard state.isSourceDead == true else { throw failure }
            let report = try await part.command.reports.find(task: context.row.id.part(Self.part), host: target)
            guard report == nil || report?.powerState == .noState else { throw failure }
            // It never came there: what there is of it is on the host that is dead, and can be evacuated from it.
            (state.isSent, state.isBack) = (false, true)
            throw Failure(
                .unreachable,
                "host \(instance.host?.rawValue ?? "") is declared dead, and its guest has not come to \(target): "
                    + failure.message)
        }
    }
}

extension MoveTaskState {
    /// What a source that was called dead is to be told when it returns: that the guest is not its own any more.
    func evidence(_ context: StepContext) -> EvacuationRecord? { evidence(of: context.row) }

    func evidence(of row: TaskRow) -> EvacuationRecord? {
        guard isSourceDead == true, let source else { return nil }
        // It has had the command to send under this task's own generation.
        return EvacuationRecord(
            migration: migration, instance: instance, source: source, generation: row.generation + 1)
    }
}
