internal import Database
internal import HTTP
internal import Images
internal import Model
internal import Tasks

/// Accepts `request` for the server: state, generation, action and task in one transaction, then wakes the conductor.
///
/// The table of the model decides inside the transaction, on the row as it is then, so that of two requests at the same
/// time one sees what the other did. Throws 409 when the state does not admit the request, or the guest's host is down
/// and the request cannot do without it. `images` are registered with it; `admit` may refuse by what the project has;
/// `change` may write more into the row; `state` gets the row as it will be.
func changeServer<State: Codable & Sendable>(
    _ server: Instance, _ request: InstanceRequest, _ call: ComputeCall, _ parts: ComputeParts, kind: String,
    images: [ImageRecord] = [], admit: (@Sendable (Instance, InstanceStore.ProjectUsage) throws -> Void)? = nil,
    migrations: [MigrationWrite] = [],
    change: @escaping @Sendable (inout Instance) throws -> Void = { _ in },
    state: @escaping @Sendable (Instance) -> State
) async throws -> (server: Instance, task: TaskID) {
    let now = parts.now()
    if TaskKind.onHost.contains(kind) {
        try requireAdmitted(request, to: server, call)
        try await requireHostUp(server, parts)
    }
    let task = TaskID(TaskEngine.makeID())
    let changed = try await parts.database.instances.update(
        server.id, now: now, action: opened(request, of: server, call, now), images: images, migrations: migrations,
        admit: admit,
        makeTasks: { instance in
            var row = try TaskEngine.makeRow(
                kind: kind, instance: instance.id, requestID: call.requestID,
                generation: instance.fence.generation, state: state(instance), now: now)
            row.id = task
            return [row]
        },
        change: { instance in
            guard instance.deletedAt == nil else { throw APIError.server(instance.id.rawValue) }
            instance.taskState = try requireAdmitted(request, to: instance, call)
            try change(&instance)
            instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
        })
    parts.conductor.wake()
    return (changed, task)
}

/// Accepts a request that is over when the record is written. The generation stays: what is under way goes on.
func changeServerAtOnce(
    _ server: Instance, _ request: InstanceRequest, event: String, _ call: ComputeCall, _ parts: ComputeParts,
    change: @escaping @Sendable (inout Instance) throws -> Void
) async throws -> Instance {
    let now = parts.now()
    return try await parts.database.instances.update(
        server.id, now: now, action: opened(request, of: server, call, now),
        finishing: ended(event, nil, call, server, since: now, now: now)
    ) { instance in
        guard instance.deletedAt == nil else { throw APIError.server(instance.id.rawValue) }
        try requireAdmitted(request, to: instance, call)
        try change(&instance)
    }
}

/// Does `work`, which changes nothing in the record, and writes action and event with what became of it.
func recordingAction(
    _ request: InstanceRequest, of server: Instance, event: String, _ call: ComputeCall, _ parts: ComputeParts,
    work: @Sendable () async throws -> Void
) async throws {
    let began = parts.now()
    let action = opened(request, of: server, call, began)
    var failure: (any Error)?
    do { try await work() } catch { failure = error }
    let now = parts.now()
    let end = ended(event, failure, call, server, since: began, now: now)
    _ = try await parts.database.instances.update(server.id, now: now, action: action, finishing: end) { _ in }
    if let failure { throw failure }
}

private func opened(
    _ request: InstanceRequest, of server: Instance, _ call: ComputeCall, _ now: Timestamp
) -> InstanceAction? {
    request.action.map {
        InstanceAction(
            instance: server.id, requestID: call.requestID, kind: $0, userID: call.caller.userID,
            projectID: call.caller.projectID, startedAt: now)
    }
}

private func ended(
    _ event: String, _ failure: (any Error)?, _ call: ComputeCall, _ server: Instance, since began: Timestamp,
    now: Timestamp
) -> ActionEnd {
    let details = failure.map { ($0 as? Failure)?.message ?? String(describing: $0) }
    return ActionEnd(
        requestID: call.requestID, at: now, failed: failure != nil,
        event: InstanceEvent(
            name: event, host: server.host, startedAt: began, finishedAt: now,
            result: failure == nil ? "Success" : "Error", details: details))
}

/// Throws 409 when the server's host is known to be down: what needs the guest could only fail later.
func requireHostUp(_ server: Instance, _ parts: ComputeParts) async throws {
    guard let host = server.host,
        let service = try await parts.database.services.find(host: host, binary: "nova-compute"),
        !service.isUp(now: parts.now(), downAfter: parts.settings.serviceDownTime)
    else { return }
    throw APIError.conflict("The host of instance \(server.id) is down; try again when it is back.")
}

/// The table's answer for the instance and the caller: the task state to set. Throws 409 when it is refused.
@discardableResult
func requireAdmitted(
    _ request: InstanceRequest, to instance: Instance, _ call: ComputeCall
) throws(APIError) -> TaskState? {
    do {
        return try request.admitted(to: instance, isAdmin: call.caller.isAdmin)
    } catch {
        throw .conflict(error.message(for: instance.id))
    }
}
