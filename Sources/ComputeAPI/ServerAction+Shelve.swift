internal import Database
internal import HTTP
internal import Model
internal import RPC

/// Shelving: the disk becomes an image, the guest leaves its host, and comes back later wherever there is room.
extension ServerAction {
    @Sendable static func shelve(_ action: ServerActionCall) async throws -> HTTPResponse {
        try action.requireNoArgument()
        let (server, call, parts) = (action.server, action.call, action.parts)
        try requireAdmitted(.shelve, to: server, call)
        try await action.requireNoVirtualTPM(.shelve)
        let image = try await ServerImage(action, name: "\(server.name)-shelved", metadata: [:], kind: .snapshot)
        let (order, record) = (image.order, image.record)
        _ = try await changeServer(
            server, .shelve, call, parts, kind: TaskKind.guest, images: [record],
            change: { $0.rememberVMState() },
            state: { GuestTaskState(instance: $0.id, command: .shelve(order)) })
        return HTTPResponse(202)
    }

    @Sendable static func shelveOffload(_ action: ServerActionCall) async throws -> HTTPResponse {
        try action.requireNoArgument()
        _ = try await changeServer(
            action.server, .shelveOffload, action.call, action.parts, kind: TaskKind.offload,
            change: { try requireShelvedImage($0) }, state: { OffloadTaskState(instance: $0.id) })
        return HTTPResponse(202)
    }

    /// In place where the guest is still on its host; else a build from the image. Its quota was never given back.
    @Sendable static func unshelve(_ action: ServerActionCall) async throws -> HTTPResponse {
        let (server, call, parts) = (action.server, action.call, action.parts)
        let place = try UnshelvePlace(action)
        try requireAdmitted(.unshelve, to: server, call)
        try await place.requireKnown(server, call, parts)
        guard server.vmState == .shelvedOffloaded else {
            guard server.host != nil else { throw APIError.conflict("Instance \(server.id) is not ready") }
            _ = try await changeServer(
                server, .unshelve, call, parts, kind: TaskKind.guest, change: { try requireStill(.shelved, $0) },
                state: { GuestTaskState(instance: $0.id, command: .start, spentImage: $0.shelved?.imageID) })
            return HTTPResponse(202)
        }
        _ = try await changeServer(
            server, .unshelve, call, parts, kind: TaskKind.unshelve,
            change: { instance in
                try requireStill(.shelvedOffloaded, instance)
                try requireShelvedImage(instance)
                place.apply(to: &instance)
            },
            state: { instance in
                // Only the id is known here: the conductor reads the rest when it begins.
                let id = instance.shelved?.imageID ?? instance.imageID
                let image = ImageReference(id: id, format: .qcow2, sizeBytes: 0, virtualSizeBytes: 0, sha512: "")
                return BuildTaskState(instance: instance.id, image: image, adminPassword: nil, shelvedImage: id)
            })
        return HTTPResponse(202)
    }
}

private func requireShelvedImage(_ instance: Instance) throws(APIError) {
    guard instance.shelved != nil else {
        throw .conflict("Instance \(instance.id) has no image that it could come back from.")
    }
}

/// Throws 409 when the server has been offloaded, or brought back, since the request looked at it.
private func requireStill(_ state: VMState, _ instance: Instance) throws(APIError) {
    guard instance.vmState == state else {
        throw .conflict(
            InvalidState(request: InstanceRequest.unshelve.name, .vmState(instance.vmState)).message(for: instance.id))
    }
}
