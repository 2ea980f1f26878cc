internal import Crypto
internal import Database
internal import HTTP
internal import Model
internal import Tasks
internal import Telemetry

/// Makes servers: everything that was asked for is looked up and checked, then instances, actions and tasks are inserted
/// in one transaction, and the conductor is woken.
func createServers(_ call: ComputeCall, _ parts: ComputeParts) async throws -> HTTPResponse {
    let request = try ServerRequest(call, parts.settings)
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
        let image = try await bootImage(request.image ?? "", for: flavor, call, parts)
        try request.localDisks?.require(from: flavor)
        let publicKey = try await publicKey(named: request.keyName, of: call.caller.userID, parts)
        let place = try await place()
        let group = try await group()
        let limits = try await parts.limits(of: call.caller.projectID, call.caller.userID)
        let ofEach = limits.project.stricter(limits.user)
        try ofEach.require(.metadataItems, request.metadata.count)
        try Personality.require(request.files, ofEach)
        let now = parts.now()
        let password = request.adminPassword ?? makePassword()
        let reservation = "r-" + makeText(8, of: "abcdefghijklmnopqrstuvwxyz0123456789")
        var most = request.counts.upperBound
        while true {
            let count = try await count(of: flavor, upTo: most, limits)
            let instances = makeInstances(
                count, flavor: flavor, image: image, publicKey: publicKey, place: place, reservation: reservation,
                now: now)
            do {
                let stored = try await insert(
                    instances, limits, group: group, image: image, password: password, now: now)
                guard let first = stored.first else { throw APIError(500, "No server was made.") }
                return Made(first: first, reservationID: reservation, password: password)
            } catch is QuotaExceeded where count > request.counts.lowerBound {
                // Another request was quicker. Fewer fit than a moment ago, but perhaps still enough.
                most = count - 1
            }
        }
    }

    private func makeInstances(
        _ count: Int, flavor: Flavor, image: ImageReference, publicKey: String?, place: Place, reservation: String,
        now: Timestamp
    ) -> [Instance] {
        (0..<count).map { index in
            let id = InstanceID(makeUUID())
            let name = request.counts.upperBound == 1 ? request.name : "\(request.name)-\(index + 1)"
            var instance = Instance(
                id: id, projectID: call.caller.projectID, userID: call.caller.userID, name: name,
                hostname: chosenHostname(index) ?? hostname(forServer: name, id: id.rawValue), flavor: flavor,
                imageID: image.id,
                keyName: request.keyName, publicKey: publicKey, metadata: request.metadata, tags: request.tags,
                userData: request.userData, isConfigDriveRequested: request.isConfigDriveRequested,
                availabilityZone: place.zone, networks: request.networks, schedulerHints: request.hints,
                reservationID: reservation, launchIndex: index, createdAt: now)
            instance.description = request.description
            instance.destination = place.destination
            instance.localDisks = request.localDisks
            instance.accessIPv4 = request.accessIPv4.flatMap { $0.isEmpty ? nil : $0 }
            instance.accessIPv6 = request.accessIPv6.flatMap { $0.isEmpty ? nil : $0 }
            instance.imageProperties = image.properties
            return instance
        }
    }

    /// As the caller has named the guest; of several each with its number, before the domain.
    private func chosenHostname(_ index: Int) -> String? {
        guard let text = request.hostname, request.counts.upperBound > 1 else { return request.hostname }
        let dot = text.firstIndex(of: ".") ?? text.endIndex
        return "\(text[..<dot])-\(index + 1)\(text[dot...])"
    }

    private func insert(
        _ instances: [Instance], _ limits: QuotaStore.Limits, group: (id: ServerGroupID, memberLimit: Int)?,
        image: ImageReference, password: String, now: Timestamp
    ) async throws -> [Instance] {
        let actions = instances.map {
            InstanceAction(
                instance: $0.id, requestID: call.requestID, kind: .create, userID: call.caller.userID,
                projectID: call.caller.projectID, startedAt: now)
        }
        let batch = instances.count > 1 ? TaskID(TaskEngine.makeID()) : nil
        var tasks = try instances.map {
            try TaskEngine.makeRow(
                kind: TaskKind.build, instance: $0.id, parent: batch, requestID: call.requestID,
                generation: $0.fence.generation,
                state: BuildTaskState(
                    instance: $0.id, image: image, adminPassword: password,
                    files: request.files.isEmpty ? nil : request.files), now: now)
        }
        if let batch {
            // One request, one task that stands for all of it.
            var row = try TaskEngine.makeRow(
                kind: TaskKind.batch, requestID: call.requestID, state: BatchTaskState(children: tasks.map(\.id)),
                now: now)
            row.id = batch
            tasks.append(row)
        }
        let rows = tasks
        guard parts.settings.isQuotaRechecked, let flavor = instances.first?.flavor else {
            return try await grouped(instances.count) {
                try await parts.database.instances.create(instances, actions: actions, tasks: rows, group: group)
            }
        }
        return try await grouped(instances.count) {
            try await parts.database.instances.create(instances, actions: actions, tasks: rows, group: group) { usage in
                try QuotaCheck(limits: limits, usage: usage, flavor: flavor).require(instances.count)
            }
        }
    }

    private func flavor() async throws -> Flavor {
        guard let flavor = try await visibleFlavor(FlavorID(request.flavor), call, parts), !flavor.isDisabled
        else { throw APIError.badRequest("Flavor \(request.flavor) could not be found.") }
        if flavor.rootGiB == 0 { try call.require("servers:create:zero_disk_flavor") }
        return flavor
    }

    private struct Place {
        var zone: String?
        var destination: RequestedDestination?
    }

    /// `zone`, or `zone:host[:node]`, which only administrators may ask for: no filter is asked then.
    private func place() async throws -> Place {
        let asked = try await destination()
        guard let text = request.availabilityZone, !text.isEmpty else { return Place(destination: asked) }
        let pieces = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard pieces.count <= 3 else {
            throw APIError.badRequest(
                "Unable to parse availability_zone: a zone, zone:host or zone:host:node is wanted.")
        }
        var place = Place(zone: pieces[0].isEmpty ? nil : pieces[0], destination: asked)
        if pieces.count > 1 {
            try call.require("servers:create:forced_host")
            let (host, node) = (pieces[1], pieces.count > 2 ? pieces[2] : "")
            guard !host.isEmpty || !node.isEmpty else {
                throw APIError.badRequest("Unable to parse availability_zone: a host is wanted behind the colon.")
            }
            if !host.isEmpty {
                try await requireComputeHost(HostName(host), parts)
            }
            place.destination = RequestedDestination(
                host: host.isEmpty ? nil : HostName(host), node: node.isEmpty ? nil : node, isForced: true)
        }
        if let zone = place.zone { try await requireZone(zone, parts) }
        return place
    }

    /// The host that the server is to be on if the filters let it, which only administrators may ask for.
    private func destination() async throws -> RequestedDestination? {
        guard let destination = request.destination else { return nil }
        try call.require("servers:create:requested_destination")
        if let host = destination.host {
            try await requireComputeHost(host, parts)
        }
        if let node = destination.node {
            let reports = try await parts.database.hosts.list().map(\.report)
            guard reports.contains(where: { $0.hypervisorHostname == node }) else {
                throw APIError.badRequest("Compute host \(node) could not be found.")
            }
            let host = destination.host
            guard reports.contains(where: { $0.hypervisorHostname == node && (host ?? $0.host) == $0.host }) else {
                throw APIError.badRequest("Compute host \(host?.rawValue ?? "") has no hypervisor \(node).")
            }
        }
        return destination
    }

    /// The group of the hint, and how many members it may have.
    private func group() async throws -> (id: ServerGroupID, memberLimit: Int)? {
        guard let id = request.group else { return nil }
        do {
            let group = try await findServerGroup(id, call, parts)
            guard group.projectID == call.caller.projectID else { throw APIError.notFound("") }
            let limits = try await parts.serverLimits(of: call.caller.projectID, call.caller.userID)
            return (group.id, limits[.serverGroupMembers])
        } catch let error as APIError where error.status == 404 {
            throw APIError.badRequest("Instance group \(id.prefix(255)) could not be found.")
        }
    }

    /// What the group says to new members, in the API's words.
    private func grouped<T: Sendable>(_ count: Int, _ work: () async throws -> T) async throws -> T {
        do {
            return try await work()
        } catch let reached as ServerGroupLimitReached {
            throw QuotaExceeded(reached, requested: count)
        }
    }

    /// As many as the quota admits, at most `most`. Throws when it does not admit the least that was asked for.
    private func count(of flavor: Flavor, upTo most: Int, _ limits: QuotaStore.Limits) async throws -> Int {
        let usage = try await parts.database.instances.usage(of: call.caller.projectID, user: call.caller.userID)
        let check = QuotaCheck(limits: limits, usage: usage, flavor: flavor)
        try check.require(request.counts.lowerBound)
        return max(request.counts.lowerBound, min(most, check.headroom))
    }
}
