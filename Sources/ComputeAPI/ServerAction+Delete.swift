internal import Database
internal import HTTP
internal import Model
internal import RPC

/// Deleting for good, softly, and taking that back.
extension ServerAction {
    @Sendable static func forceDelete(_ action: ServerActionCall) async throws -> HTTPResponse {
        try action.requireNoArgument()
        try await deleteServer(action.server, .forceDelete, action.call, action.parts)
        return HTTPResponse(202)
    }

    @Sendable static func restore(_ action: ServerActionCall) async throws -> HTTPResponse {
        try action.requireNoArgument()
        let limits = try await action.parts.limits(of: action.server.projectID, action.server.userID)
        _ = try await changeServer(
            action.server, .restore, action.call, action.parts, kind: TaskKind.guest,
            admit: { instance, usage in
                // What is deleted softly takes no quota, so its place may be gone.
                try QuotaCheck(limits: limits, usage: usage, flavor: instance.flavor).require(1)
            },
            change: { instance in
                // Only what has a guest somewhere is deleted softly.
                guard instance.host != nil else { throw APIError.conflict("Instance \(instance.id) is not ready") }
            },
            state: { GuestTaskState(instance: $0.id, command: .restore) })
        return HTTPResponse(202)
    }
}

/// `DELETE /servers/{id}`: softly where the cloud keeps deleted servers for a while and there is something to keep.
///
/// A guest between two hosts is deleted for good: neither of them has it to keep.
func deleteServer(_ server: Instance, _ call: ComputeCall, _ parts: ComputeParts) async throws {
    guard parts.settings.reclaimInterval > .zero, server.launchedAt != nil, server.host != nil,
        server.vmState != .shelvedOffloaded, server.taskState != .deleting, !server.isBetweenHosts
    else { return try await deleteServer(server, .delete, call, parts) }
    // A second delete asks for what has been done already.
    if server.vmState == .softDeleted || server.taskState == .softDeleting {
        return try requireUnlocked(server, call)
    }
    do {
        _ = try await changeServer(
            server, .softDelete, call, parts, kind: TaskKind.guest,
            change: { instance in
                guard !instance.isBetweenHosts else { throw LeftMeanwhile() }
                instance.rememberVMState()
            },
            state: { GuestTaskState(instance: $0.id, command: .softDelete) })
    } catch is LeftMeanwhile {
        try await deleteServer(server, .delete, call, parts)
    }
}

/// The guest has left its host since the request looked at it.
private struct LeftMeanwhile: Error {}

extension Instance {
    /// Whether a move is where its host may not have the guest any more, or was left there.
    fileprivate var isBetweenHosts: Bool {
        guard move != nil else { return false }
        switch taskState {
        case .resizeMigrating, .resizeMigrated, .resizeFinish, .resizeReverting, .migrating: return true
        default: return vmState == .error
        }
    }
}

private func requireUnlocked(_ server: Instance, _ call: ComputeCall) throws(APIError) {
    guard server.lock != nil, !call.caller.isAdmin else { return }
    throw .conflict(InvalidState(request: InstanceRequest.softDelete.name, .locked).message(for: server.id))
}

private func deleteServer(
    _ server: Instance, _ request: InstanceRequest, _ call: ComputeCall, _ parts: ComputeParts
) async throws {
    _ = try await changeServer(server, request, call, parts, kind: TaskKind.delete) {
        DeleteTaskState(instance: $0.id)
    }
}
