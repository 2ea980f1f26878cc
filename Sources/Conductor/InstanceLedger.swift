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
    /// finds the host in the record or makes this fail.
    func assign(_ id: InstanceID, to host: HostName, _ context: StepContext) async throws -> Instance {
        try await update(id, context) { instance in
            instance.host = host
            instance.fence = context.row.fence
            instance.vmState = .building
        }
    }

    func finishBuild(_ report: ReportOperation.Params, _ context: StepContext) async throws {
        _ = try await update(
            report.header.instance, context,
            finishing: end(context, report, event: "compute__do_build_and_run_instance")
        ) { instance in
            instance.vmState = .active
            instance.taskState = nil
            instance.powerState = report.powerState
            instance.interfaces = report.interfaces ?? instance.interfaces
            instance.launchedAt = report.launchedAt ?? report.endedAt
            instance.progress = 100
            instance.fault = nil
        }
    }

    func finishPower(
        _ change: ChangePower.Change, _ report: ReportOperation.Params, _ context: StepContext
    ) async throws {
        let event: String
        switch change {
        case .start: event = "compute_start_instance"
        case .stop: event = "compute_stop_instance"
        case .softReboot, .hardReboot: event = "compute_reboot_instance"
        }
        _ = try await update(report.header.instance, context, finishing: end(context, report, event: event)) {
            instance in
            instance.vmState = change == .stop ? .stopped : .active
            instance.taskState = nil
            instance.powerState = report.powerState
            instance.interfaces = report.interfaces ?? instance.interfaces
            instance.fault = nil
        }
    }

    /// Closes the record. The host's name stays, so that what is still to be removed there can be found.
    func finishDelete(_ id: InstanceID, _ context: StepContext) async throws {
        let now = context.now()
        let event = InstanceEvent(
            name: "compute_terminate_instance", host: nil, startedAt: context.row.createdAt, finishedAt: now,
            result: "Success", details: nil)
        _ = try await update(
            id, context, finishing: ActionEnd(requestID: context.row.requestID, at: now, failed: false, event: event)
        ) { instance in
            guard instance.deletedAt == nil else { return }
            instance.vmState = .deleted
            instance.taskState = nil
            instance.powerState = .noState
            instance.terminatedAt = now
            instance.deletedAt = now
        }
    }

    /// The task ends without success: the instance keeps `vmState`, or goes to ERROR where that is `nil`, with a fault
    /// that says why; nothing is under way any more.
    func fail(_ id: InstanceID, _ failure: Failure, keeping: Bool, _ row: TaskRow, now: Timestamp) async throws {
        let event = InstanceEvent(
            name: "conductor_\(row.kind)_instance", host: nil, startedAt: row.createdAt, finishedAt: now,
            result: "Error", details: failure.message)
        do {
            _ = try await instances.update(
                id, generation: row.generation, now: now,
                finishing: ActionEnd(requestID: row.requestID, at: now, failed: true, event: event)
            ) { instance in
                guard instance.deletedAt == nil else { return }
                if !keeping { instance.vmState = .error }
                instance.taskState = nil
                instance.fault = InstanceFault(code: 500, message: failure.message, createdAt: now)
            }
        } catch let error as StoreError {
            // Overtaken or gone: the newer action's task writes the record. This one's action still ends.
            log.info("a task ended after a newer request", ["instance": id, "task": row.id, "error": "\(error)"])
            _ = try await instances.update(
                id, now: now,
                finishing: ActionEnd(requestID: row.requestID, at: now, failed: true, event: event)
            ) { _ in }
        }
    }

    private func update(
        _ id: InstanceID, _ context: StepContext, finishing: ActionEnd? = nil,
        change: @escaping @Sendable (inout Instance) -> Void
    ) async throws -> Instance {
        do {
            return try await instances.update(
                id, generation: context.row.generation, now: context.now(), finishing: finishing, change: change)
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
