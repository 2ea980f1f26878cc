internal import Database
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// What tasks write into instance records. Every change names the generation that the task belongs to: a task whose
/// user action has been overtaken by a newer one changes nothing and ends as cancelled.
struct InstanceLedger: Sendable {
    let instances: InstanceStore
    private let log = Logger("conductor")

    init(instances: InstanceStore) { self.instances = instances }

    func find(_ id: InstanceID) async throws -> Instance? { try await instances.find(id, includeDeleted: true) }

    /// The instance, if the task's action is still the newest one.
    func current(_ id: InstanceID, _ context: StepContext) async throws -> Instance {
        guard let instance = try await instances.find(id) else {
            throw Failure(.cancelled, "instance \(id) has been deleted")
        }
        guard instance.fence.generation == context.row.generation else {
            throw Failure(.cancelled, "a newer request for instance \(id) has been accepted")
        }
        return instance
    }

    /// Names the host that is about to get the instance, before that host hears of it: a delete that comes now either
    /// finds the host in the record or makes this fail. Throws `StoreError.groupPolicy` where its server group forbids the
    /// host: of two members that are built at once the second sees the first.
    func assign(_ id: InstanceID, to host: HostName, _ context: StepContext) async throws -> Instance {
        try await update(id, context, placing: host) { instance in
            if instance.host != host { instance.postponedReport = nil }
            instance.host = host
            instance.fence = context.row.fence
            // What is unshelved stays shelved until it runs.
            if instance.shelved == nil { instance.vmState = .building }
        }
    }

    func finishBuild(_ report: ReportOperation.Params, _ context: StepContext) async throws {
        let event =
            context.row.kind == TaskKind.unshelve
            ? "compute_unshelve_instance" : "compute__do_build_and_run_instance"
        _ = try await update(
            report.header.instance, context, finishing: end(context, report, event: event)
        ) { instance in
            (instance.shelved, instance.previousVMState) = (nil, nil)
            instance.hostFence = report.header.fence
            instance.vmState = .active
            instance.powerState = report.powerState
            instance.interfaces = report.interfaces ?? instance.interfaces
            instance.launchedAt = report.launchedAt ?? report.endedAt
            instance.progress = 100
            instance.fault = nil
            instance.forgetPostponed(before: report.observation)
            instance.settle()
        }
    }

    /// Writes what the host says of the instance after a command. A failed one leaves the task state to `fail`; `next` is
    /// under way after one that succeeded.
    func finishCommand(
        _ command: GuestCommand, _ report: ReportOperation.Params, followedBy next: TaskState? = nil,
        _ context: StepContext
    ) async throws {
        let event = context.row.kind == TaskKind.backup ? "compute_backup_instance" : command.eventName
        let finishing = report.failure == nil ? end(context, report, event: event) : nil
        _ = try await update(report.header.instance, context, finishing: finishing) { instance in
            if case .shelve(let order?) = command, instance.shelved?.imageID == order.image {
                // Written before, by this step ahead of a crash; what follows may have come further since.
                return
            }
            if let vmState = report.vmState { instance.vmState = vmState }
            // What was deleted softly before a move was decided is still to be decided.
            if case .restore = command, instance.vmState == .active, instance.move?.finishedAt != nil {
                instance.vmState = .resized
            }
            instance.powerState = report.powerState
            instance.interfaces = report.interfaces ?? instance.interfaces
            instance.hostFence = report.header.fence
            instance.forgetPostponed(before: report.observation)
            guard report.failure == nil else { return }
            instance.fault = nil
            if case .snapshot = command { instance.progress = 100 }
            instance.record(command, report)
            if let next { instance.taskState = next } else { instance.settle() }
        }
    }

