internal import Database
internal import Images
internal import Model
internal import RPC
internal import Tasks

/// First step of a resize or a cold migration: the hosts to try, in order. Nothing has been touched yet.
struct ScheduleMove: TaskStep {
    let name = "schedule_move"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let selection: HostSelection
    let images: any ImageStorage
    let alternates: Int
    let agents: AgentDirectory

    func isDone(_ state: MoveTaskState, _ context: StepContext) async throws -> Bool { state.candidates != nil }

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        var instance = try await ledger.current(state.instance, context)
        guard let host = instance.host else {
            throw Failure(.conflict, "instance \(state.instance) is on no host")
        }
        try await images.requireBase(of: instance, toBe: "moved")
        guard try await agents.serves(MoveGuest.self, host) else {
            throw Failure(
                .unsupportedVersion, "the agent of host \(host) is of a release that moves nothing: upgrade it")
        }
        if let flavor = state.newFlavor { instance.flavor = flavor }
        let request = PlacementRequest(
            of: instance, state, alternates: alternates, ignoring: state.mayStay ? [] : [host])
        return try await selection.run(request, into: &state.candidates, context)
    }
}

/// Has one of the candidates promise the room, before anything of the guest is touched.
struct ReserveRoom: TaskStep {
    static let stepName = "reserve_room"
    /// How long a host that is busy with the instance is waited for.
    private static let patience = Duration.seconds(60)

    let name = Self.stepName
    let deadline = Duration.seconds(3_600)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let part: HostPart
    let images: any ImageStorage
    let releases: ReleaseQueue
    /// Why a candidate cannot take part, before it is asked; `nil` where it can.
    var objection: @Sendable (HostName) async throws -> Failure? = { _ in nil }
    /// Writes down which candidate is tried, and gives the instance as it is then.
    let aim: @Sendable (InstanceID, HostName, StepContext) async throws -> Instance

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let candidates = state.candidates ?? []
        while state.attempt < candidates.count {
            let host = candidates[state.attempt]
            if let failure = try await objection(host) {
                state.next(host, failure)
                continue
            }
            var instance = try await aim(state.instance, host, context)
            if state.image == nil { state.image = try await images.find(instance.imageID)?.reference }
            guard let image = state.image else {
                throw Failure(.imageUnacceptable, "the image \(instance.imageID) of the instance is gone")
            }
            if let flavor = state.newFlavor { instance.flavor = flavor }
            let number = state.attempt + 1
            switch try await part.look(
                "reserve.\(number)", .reserve(image), on: host, instance, &state, context)
            {
            case .waiting(let outcome): return outcome
            case .ended: return .next
            case .refused(let failure) where failure.kind == .conflict && failure.isRetriable && !isLate(context):
                // It is still removing what it had of the guest before an earlier move.
                return .wait(until: context.now() + .milliseconds(500))
            case .refused(let failure), .failed(let failure): state.next(host, failure)
            case .lost(let failure):
                // What it may have promised it gives back when it answers again.
                try await releases.add(
                    instance: state.instance, host: host, isSource: host == instance.move?.source, for: context)
                state.next(host, failure)
            }
        }
        throw Failure(
            .noValidHost,
            "No valid host was found. Exhausted all \(candidates.count) hosts available. \(state.reasons)")
    }

    private func isLate(_ context: StepContext) -> Bool {
        let now = context.now()
        return now.since(context.row.stepStartedAt ?? now) >= Self.patience
    }

    /// A task that ends here has nobody else who would give the room back.
    func undo(_ state: inout MoveTaskState, _ context: StepContext) async throws {
        guard state.isTouched != true, let candidates = state.candidates, state.attempt < candidates.count,
            let move = try await ledger.find(state.instance)?.move
        else { return }
        let host = candidates[state.attempt]
        try await releases.add(instance: state.instance, host: host, isSource: host == move.source, for: context)
    }
}

/// Has the source shut the guest down and keep its disks for the destination.
struct SetAsideOnSource: TaskStep {
    let name = "set_aside_on_source"
    let deadline = MoveOrder.setAside.hostLimit + .seconds(3_600)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.reach(.resizeMigrating, .migrating, state.instance, context)
        guard let source = instance.move?.source else { throw Failure(.conflict, "the move is over") }
        state.isTouched = true
        switch try await part.look("set_aside", .setAside, on: source, instance, &state, context) {
        case .waiting(let outcome): return outcome
        case .ended: return .next
        case .refused(let failure), .failed(let failure), .lost(let failure):
            state.failure = failure
            return .jump(GiveUpDestination.stepName)
        }
    }
}

/// Has the destination take the disks over and start the guest. Once it has been told to, only it can say what became of
/// the guest: it is waited for, however long it is away.
struct TakeOverOnDestination: TaskStep {
    let name = "take_over_on_destination"
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        var instance = try await ledger.reach(.resizeFinish, .postMigrating, state.instance, context)
        guard let move = instance.move, let destination = move.destination, let image = state.image else {
            state.failure = Failure(.conflict, "the record of the move is not complete")
            return .jump(GiveUpDestination.stepName)
        }
        let source: MoveSource
        do {
            source = try await part.command.agents.moveSource(
                move.source, migration: move.migration, instance: instance.id, destination: destination)
        } catch let failure as Failure where failure.isRetriable {
            // The source gets new credentials; the destination may be at it already.
            return .wait(until: context.now() + .seconds(10))
        }
        if let flavor = state.newFlavor { instance.flavor = flavor }
        switch try await part.look(
            "take_over", .takeOver(image, from: source), on: destination, instance, &state, isWaitedFor: true, context)
        {
        case .waiting(let outcome): return outcome
        case .ended(let report):
            try await ledger.finishMove(report, newFlavor: state.newFlavor, context)
            return .finish
        case .refused(let failure), .failed(let failure), .lost(let failure):
            state.failure = failure
            return .jump(GiveUpDestination.stepName)
        }
    }
}

