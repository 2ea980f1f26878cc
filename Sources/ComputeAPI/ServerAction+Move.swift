internal import Crypto
internal import Database
internal import GuestHardware
internal import HTTP
internal import Images
internal import Model
internal import RPC

/// To another flavor, or off to another host; then the choice to keep that, or to go back.
extension ServerAction {
    @Sendable static func resize(_ action: ServerActionCall) async throws -> HTTPResponse {
        let (server, call, parts) = (action.server, action.call, action.parts)
        var fields = try action.fields()
        let id = try fields.reference("flavorRef")
        _ = try fields.choice("OS-DCF:diskConfig", ["AUTO", "MANUAL"])
        try fields.finish()
        guard let flavor = try await parts.database.flavors.find(FlavorID(id)), !flavor.isDisabled,
            try await mayUse(flavor, call, parts)
        else { throw APIError.badRequest("Flavor \(id.prefix(255)) could not be found.") }
        try requireAdmitted(.resize, to: server, call)
        guard flavor.id != server.flavor.id else {
            throw APIError.badRequest("When resizing, instances must change flavor!")
        }
        try requireNotSmaller(flavor, than: server)
        try await action.requireNoVirtualTPM(.resize)
        var resized = server
        resized.flavor = flavor
        // Nor may it get one: the host that is to take the guest over refuses it, when the guest is off already.
        try await ServerActionCall(
            name: action.name, argument: action.argument, server: resized, call: call, parts: parts
        ).requireNoVirtualTPM(.resize)
        try await requireFit(flavor, server, parts)
        let limits = try await parts.limits(of: server.projectID, server.userID)
        try await action.move(
            .resize, type: .resize, flavor: flavor, host: nil, mayStay: parts.settings.mayResizeToSameHost
        ) { instance, usage in
            try QuotaCheck(limits: limits, usage: usage, flavor: flavor).requireIncrease(from: instance.flavor)
        }
        return HTTPResponse(202)
    }

    @Sendable static func migrate(_ action: ServerActionCall) async throws -> HTTPResponse {
        let (server, call, parts) = (action.server, action.call, action.parts)
        var host: HostName?
        if call.isAtLeast(56), !action.argument.isNull {
            var fields = try action.fields()
            host = (try fields.nullableText("host", length: 1...255) ?? nil).map { HostName($0) }
            try fields.finish()
        } else {
            try action.requireNoArgument()
        }
        try requireAdmitted(.migrate, to: server, call)
        if let host {
            try call.require("os-migrate-server:migrate:host")
            try await requireDestination(host, server, parts)
        }
        try await action.requireNoVirtualTPM(.migrate)
        try await action.move(.migrate, type: .migration, flavor: nil, host: host, mayStay: false)
        return HTTPResponse(202)
    }

    @Sendable static func confirmResize(_ action: ServerActionCall) async throws -> HTTPResponse {
        try action.requireNoArgument()
        try requireAdmitted(.confirmResize, to: action.server, action.call)
        if let source = action.server.move?.source { try await requireUp(source, action.parts) }
        try await action.decide(.confirmResize, .confirm, kind: TaskKind.confirmMove, status: .confirming)
        return HTTPResponse(204)
    }

    @Sendable static func revertResize(_ action: ServerActionCall) async throws -> HTTPResponse {
        try action.requireNoArgument()
        try requireAdmitted(.revertResize, to: action.server, action.call)
        if let move = action.server.move {
            for host in move.hosts(besides: nil) { try await requireUp(host, action.parts) }
        }
        try await action.decide(.revertResize, .revert, kind: TaskKind.revertMove, status: .reverting)
        return HTTPResponse(202)
    }

    /// Whether a flavor is public, or the caller's project's, or the caller an administrator.
    private static func mayUse(_ flavor: Flavor, _ call: ComputeCall, _ parts: ComputeParts) async throws -> Bool {
        if flavor.isPublic || call.caller.isAdmin { return true }
        return try await parts.database.flavorAccess.projects(of: flavor.id).contains(call.caller.projectID)
    }

    /// Throws 400 where a disk would have to shrink.
    private static func requireNotSmaller(_ flavor: Flavor, than server: Instance) throws(APIError) {
        let former = server.flavor
        // A root disk of 0 GiB is as large as the image.
        let isRootSmaller = former.rootGiB > 0 ? flavor.rootGiB < former.rootGiB : false
        // The disks that the user asked for in place of the flavor's one.
        let own = server.localDisks?.ephemerals ?? []
        let ephemeral = own.isEmpty ? former.ephemeralGiB : own.reduce(0) { $0 + $1.sizeGiB }
        guard !isRootSmaller, flavor.ephemeralGiB >= ephemeral else {
            throw .badRequest(
                "Unable to resize disk down: flavor \(flavor.name) has \(flavor.rootGiB) GiB and "
                    + "\(flavor.ephemeralGiB) GiB ephemeral, the server has \(former.rootGiB) and \(ephemeral).")
        }
    }