    /// Writes what a host says of a command whose task has ended, or is ending, without it: the task stays as it is, the
    /// instance is what the host has. Once for each command. A build that was not waited for is removed from its host,
    /// so what it came to does not count.
    func takeLate(_ report: ReportOperation.Params, _ row: TaskRow, now: Timestamp) async throws {
        guard TaskKind.onHost.contains(row.kind) else { return }
        let command = try TaskEngine.state(GuestTaskState.self, of: row).command
        // The usual case: the task has written it itself.
        let known = try await find(report.header.instance)?.hostFence
        guard known.map({ $0.generation < report.header.fence.generation }) ?? true else { return }
        do {
            _ = try await instances.update(report.header.instance, now: now) { instance in
                let fence = report.header.fence
                let isWritten = instance.hostFence.map { $0.generation >= fence.generation } ?? false
                guard instance.host == report.host, instance.deletedAt == nil, !isWritten,
                    instance.believes(fence)
                else { return }
                instance.hostFence = fence
                instance.launchedAt = report.launchedAt ?? instance.launchedAt
                if report.failure == nil, fence.generation == instance.fence.generation {
                    // The image of a shelving that failed has been removed.
                    if case .shelve = command {} else { instance.record(command, report) }
                }
                instance.take(report.observation)
            }
            log.notice(
                "a host reported a command's end after its task had ended",
                ["instance": report.header.instance, "task": row.id, "host": report.host])
        } catch StoreError.notFound {
            // Deleted since, with all that could be written.
        }
    }

    /// Writes down that a shelved instance is on no host any more.
    func finishOffload(_ id: InstanceID, host: HostName, _ context: StepContext) async throws {
        let now = context.now()
        let event = InstanceEvent(
            name: "compute_shelve_offload_instance", host: host, startedAt: context.row.createdAt, finishedAt: now,
            result: "Success", details: nil)
        _ = try await update(
            id, context, finishing: ActionEnd(requestID: context.row.requestID, at: now, failed: false, event: event)
        ) { instance in
            instance.vmState = .shelvedOffloaded
            (instance.taskState, instance.postponedReport) = (nil, nil)
            instance.powerState = .noState
            instance.host = nil
            instance.interfaces = []
            instance.fault = nil
        }
    }

    /// The task has done what it was to do, without a host.
    func finish(_ id: InstanceID, event: String, _ context: StepContext) async throws {
        let now = context.now()
        let event = InstanceEvent(
            name: event, host: nil, startedAt: context.row.createdAt, finishedAt: now, result: "Success",
            details: nil)
        _ = try await update(
            id, context, finishing: ActionEnd(requestID: context.row.requestID, at: now, failed: false, event: event)
        ) { $0.settle() }
    }

    /// Closes the record. The host's name stays, so that what is still to be removed there can be found. Where a newer
    /// request has come, that one's task closes it, and only the action ends here.
    func finishDelete(_ id: InstanceID, _ context: StepContext) async throws {
        let now = context.now()
        let event = InstanceEvent(
            name: "compute_terminate_instance", host: nil, startedAt: context.row.createdAt, finishedAt: now,
            result: "Success", details: nil)
        let generation = context.row.generation
        // A move that was not decided is decided by that: what is on the other host goes, too.
        let move = try await find(id)?.move
        _ = try await instances.update(
            id, now: now,
            finishing: ActionEnd(requestID: context.row.requestID, at: now, failed: false, event: event),
            migrations: move.map { [.status($0.migration, $0.finishedAt == nil ? .cancelled : .confirmed)] } ?? []
        ) { instance in
            guard instance.deletedAt == nil, instance.fence.generation == generation else { return }
            instance.vmState = .deleted
            (instance.taskState, instance.postponedReport) = (nil, nil)
            instance.powerState = .noState
            instance.terminatedAt = now
            instance.deletedAt = now
        }
    }

    /// Names the image again that the guest's disk is made from, when a rebuild has failed without touching the disk: a
    /// host that had begun with it says that the instance is in ERROR.
    ///
    /// - Parameter isUntouched: whether it is certain that no host has heard of the rebuild: one of an instance that was in
    ///   ERROR before says nothing by that state.
    func restore(
        _ image: FormerImage, of id: InstanceID, isUntouched: Bool, _ row: TaskRow, now: Timestamp
    ) async throws {
        do {
            _ = try await instances.update(id, generation: row.generation, now: now) { instance in
                guard instance.deletedAt == nil, isUntouched || instance.vmState != .error else { return }
                (instance.imageID, instance.imageProperties) = (image.id, image.properties)
            }
        } catch let error as StoreError {
            // Whoever has overtaken this task decides what the instance is made from.
            log.info("a rebuild ended after a newer request", ["instance": id, "task": row.id, "error": "\(error)"])
        }
    }

