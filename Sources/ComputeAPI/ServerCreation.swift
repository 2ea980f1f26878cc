internal import Crypto
internal import Database
internal import HTTP
internal import Images
internal import Model
internal import Tasks
internal import Telemetry

/// Makes servers: everything that was asked for is looked up and checked, then instances, actions and tasks are inserted
/// in one transaction, and the conductor is woken.
func createServers(_ call: ComputeCall, _ parts: ComputeParts) async throws -> HTTPResponse {
    let request = try ServerRequest(call)
    let creation = ServerCreation(request: request, call: call, parts: parts)
    let made = try await creation.run()
    parts.conductor.wake()
    guard !request.wantsReservation else {
        return answer(202, jsonAnswer { $0.member("reservation_id", made.reservationID) })
    }
    let body = jsonAnswer { writer in
        writer.object("server") { writer in
            writer.member("id", made.first.id.rawValue)
            call.writeLinks("servers/\(made.first.id)", to: &writer)
            writer.member("OS-DCF:diskConfig", "MANUAL")
            if parts.settings.isPasswordShown { writer.member("adminPass", made.password) }
        }
    }
    return answer(202, body, location: "\(call.base)/v2.1/servers/\(made.first.id)")
}

private func answer(_ status: Int, _ body: HTTPResponse, location: String? = nil) -> HTTPResponse {
    var answer = body
    answer.status = status
    answer.headers["Location"] = location
    return answer
}

private struct ServerCreation: Sendable {
    struct Made: Sendable {
        let first: Instance
        let reservationID: String
        let password: String
    }

    let request: ServerRequest
    let call: ComputeCall
    let parts: ComputeParts

    func run() async throws -> Made {
        let flavor = try await flavor()
        let image = try await image(for: flavor)
        let publicKey = try await publicKey()
        let zone = try zone()
        try checkMetadata()
        let now = parts.now()
        let count = try await count(of: flavor)
        let password = request.adminPassword ?? makePassword()
        let reservation = "r-" + makeText(8, of: "abcdefghijklmnopqrstuvwxyz0123456789")
        var instances: [Instance] = []
        for index in 0..<count {
            let id = InstanceID(makeUUID())
            let name = request.counts.upperBound == 1 ? request.name : "\(request.name)-\(index + 1)"
            var instance = Instance(
                id: id, projectID: call.caller.projectID, userID: call.caller.userID, name: name,
                hostname: hostname(forServer: name, id: id.rawValue), flavor: flavor, imageID: image.id,
                keyName: request.keyName, publicKey: publicKey, metadata: request.metadata, tags: request.tags,
                userData: request.userData, isConfigDriveRequested: request.isConfigDriveRequested,
                availabilityZone: zone, networks: request.networks, schedulerHints: request.hints,
                reservationID: reservation, launchIndex: index, createdAt: now)
            instance.description = request.description
            instance.accessIPv4 = request.accessIPv4.flatMap { $0.isEmpty ? nil : $0 }
            instance.accessIPv6 = request.accessIPv6.flatMap { $0.isEmpty ? nil : $0 }
            instances.append(instance)
        }
        let stored = try await insert(instances, image: image, password: password, now: now)
        guard let first = stored.first else { throw APIError(500, "No server was made.") }
        return Made(first: first, reservationID: reservation, password: password)
    }

    private func insert(
        _ instances: [Instance], image: ImageReference, password: String, now: Timestamp
    ) async throws -> [Instance] {
        let actions = instances.map {
            InstanceAction(
                instance: $0.id, requestID: call.requestID, kind: .create, userID: call.caller.userID,
                projectID: call.caller.projectID, startedAt: now)
        }
        let tasks = try instances.map {
            try TaskEngine.makeRow(
                kind: TaskKind.build, instance: $0.id, requestID: call.requestID, generation: $0.fence.generation,
                state: BuildTaskState(instance: $0.id, image: image, adminPassword: password), now: now)
        }
        let (quotas, flavor, count) = (parts.settings.quotas, instances.first?.flavor, instances.count)
        return try await parts.database.instances.create(instances, actions: actions, tasks: tasks) { usage in
            guard let flavor else { return }
            try QuotaCheck(quotas: quotas, usage: usage, flavor: flavor).require(count)
        }
    }

