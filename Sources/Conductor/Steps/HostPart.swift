internal import Database
internal import Model
internal import RPC
internal import Tasks

/// What has become of a host's part in a move.
enum PartProgress {
    case ended(ReportOperation.Params)
    /// The host has not taken the command.
    case refused(Failure)
    /// The host has tried, and has undone what it could.
    case failed(Failure)
    /// The host cannot be reached, or has gone down, for longer than it is waited for.
    case lost(Failure)
    case waiting(StepOutcome)
}

/// Whether a destination has removed what it had made.
enum GivingUp {
    case done
    /// It has tried too often.
    case impossible(Failure)
    case waiting(StepOutcome)
}

/// Has a host do its part in a move and looks for its end: the one way of all steps of moves.
struct HostPart: Sendable {
    /// How long a host that counts as up may be out of reach: its agent may be starting anew.
    static let patience = Duration.seconds(120)
    private static let mostReleases = 30

    let command: HostCommand
    let liveness: Liveness

    /// - Parameter isWaitedFor: whether a host that is down is waited for however long: what it has begun nobody else may
    ///   go on with.
    func look(
        _ part: String, _ order: MoveOrder, on host: HostName, _ instance: Instance, _ state: inout MoveTaskState,
        isWaitedFor: Bool = false, _ context: StepContext
    ) async throws -> PartProgress {
        guard let move = instance.move else {
            throw Failure(.conflict, "instance \(instance.id) is not being moved")
        }
        let sent = Self.record(of: instance, withUserData: false)
        let isSameHost = move.destination == move.source
        let epoch = state.dispatchedEpoch
        let progress = try await command.progress(
            MoveGuest.self, to: host, instance: instance.id, part: part, dispatchedEpoch: &state.dispatchedEpoch,
            context
        ) { header in
            MoveGuest.Params(
                header: header, migration: move.migration, order: order, instance: sent, vmState: move.formerVMState,
                isSameHost: isSameHost)
        }
        return await judge(
            progress, of: host, since: epoch, doing: order.name, within: order.hostLimit, &state,
            isWaitedFor: isWaitedFor, context)
    }

    /// The record as a host gets it: the same words each time that it is sent, since what a report changes meanwhile is
    /// nothing to the host.
    static func record(of instance: Instance, withUserData: Bool) -> Instance {
        var record = instance
        (record.postponedReport, record.updatedAt) = (nil, record.createdAt)
        if !withUserData { record.userData = nil }
        (record.move, record.taskState, record.progress) = (nil, nil, 0)
        return record
    }

    /// What follows from how far a host is with what it was told.
    ///
    /// - Parameter epoch: `dispatchedEpoch` before the host was asked.
    func judge(
        _ progress: CommandProgress, of host: HostName, since epoch: Int64?, doing what: String, within limit: Duration,
        _ state: inout MoveTaskState, isWaitedFor: Bool, _ context: StepContext
    ) async -> PartProgress {
        let now = context.now()
        if state.sentAt == nil || state.dispatchedEpoch != epoch { state.sentAt = now }
        switch progress {
        case .ended(let report):
            state.beginPart()
            if let failure = report.failure { return .failed(failure) }
            return .ended(report)
        case .refused(let failure) where failure.kind == .idempotencyMismatch:
            // It has the command; what the user may change of the record meanwhile is nothing to it.
            state.dispatchedEpoch = context.row.epoch
            return .waiting(.wait(until: now + .seconds(10)))
        case .refused(let failure) where isWaitedFor && failure.isRetriable:
            return .waiting(.wait(until: now + .seconds(10)))
        case .refused(let failure):
            state.beginPart()
            return .refused(failure)
        case .undelivered(let failure):
            state.sentAt = nil
            let since = state.unreachableSince ?? now
            state.unreachableSince = since
            if isWaitedFor { return .waiting(.wait(until: now + Self.pause(after: now.since(since)))) }
            guard await liveness.isUp(host, now: now), now.since(since) < Self.patience else {
                state.beginPart()
                return .lost(Failure(.unreachable, "host \(host) cannot be reached: \(failure.message)"))
            }
            return .waiting(.wait(until: now + Self.pause(after: now.since(since))))
        case .underWay:
            state.unreachableSince = nil
            if isWaitedFor { return .waiting(.wait(until: now + .seconds(10))) }
            guard await liveness.isUp(host, now: now) else {
                state.beginPart()
                return .lost(Failure(.unreachable, "host \(host) went down during the move"))
            }
            guard let sentAt = state.sentAt, now.since(sentAt) < limit else {
                state.beginPart()
                return .lost(
                    Failure(
                        .timeout, "host \(host) has not ended \(what) within \(limit.inSeconds) s"))
            }
            return .waiting(.wait(until: now + .seconds(10)))
        }
    }

    /// Has a destination remove what it has made by the move, as often as it takes: its guest may still run, and nothing
    /// may go on before.
    func giveUp(
        on destination: HostName, _ instance: Instance, _ state: inout MoveTaskState, _ context: StepContext
    ) async throws -> GivingUp {
        let attempt = state.releases ?? 0
        let name = attempt == 0 ? "release" : "release.\(attempt)"
        switch try await look(name, .release, on: destination, instance, &state, isWaitedFor: true, context) {
        case .waiting(let outcome): return .waiting(outcome)
        case .ended: return .done
        // The host was revoked: there is nobody left to ask.
        case .refused(let failure) where [.notFound, .forbidden].contains(failure.kind): return .done
        case .refused(let failure), .failed(let failure), .lost(let failure):
            guard attempt < Self.mostReleases else { return .impossible(failure) }
            state.releases = attempt + 1
            return .waiting(.wait(until: context.now() + .seconds(min(60, 5 << min(attempt, 4)))))
        }
    }

    private static func pause(after length: Duration) -> Duration {
        max(.milliseconds(500), min(.seconds(30), length / 4))
    }
}

extension MoveTaskState {
    /// Nothing has been sent of what comes next.
    mutating func beginPart() { (dispatchedEpoch, sentAt, unreachableSince) = (nil, nil, nil) }
}
