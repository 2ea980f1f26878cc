internal import Database
internal import GuestHardware
internal import HTTP
internal import Images
internal import Model
internal import RPC

/// Rescue, rebuild, and the password of a running guest: what writes the guest's disks or reaches inside it.
extension ServerAction {
    @Sendable static func rescue(_ action: ServerActionCall) async throws -> HTTPResponse {
        var wantedImage: String?
        var wantedPassword: String?
        if !action.argument.isNull {
            var fields = try action.fields()
            wantedPassword = try fields.text("adminPass")
            wantedImage = try fields.text("rescue_image_ref", length: 1...1_024)
            try fields.finish()
        }
        if let wantedImage, !isUUID(wantedImage) {
            throw APIError.badRequest("Invalid input for field/attribute rescue_image_ref: an image's id is wanted.")
        }
        try requireAdmitted(.rescue, to: action.server, action.call)
        try await action.requireNoVirtualTPM(.rescue)
        let image = try await rescueImage(wantedImage?.lowercased(), action)
        let password = wantedPassword ?? makePassword()
        _ = try await action.command(
            .rescue, .rescue(GuestMaterial(image: image, adminPassword: password)), change: { $0.rememberVMState() })
        return jsonAnswer { writer in
            if action.parts.settings.isPasswordShown { writer.member("adminPass", password) }
        }
    }

    /// The image that is named, else the operator's, whoever may see that, else the server's own.
    private static func rescueImage(_ wanted: String?, _ action: ServerActionCall) async throws -> ImageReference {
        let (call, parts) = (action.call, action.parts)
        let image: ImageReference
        if wanted == nil, let common = parts.settings.rescueImage {
            guard let found = try await parts.images.find(common)?.reference else {
                throw APIError.conflict("The cloud's rescue image \(common) has no bytes; name another one.")
            }
            image = found
        } else {
            image = try await usableImage(wanted ?? action.server.imageID.rawValue, call, parts)
        }
        do throws(HardwareError) {
            _ = try RescueHardware(imageProperties: image.properties)
        } catch {
            throw APIError.badRequest("Image \(image.id) cannot rescue a server: \(error)")
        }
        return image
    }

    @Sendable static func rebuild(_ action: ServerActionCall) async throws -> HTTPResponse {
        let (call, parts) = (action.call, action.parts)
        let request = try RebuildRequest(action)
        try requireAdmitted(.rebuild, to: action.server, call)
        try await action.requireNoVirtualTPM(.rebuild)
        try requireAdmitted(.rebuild, to: action.server, call)
        let image = try await bootImage(request.image, for: action.server.flavor, call, parts)
        let limits = try await parts.serverLimits(of: action.server)
        try limits.require(.metadataItems, request.metadata?.count ?? 0)
        try Personality.require(request.files, limits)
        let key = try await publicKey(named: request.keyName ?? nil, of: action.server.userID, parts)
        let password = request.adminPassword ?? makePassword()
        let material = GuestMaterial(image: image, adminPassword: password, files: request.files)
        let former = FormerImage(id: action.server.imageID, properties: action.server.imageProperties)
        let (changed, _) = try await changeServer(
            action.server, .rebuild, call, parts, kind: TaskKind.rebuild,
            change: { request.apply(to: &$0, image: image, publicKey: key) },
            state: { GuestTaskState(instance: $0.id, command: .rebuild(material), formerImage: former) })
        var view = try await ServerView(call, parts: parts)
        let group = try await ServerGroupMember(changed, call, parts)
        var answer = jsonAnswer(capacity: 2_048) { writer in
            writer.key("server")
            view.write(
                changed, .afterRebuild(adminPassword: parts.settings.isPasswordShown ? password : nil), group: group,
                to: &writer)
        }
        answer.status = 202
        answer.headers["Location"] = "\(call.base)/v2.1/servers/\(changed.id)"
        return answer
    }

    /// The guest agent's answer is waited for, so that the caller learns of a guest that has none.
    @Sendable static func changePassword(_ action: ServerActionCall) async throws -> HTTPResponse {
        var fields = try action.fields()
        let password = try fields.requiredText("adminPass", length: 0...255)
        try fields.finish()
        let (changed, task) = try await changeServer(
            action.server, .changePassword, action.call, action.parts, kind: TaskKind.guest,
            state: { GuestTaskState(instance: $0.id, command: .setPassword(password)) })
        switch try await TaskWait(action.parts).end(of: task) {
        case .failed(let failure) where failure.kind == .timeout:
            throw APIError(501, "The guest agent of instance \(changed.id) does not answer.")
        case .failed(let failure):
            throw APIError.conflict(
                "Failed to set admin password on \(changed.id) because error setting admin password: "
                    + failure.message)
        case .succeeded, .underWay: return HTTPResponse(202)
        }
    }
}

/// The body of `rebuild`.
struct RebuildRequest: Sendable {
    let image: String
    let name: String?
    let adminPassword: String?
    let metadata: [String: String]?
    let files: [InjectedFile]
    // Of these the outer optional says whether the member was there.
    let description: String??
    let keyName: String??
    let userData: String??
    let accessIPv4: String??
    let accessIPv6: String??
    let hostname: String?

    init(_ action: ServerActionCall) throws(APIError) {
        let call = action.call
        var fields = try action.fields()
        let reference = try fields.reference("imageRef")
        guard isUUID(reference) else { throw .badRequest("Invalid imageRef provided.") }
        image = reference.lowercased()
        name = try fields.name("name")
        adminPassword = try fields.text("adminPass")
        metadata = try fields.texts("metadata")
        accessIPv4 = try fields.nullableText("accessIPv4", length: 0...15)
        accessIPv6 = try fields.nullableText("accessIPv6", length: 0...45)
        try checkAddresses(accessIPv4 ?? nil, accessIPv6 ?? nil)
        if try fields.flag("preserve_ephemeral") == true {
            throw .badRequest("preserve_ephemeral is not available: a rebuild makes all of the server's disks afresh.")
        }
        _ = try fields.choice("OS-DCF:diskConfig", ["AUTO", "MANUAL"])
        description = call.isAtLeast(19) ? try fields.nullableText("description") : nil
        keyName = call.isAtLeast(54) ? try fields.nullableText("key_name", length: 1...255) : nil
        userData = call.isAtLeast(57) ? try ServerRequest.userData(&fields) : nil
        files = try Personality.read(&fields, call)
        hostname = try ServerRequest.hostname(&fields, call)
        try ServerRequest.refuseCertificates(&fields, call)
        try fields.finish()
    }

    func apply(to instance: inout Instance, image: ImageReference, publicKey: String?) {
        instance.imageID = image.id
        instance.imageProperties = image.properties
        instance.progress = 0
        if let name { instance.name = name }
        if let metadata { instance.metadata = metadata }
        if let description { instance.description = description }
        if let hostname { instance.hostname = hostname }
        if let keyName { (instance.keyName, instance.publicKey) = (keyName, publicKey) }
        if let userData { instance.userData = userData }
        if let accessIPv4 { instance.accessIPv4 = accessIPv4.flatMap { $0.isEmpty ? nil : $0 } }
        if let accessIPv6 { instance.accessIPv6 = accessIPv6.flatMap { $0.isEmpty ? nil : $0 } }
    }
}