    /// The task ends without success: the instance keeps its state, or goes to ERROR, with a fault that says why; nothing
    /// is under way any more. With `leavingHost` it is on none afterwards; without `hasFault` it ended as was asked.
    func fail(
        _ id: InstanceID, _ failure: Failure, keeping: Bool, leavingHost: Bool = false, hasFault: Bool = true,
        _ row: TaskRow, now: Timestamp, migrations: [MigrationWrite] = [],
        change: @escaping @Sendable (inout Instance) -> Void = { _ in }
    ) async throws {
        let event = InstanceEvent(
            name: "conductor_\(row.kind)_instance", host: nil, startedAt: row.createdAt, finishedAt: now,
            result: "Error", details: failure.message)
        do {
            _ = try await instances.update(
                id, generation: row.generation, now: now,
                finishing: ActionEnd(
                    requestID: row.requestID, at: now, failed: true, event: event,
                    isWithoutHost: failure.kind == .noValidHost), migrations: migrations
            ) { instance in
                guard instance.deletedAt == nil else { return }
                change(&instance)
                if keeping {
                    instance.progress = 100
                } else {
                    instance.vmState = .error
                    instance.postponedReport?.vmState = nil
                }
                if leavingHost { (instance.host, instance.postponedReport) = (nil, nil) }
                instance.settle()
                guard hasFault else { return }
                instance.fault = InstanceFault(
                    code: 500, message: failure.message, details: failure.details, createdAt: now)
            }
        } catch let error as StoreError {
            // Overtaken or gone: the newer action's task writes the record. This one's action still ends.
            log.info("a task ended after a newer request", ["instance": id, "task": row.id, "error": "\(error)"])
            _ = try await instances.update(
                id, now: now,
                finishing: ActionEnd(requestID: row.requestID, at: now, failed: true, event: event),
                migrations: migrations
            ) { _ in }
        }
    }

    private func update(
        _ id: InstanceID, _ context: StepContext, finishing: ActionEnd? = nil, placing: HostName? = nil,
        change: @escaping @Sendable (inout Instance) -> Void
    ) async throws -> Instance {
        do {
            return try await instances.update(
                id, generation: context.row.generation, now: context.now(), finishing: finishing, placing: placing,
                change: change)
        } catch StoreError.conflict {
            throw Failure(.cancelled, "a newer request for instance \(id) has been accepted")
        }
    }

    private func end(_ context: StepContext, _ report: ReportOperation.Params, event: String) -> ActionEnd {
        ActionEnd(
            requestID: context.row.requestID, at: context.now(), failed: false,
            event: InstanceEvent(
                name: event, host: report.host, startedAt: context.row.createdAt, finishedAt: report.endedAt,
                result: "Success", details: nil))
    }
}

extension Instance {
    /// What a command that succeeded leaves in the record beside what the host reports.
    fileprivate mutating func record(_ command: GuestCommand, _ report: ReportOperation.Params) {
        switch command {
        case .resume: previousVMState = nil
        case .rescue: rescuedAt = report.endedAt
        case .unrescue: (previousVMState, rescuedAt) = (nil, nil)
        case .start: (previousVMState, shelved) = (nil, nil)
        case .restore: (previousVMState, softDeletedAt) = (nil, nil)
        case .softDelete: softDeletedAt = report.endedAt
        case .shelve(let order?):
            shelved = ShelvedRecord(imageID: order.image, host: report.host, at: report.endedAt)
        case .rebuild(let material):
            progress = 100
            (imageID, imageProperties) = (material.image.id, material.image.properties)
        default: break
        }
    }
}

extension GuestCommand {
    /// Nova's name of the event under the action.
    fileprivate var eventName: String {
        switch self {
        case .start: "compute_start_instance"
        case .stop: "compute_stop_instance"
        case .softReboot, .hardReboot: "compute_reboot_instance"
        case .pause: "compute_pause_instance"
        case .unpause: "compute_unpause_instance"
        case .suspend: "compute_suspend_instance"
        case .resume: "compute_resume_instance"
        case .rescue: "compute_rescue_instance"
        case .unrescue: "compute_unrescue_instance"
        case .rebuild: "compute_rebuild_instance"
        case .snapshot: "compute_snapshot_instance"
        case .shelve: "compute_shelve_instance"
        case .softDelete: "compute_soft_delete_instance"
        case .restore: "compute_restore_instance"
        case .setPassword: "compute_set_admin_password"
        case .attachInterface: "compute_attach_interface"
        case .detachInterface: "compute_detach_interface"
        }
    }
}
