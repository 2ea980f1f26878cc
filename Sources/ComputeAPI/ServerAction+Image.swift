internal import Crypto
internal import Database
internal import HTTP
internal import Images
internal import Model
internal import RPC

/// Images made of servers: `createImage` and `createBackup`.
extension ServerAction {
    @Sendable static func createImage(_ action: ServerActionCall) async throws -> HTTPResponse {
        var fields = try action.fields()
        let name = try fields.requiredName("name")
        let metadata = try fields.texts("metadata") ?? [:]
        try fields.finish()
        try await action.parts.serverLimits(of: action.server).require(.metadataItems, metadata.count)
        let image = try await ServerImage(action, name: name, metadata: metadata, kind: .snapshot)
        let (order, record) = (image.order, image.record)
        _ = try await changeServer(
            action.server, .createImage, action.call, action.parts, kind: TaskKind.snapshot, images: [record],
            state: { GuestTaskState(instance: $0.id, command: .snapshot(order)) })
        return answer(record.id, action.call)
    }

    @Sendable static func createBackup(_ action: ServerActionCall) async throws -> HTTPResponse {
        var fields = try action.fields()
        let name = try fields.requiredName("name")
        let rotation = BackupRotation(
            type: try fields.requiredText("backup_type", length: 0...255),
            keep: try fields.requiredInteger("rotation", 0...Int(Int32.max)))
        let metadata = try fields.texts("metadata") ?? [:]
        try fields.finish()
        try await action.parts.serverLimits(of: action.server).require(.metadataItems, metadata.count)
        guard rotation.keep > 0 else {
            // None of the kind stays, so none is made.
            _ = try await changeServer(
                action.server, .createBackup, action.call, action.parts, kind: TaskKind.rotateBackups,
                state: { RotationTaskState(instance: $0.id, rotation: rotation) })
            return HTTPResponse(202)
        }
        let image = try await ServerImage(action, name: name, metadata: metadata, kind: .backup(rotation.type))
        let (order, record) = (image.order, image.record)
        _ = try await changeServer(
            action.server, .createBackup, action.call, action.parts, kind: TaskKind.backup, images: [record],
            state: { GuestTaskState(instance: $0.id, command: .snapshot(order), rotation: rotation) })
        return answer(record.id, action.call)
    }

    private static func answer(_ image: ImageID, _ call: ComputeCall) -> HTTPResponse {
        if call.isAtLeast(45) {
            var response = jsonAnswer { $0.member("image_id", image.rawValue) }
            response.status = 202
            return response
        }
        var root = call.base[...]
        if root.hasSuffix("/compute") { root = root.dropLast("/compute".count) }
        var response = HTTPResponse(202)
        response.headers["Location"] = "\(root)/image/v2/images/\(image)"
        return response
    }
}

/// An image that is to be made of a server: its record, without bytes, and what the host is to do.
struct ServerImage: Sendable {
    enum Kind: Sendable, Hashable {
        case snapshot
        case backup(String)
    }

    /// What says whose bytes an image has, or signs or encrypts them, says nothing of another's.
    private static let neverInherited: Set<String> = [
        "image_type", "backup_type", "base_image_ref", "instance_uuid", "user_id", "owner_id",
        "cinder_encryption_key_id", "cinder_encryption_key_deletion_policy", "img_signature",
        "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid",
        "owner_specified.openstack.md5", "owner_specified.openstack.sha256", "owner_specified.openstack.object",
    ]

    let record: ImageRecord
    let order: SnapshotOrder

    /// - Parameter metadata: what the user wants on the image; it does not take the place of what says whose copy it is.
    init(_ action: ServerActionCall, name: String, metadata: [String: String], kind: Kind) async throws {
        let (server, call, settings) = (action.server, action.call, action.parts.settings)
        let base = try await action.parts.images.find(server.imageID)
        let inherited = server.imageProperties ?? base?.properties ?? [:]
        var properties = inherited.filter {
            !Self.neverInherited.contains($0.key) && !settings.nonInheritableProperties.contains($0.key)
        }
        properties.merge(metadata) { $1 }
        properties["instance_uuid"] = server.id.rawValue
        properties["base_image_ref"] = server.imageID.rawValue
        properties["user_id"] = call.caller.userID.rawValue
        properties["owner_id"] = server.projectID.rawValue
        switch kind {
        case .snapshot: properties["image_type"] = "snapshot"
        case .backup(let type):
            properties["image_type"] = "backup"
            properties["backup_type"] = type
        }
        record = ImageRecord(
            id: ImageID(makeUUID()), name: name, visibility: .private, owner: server.projectID,
            diskFormat: settings.snapshotFormat, containerFormat: "bare",
            // The copy has the size that the disk has grown to.
            minDiskGiB: max(base?.minDiskGiB ?? 0, server.flavor.rootGiB), minMemoryMiB: base?.minMemoryMiB ?? 0,
            properties: properties, createdAt: action.parts.now())
        order = SnapshotOrder(
            image: record.id, format: settings.snapshotFormat, quiesce: Self.quiesce(inherited))
    }

    private static func quiesce(_ properties: [String: String]) -> SnapshotOrder.Quiesce {
        if parseFlag(properties["os_require_quiesce"] ?? "") == true { return .required }
        return parseFlag(properties["hw_qemu_guest_agent"] ?? "") == true ? .ifPossible : .no
    }
}