    private func flavor() async throws -> Flavor {
        guard let flavor = try await parts.database.flavors.find(FlavorID(request.flavor)),
            flavor.isPublic || call.caller.isAdmin, !flavor.isDisabled
        else { throw APIError.badRequest("Flavor \(request.flavor) could not be found.") }
        if flavor.rootGiB == 0 { try call.require("servers:create:zero_disk_flavor") }
        return flavor
    }

    private func image(for flavor: Flavor) async throws -> ImageReference {
        let id = request.image ?? ""
        guard let image = try await parts.images.find(ImageID(id)),
            image.isVisible(to: call.caller.projectID) || call.caller.isAdmin
        else { throw APIError.badRequest("Can not find requested image: \(id)") }
        guard let reference = image.reference else {
            throw APIError.badRequest("Image \(id) is not active: it is \(image.status.rawValue).")
        }
        guard image.minMemoryMiB <= flavor.memoryMiB else {
            throw APIError.badRequest(
                "Flavor's memory is too small for requested image: it has \(flavor.memoryMiB) MiB, "
                    + "the image needs \(image.minMemoryMiB) MiB.")
        }
        guard flavor.rootGiB > 0 else { return reference }
        let disk = Int64(flavor.rootGiB) << 30
        guard reference.virtualSizeBytes <= disk else {
            throw APIError.badRequest(
                "Flavor's disk is too small for requested image. Flavor disk is \(disk) bytes, "
                    + "image is \(reference.virtualSizeBytes) bytes.")
        }
        guard image.minDiskGiB <= flavor.rootGiB else {
            throw APIError.badRequest(
                "Flavor's disk is smaller than the minimum size specified in image metadata: it has "
                    + "\(flavor.rootGiB) GiB, the image needs \(image.minDiskGiB) GiB.")
        }
        return reference
    }

    private func publicKey() async throws -> String? {
        guard let name = request.keyName else { return nil }
        guard let pair = try await parts.database.keyPairs.find(name, of: call.caller.userID) else {
            throw APIError.badRequest("Invalid key_name provided.")
        }
        return pair.publicKey
    }

    /// `zone`, or `zone:host[:node]`, which only administrators may ask for.
    private func zone() throws(APIError) -> String? {
        guard let text = request.availabilityZone, !text.isEmpty else { return nil }
        let pieces = text.split(separator: ":", omittingEmptySubsequences: false)
        if pieces.count > 1 {
            try call.require("servers:create:forced_host")
            throw .notAvailable("Choosing the host of a server")
        }
        guard text == parts.settings.availabilityZone else {
            throw .badRequest("The requested availability zone is not available")
        }
        return text
    }

    private func checkMetadata() throws(APIError) {
        let limit = parts.settings.quotas.metadataItems
        guard limit < 0 || request.metadata.count <= limit else {
            throw .forbidden("Maximum number of metadata items exceeds \(limit)")
        }
    }

    /// As many as the quota admits, at least the least that was asked for.
    private func count(of flavor: Flavor) async throws -> Int {
        guard request.counts.lowerBound < request.counts.upperBound else { return request.counts.lowerBound }
        let usage = try await parts.database.instances.usage(of: call.caller.projectID)
        let check = QuotaCheck(quotas: parts.settings.quotas, usage: usage, flavor: flavor)
        return max(request.counts.lowerBound, min(request.counts.upperBound, check.headroom))
    }

    /// Letters and digits that are not taken for one another.
    private func makePassword() -> String {
        makeText(12, of: "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789")
    }

    private func makeText(_ length: Int, of alphabet: String) -> String {
        let letters = Array(alphabet.utf8)
        // Values beyond the last whole multiple of the alphabet would make its first letters likelier.
        let limit = 256 / letters.count * letters.count
        var text: [UInt8] = []
        while text.count < length {
            for byte in randomBytes(length * 2) where Int(byte) < limit && text.count < length {
                text.append(letters[Int(byte) % letters.count])
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
