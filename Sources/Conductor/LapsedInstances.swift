internal import Database
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// What the cloud does to instances by itself when their time is over: those deleted softly are deleted for good, shelved
/// ones are taken from their hosts. Any number of conductors may look: the table decides on the row as it is.
struct LapsedInstances: Sendable {
    let database: ControlDatabase
    /// `[DEFAULT] reclaim_instance_interval`; zero deletes nothing, for nothing new is deleted softly then, and what was
    /// before waits for its owner.
    let reclaimAfter: Duration
    /// `[DEFAULT] shelved_offload_time`; 0 is done with the shelving itself, -1 never.
    let offloadAfterSeconds: Int
    /// `[DEFAULT] rescue_timeout`; zero leaves rescued instances so.
    let unrescueAfter: Duration
    /// `[DEFAULT] resize_confirm_window`; zero leaves it to the user.
    let confirmAfter: Duration
    /// `[DEFAULT] reboot_timeout`; zero leaves reboots the time that their hosts give them.
    let rebootAfter: Duration
    private let log = Logger("conductor")

    init(
        database: ControlDatabase, reclaimAfter: Duration, offloadAfterSeconds: Int, unrescueAfter: Duration = .zero,
        confirmAfter: Duration = .zero, rebootAfter: Duration = .zero
    ) {
        (self.confirmAfter, self.rebootAfter) = (confirmAfter, rebootAfter)
        (self.database, self.reclaimAfter) = (database, reclaimAfter)
        (self.offloadAfterSeconds, self.unrescueAfter) = (offloadAfterSeconds, unrescueAfter)
    }

    /// One look at all kinds; says how many instances it began to act on.
    func act(now: Timestamp) async throws -> Int {
        try await reclaim(now: now) + offload(now: now) + unrescue(now: now) + confirm(now: now)
            + reboot(now: now)
    }

    /// Deletes for good what was deleted softly long enough ago.
    func reclaim(now: Timestamp) async throws -> Int {
        var count = 0
        if reclaimAfter > .zero {
            for instance in try await database.instances.idle(in: .softDeleted) {
                guard let since = instance.softDeletedAt, now.since(since) >= reclaimAfter else { continue }
                count += try await begin(
                    .forceDelete, instance, kind: TaskKind.delete, actor: "system:reclaim", now: now
                ) { DeleteTaskState(instance: $0) }
            }
        }
        return count
    }

    /// Takes from their hosts those that have been shelved long enough.
    func offload(now: Timestamp) async throws -> Int {
        var count = 0
        if offloadAfterSeconds > 0 {
            for instance in try await database.instances.idle(in: .shelved) {
                guard let since = instance.shelved?.at, now.since(since) >= .seconds(offloadAfterSeconds) else {
                    continue
                }
                count += try await begin(
                    .shelveOffload, instance, kind: TaskKind.offload, actor: "system:shelved-offload", now: now
                ) { OffloadTaskState(instance: $0) }
            }
        }
        return count
    }

    /// Ends rescues that have lasted long enough.
    func unrescue(now: Timestamp) async throws -> Int {
        guard unrescueAfter > .zero else { return 0 }
        var count = 0
        for instance in try await database.instances.idle(in: .rescued) {
            guard let since = instance.rescuedAt, now.since(since) >= unrescueAfter else { continue }
            count += try await begin(
                .unrescue, instance, kind: TaskKind.guest, actor: "system:rescue-timeout", now: now
            ) { GuestTaskState(instance: $0, command: .unrescue) }
        }
        return count
    }

    /// Confirms moves that have waited long enough for their users.
    func confirm(now: Timestamp) async throws -> Int {
        guard confirmAfter > .zero else { return 0 }
        var count = 0
        for instance in try await database.instances.idle(in: .resized) {
            guard let move = instance.move, move.decision != .revert, let since = move.finishedAt,
                now.since(since) >= confirmAfter
            else {
                continue
            }
            count += try await begin(
                .confirmResize, instance, kind: TaskKind.confirmMove, actor: "system:resize-confirm-window", now: now,
                change: { $0.move?.decision = .confirm }
            ) { MoveTaskState(instance: $0, migration: move.migration) }
        }
        try await giveUp(now: now)
        return count
    }

    /// What is in ERROR when its time is over is not confirmed: its migration ends in error. The instance keeps its move,
    /// so that its user may still go back, or an administrator give them the choice again.
    private func giveUp(now: Timestamp) async throws {
        for instance in try await database.instances.idle(in: .error) {
            guard let move = instance.move, move.type.isVerified, let since = move.finishedAt,
                now.since(since) >= confirmAfter,
                // While it is being decided the decision has the last word.
                try await database.migrations.find(move.migration)?.status == .finished
            else { continue }
            let reason = "the instance was in ERROR when its resize_confirm_window was over"
            do {
                _ = try await database.instances.update(
                    instance.id, generation: instance.fence.generation, now: now,
                    migrations: [.status(move.migration, .error, failure: reason)]
                ) { current in
                    guard current.vmState == .error, current.taskState == nil, current.deletedAt == nil else {
                        throw Overtaken()
                    }
                }
            } catch StoreError.conflict {
                continue
            } catch is Overtaken {
                continue
            }
            log.warning(
                "a move is not confirmed, for its instance is in ERROR",
                ["instance": instance.id, "migration": move.migration.rawValue])
        }
    }

    /// Pulls the plug of guests that were asked to reboot, and have not by then.
    func reboot(now: Timestamp) async throws -> Int {
        guard rebootAfter > .zero else { return 0 }
        var count = 0
        for instance in try await database.instances.rebooting(since: now - rebootAfter) {
            count += try await begin(
                .reboot(.hard), instance, kind: TaskKind.guest, actor: "system:reboot-timeout", now: now
            ) { GuestTaskState(instance: $0, command: .hardReboot) }
        }
        return count
    }

    /// Accepts a request of the cloud's own; 0 when something else has come in between.
    private func begin<State: Codable & Sendable>(
        _ request: InstanceRequest, _ seen: Instance, kind: String, actor: String, now: Timestamp,
        change: @escaping @Sendable (inout Instance) -> Void = { _ in },
        state: @escaping @Sendable (InstanceID) -> State
    ) async throws -> Int {
        let requestID = RequestScope.makeID()
        let action = request.action.map {
            InstanceAction(
                instance: seen.id, requestID: requestID, kind: $0, userID: UserID(actor), projectID: seen.projectID,
                startedAt: now)
        }
        do {
            _ = try await database.instances.update(
                seen.id, generation: seen.fence.generation, now: now, action: action,
                makeTasks: { instance in
                    [
                        try TaskEngine.makeRow(
                            kind: kind, instance: instance.id, requestID: requestID,
                            generation: instance.fence.generation, state: state(instance.id), now: now)
                    ]
                },
                change: { instance in
                    guard instance.vmState == seen.vmState, instance.taskState == seen.taskState,
                        instance.deletedAt == nil
                    else {
                        throw Overtaken()
                    }
                    instance.taskState = try request.admitted(to: instance, isAdmin: true)
                    change(&instance)
                    instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
                })
        } catch StoreError.conflict {
            return 0
        } catch is Overtaken, is InvalidState {
            return 0
        }
        log.notice("an instance's time is over", ["instance": seen.id, "request": request.name])
        return 1
    }

    private struct Overtaken: Error {}
}
