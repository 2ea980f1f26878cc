internal import Database
internal import HTTP
internal import Model
internal import Tasks

/// Accepts `request` for the server: state, generation, action and task in one transaction, then wakes the conductor.
///
/// The table of the model decides inside the transaction, on the row as it is then, so that of two requests at the same
/// time one sees what the other did. Throws 409 when the state does not admit the request.
func changeServer<State: Codable & Sendable>(
    _ server: Instance, _ request: InstanceRequest, _ call: ComputeCall, _ parts: ComputeParts, kind: String,
    state: @escaping @Sendable () -> State
) async throws -> Instance {
    let now = parts.now()
    let action = InstanceAction(
        instance: server.id, requestID: call.requestID, kind: request.action, userID: call.caller.userID,
        projectID: call.caller.projectID, startedAt: now)
    let changed = try await parts.database.instances.update(
        server.id, now: now, action: action,
        makeTasks: { instance in
            [
                try TaskEngine.makeRow(
                    kind: kind, instance: instance.id, requestID: call.requestID,
                    generation: instance.fence.generation, state: state(), now: now)
            ]
        },
        change: { instance in
            guard instance.deletedAt == nil else { throw APIError.server(instance.id.rawValue) }
            if request != .delete, instance.host == nil {
                throw APIError.conflict("Instance \(instance.id) is not ready")
            }
            do throws(InvalidState) {
                instance.taskState = try request.admitted(vmState: instance.vmState, taskState: instance.taskState)
            } catch {
                throw APIError.conflict(error.message(for: instance.id))
            }
            instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
        })
    parts.conductor.wake()
    return changed
}