/// Has the destination remove what it has made, before the source may have its guest again.
struct GiveUpDestination: TaskStep {
    static let stepName = "give_up_destination"

    let name = Self.stepName
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let destination = instance.move?.destination else { return .next }
        switch try await part.giveUp(on: destination, instance, &state, context) {
        case .waiting(let outcome): return outcome
        case .done: return .next
        case .impossible(let failure): throw failure
        }
    }
}

/// Has the source its guest again.
struct TakeBackOnSource: TaskStep {
    let name = "take_back_on_source"
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let source = instance.move?.source else { return .finish }
        switch try await part.look("take_back", .takeBack, on: source, instance, &state, isWaitedFor: true, context) {
        case .waiting(let outcome): return outcome
        case .ended(let report):
            state.isBack = true
            guard var failure = state.failure else {
                try await ledger.revertMove(report, context)
                return .finish
            }
            // Why the move failed is told once: the guest is back, so that nothing here is to be tried again.
            failure.isRetriable = false
            throw failure
        case .refused(let failure), .failed(let failure), .lost(let failure):
            state.isLost = true
            throw state.failure.map {
                Failure(
                    $0.kind, "\($0.message); and the guest cannot be started again on \(source): \(failure.message)")
            } ?? failure
        }
    }
}

/// Has the source remove what it has kept, once the user has confirmed the move.
struct ForgetOnSource: TaskStep {
    let name = "forget_on_source"
    let deadline = MoveOrder.forget.hostLimit + .seconds(3_600)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let part: HostPart

    func run(_ state: inout MoveTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let source = instance.move?.source else { return .finish }
        // Once told it may have removed the way back, so that nothing else can be decided any more.
        switch try await part.look("forget", .forget, on: source, instance, &state, isWaitedFor: true, context) {
        case .waiting(let outcome): return outcome
        case .ended(let report):
            try await ledger.confirmMove(report, context)
            return .next
        case .refused(let failure), .failed(let failure), .lost(let failure): throw failure
        }
    }
}

/// Has a host that was asked for room give back what it may have promised, when it answers again; or one whose guest has
/// arrived elsewhere remove what it still has of it.
struct ReleaseOnHost: TaskStep {
    private static let mostAttempts = 30

    var name = "release_on_host"
    var order = MoveOrder.release
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    let canCancel = false
    let ledger: InstanceLedger
    let command: HostCommand

    func run(_ state: inout CleanupTaskState, _ context: StepContext) async throws -> StepOutcome {
        guard let migration = state.migration, let instance = try await ledger.find(state.instance) else {
            return .next
        }
        let isLeaving = order == .leave
        let isSameHost = state.isSource == true && !isLeaving
        let attempt = state.attempts ?? 0
        // The instance may have come to live there since: by a newer command, which the host knows.
        let progress = try await command.progress(
            MoveGuest.self, to: state.host, instance: state.instance, part: attempt == 0 ? nil : "\(attempt)",
            dispatchedEpoch: &state.dispatchedEpoch, context
        ) {
            MoveGuest.Params(
                header: $0, migration: migration, order: order, instance: instance,
                vmState: isLeaving ? .active : .stopped, isSameHost: isSameHost)
        }
        switch progress {
        case .ended(let report):
            guard let failure = report.failure else { return .next }
            guard attempt < Self.mostAttempts else { throw failure }
            (state.attempts, state.dispatchedEpoch) = (attempt + 1, nil)
            return .wait(until: context.now() + .seconds(min(60, 5 << min(attempt, 4))))
        case .refused(let failure) where [.notFound, .forbidden, .conflict].contains(failure.kind): return .next
        case .refused(let failure) where failure.kind == .idempotencyMismatch:
            // It has the command; what has changed in the record since is nothing to it.
            state.dispatchedEpoch = context.row.epoch
            return .wait(until: context.now() + .seconds(30))
        case .refused(let failure): throw failure
        case .undelivered, .underWay: return .wait(until: context.now() + .seconds(30))
        }
    }
}

/// Inserts those tasks, one for each host of a move however often it is asked.
struct ReleaseQueue: Sendable {
    let engine: TaskEngine
    let tasks: any TaskStorage

    func add(
        instance: InstanceID, host: HostName, isSource: Bool = false, kind: String = TaskKind.release,
        for context: StepContext
    ) async throws {
        let id = TaskID("\(context.row.id)/\(kind)/\(host)")
        guard try await tasks.find(id) == nil else { return }
        let move = try TaskEngine.state(MoveTaskState.self, of: context.row)
        var state = CleanupTaskState(instance: instance, host: host)
        (state.migration, state.isSource) = (move.migration, isSource)
        var row = try TaskEngine.makeRow(
            kind: kind, instance: instance, parent: context.row.id, requestID: context.row.requestID,
            generation: context.row.generation, state: state, now: context.now())
        (row.id, row.epoch) = (id, context.row.epoch)
        try await tasks.insert(row)
        engine.wake()
    }
}

extension MoveTaskState {
    /// Why each host failed that was to have the guest.
    var reasons: String { failures.map { "\($0.host): \($0.failure.message)" }.joined(separator: "; ") }

    /// The next candidate's turn.
    mutating func next(_ host: HostName, _ failure: Failure) {
        failures.append(HostFailure(host: host, failure: failure))
        attempt += 1
        beginPart()
    }
}