    /// Throws 400 where the server's image does not fit the flavor, or the two ask for a guest that cannot be.
    private static func requireFit(_ flavor: Flavor, _ server: Instance, _ parts: ComputeParts) async throws {
        let image = try await parts.images.find(server.imageID)
        if let reference = image?.reference { try checkFit(reference, flavor) }
        do {
            let properties = server.imageProperties ?? image?.properties ?? [:]
            try checkAliases(try GuestHardware(flavor: flavor, imageProperties: properties), parts)
        } catch let error as HardwareError {
            throw APIError.badRequest("Flavor \(flavor.id) cannot be that of server \(server.id): \(error)")
        }
    }

    /// Throws 400 for a host that the server cannot go to.
    static func requireDestination(
        _ host: HostName, _ server: Instance, _ parts: ComputeParts, mayBeDisabled: Bool = false
    ) async throws {
        try await requireComputeHost(host, parts)
        guard host != server.host else {
            throw APIError.badRequest("Unable to migrate instance \(server.id) to current host \(host).")
        }
        guard let service = try await parts.database.services.find(host: host, binary: "nova-compute"),
            !service.isDisabled || mayBeDisabled,
            service.isUp(now: parts.now(), downAfter: parts.settings.serviceDownTime)
        else { throw APIError.badRequest("Compute host \(host) is disabled or down.") }
    }

    /// Throws 409 for a host that is known to be down.
    private static func requireUp(_ host: HostName, _ parts: ComputeParts) async throws {
        guard let service = try await parts.database.services.find(host: host, binary: "nova-compute"),
            !service.isUp(now: parts.now(), downAfter: parts.settings.serviceDownTime)
        else { return }
        throw APIError.conflict("Host \(host), which has a part of this server, is down; try again when it is back.")
    }
}

extension ServerActionCall {
    /// Accepts a move.
    fileprivate func move(
        _ request: InstanceRequest, type: MigrationType, flavor: Flavor?, host: HostName?, mayStay: Bool,
        admit: (@Sendable (Instance, InstanceStore.ProjectUsage) throws -> Void)? = nil
    ) async throws {
        try await requireHostUp(server, parts)
        let id = MigrationID(makeUUID())
        let (user, moment) = (call.caller.userID, parts.now())
        guard let source = server.host else { throw APIError.conflict("Instance \(server.id) is not ready") }
        let record = MigrationRecord(
            id: id, instance: server, type: type, status: .preMigrating, sourceHost: source,
            newFlavor: flavor?.id ?? server.flavor.id, userID: user, now: moment)
        let seen = server
        _ = try await changeServer(
            server, request, call, parts, kind: TaskKind.move, admit: admit, migrations: [.insert(record)],
            change: { instance in
                // What the record was made of must still be so.
                guard instance.host == source, instance.flavor.id == seen.flavor.id else {
                    throw APIError.conflict("Instance \(instance.id) was changed by another request at the same time.")
                }
                instance.move = PendingMove(
                    migration: id, type: type, source: source, formerFlavor: instance.flavor,
                    formerVMState: instance.vmState)
                instance.progress = 0
            },
            state: {
                MoveTaskState(
                    instance: $0.id, migration: id, newFlavor: flavor, requestedHost: host, mayStay: mayStay)
            })
    }

    /// Accepts what becomes of a move that is done.
    fileprivate func decide(
        _ request: InstanceRequest, _ decision: PendingMove.Decision, kind: String, status: MigrationStatus
    ) async throws {
        // Of an evacuation or a live migration there is nothing to confirm, and no way back.
        guard let move = server.move, move.type.isVerified else {
            throw APIError.conflict("Instance \(server.id) has not been moved.")
        }
        let migration = move.migration
        _ = try await changeServer(
            server, request, call, parts, kind: kind, migrations: [.status(migration, status)],
            change: { instance in
                guard instance.move?.migration == migration else {
                    throw APIError.conflict("Instance \(instance.id) was changed by another request at the same time.")
                }
                // Half of a reversal has removed the new disks, half of a confirmation the old ones.
                guard instance.move?.decision == nil || instance.move?.decision == decision else {
                    throw APIError.conflict(
                        "Instance \(instance.id) is to be \(decision == .confirm ? "taken back" : "confirmed"), which has "
                            + "been begun: ask for that again.")
                }
                instance.move?.decision = decision
            },
            state: { MoveTaskState(instance: $0.id, migration: migration) })
    }
}
