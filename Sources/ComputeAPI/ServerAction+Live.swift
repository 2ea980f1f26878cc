internal import Crypto
internal import Database
internal import GuestHardware
internal import HTTP
internal import Images
internal import Model
internal import RPC
internal import Tasks

/// To another host while it runs.
extension ServerAction {
    @Sendable static func migrateLive(_ action: ServerActionCall) async throws -> HTTPResponse {
        let (server, call, parts) = (action.server, action.call, action.parts)
        let wish = try LiveWish(action)
        try requireAdmitted(.liveMigrate, to: server, call)
        if let host = wish.host {
            try call.require("os-migrate-server:migrate_live:host")
            try await requireDestination(host, server, parts, mayBeDisabled: wish.isForced)
        }
        try await action.requireNoVirtualTPM(.liveMigrate)
        try await action.requireNoPassthrough()
        try await requireHostUp(server, parts)
        try await action.migrateLive(wish)
        return HTTPResponse(202)
    }
}

/// What is asked of a live migration, as the versions of the API put it.
private struct LiveWish: Sendable {
    /// `nil` for the scheduler's choice.
    let host: HostName?
    let isBlockMigration: Bool?
    /// Whether the scheduler is not asked about the host.
    let isForced: Bool

    init(_ action: ServerActionCall) throws(APIError) {
        let call = action.call
        var fields = try action.fields()
        guard let host = try fields.nullableText("host", length: 1...255) else {
            throw .badRequest("Invalid input for field/attribute os-migrateLive. 'host' is a required property.")
        }
        self.host = host.map { HostName($0) }
        isBlockMigration = try fields.requiredFlag("block_migration", or: call.isAtLeast(25) ? "auto" : nil)
        // Disks have their room by the host's claim, which no request exceeds.
        if !call.isAtLeast(25) { _ = try fields.requiredFlag("disk_over_commit") }
        if call.isAtLeast(68) {
            isForced = false
        } else if call.isAtLeast(30) {
            isForced = try fields.flag("force") ?? false
            guard !isForced || self.host != nil else {
                throw .badRequest("Can't force to a non-provided destination")
            }
        } else {
            isForced = self.host != nil
        }
        try fields.finish()
    }
}

extension ServerActionCall {
    /// Throws 400 when the guest has a device of its host for its own: no other host has that one.
    fileprivate func requireNoPassthrough() async throws {
        var properties = server.imageProperties
        if properties == nil { properties = try await parts.images.find(server.imageID)?.properties }
        let devices: PassthroughHardware
        do {
            devices = try GuestHardware(flavor: server.flavor, imageProperties: properties ?? [:]).passthrough
        } catch {
            throw APIError.badRequest("Server \(server.id) cannot be migrated: \(error)")
        }
        guard devices.requests.isEmpty, devices.vgpus == 0 else {
            let what = devices.requests.isEmpty ? "virtual GPUs" : "PCI devices"
            throw APIError.badRequest(
                "Instance \(server.id) has \(what) of its host, and is not moved while it runs. Migrate it while it is "
                    + "off.")
        }
    }

    /// Accepts a live migration.
    fileprivate func migrateLive(_ wish: LiveWish) async throws {
        let id = MigrationID(makeUUID())
        guard let source = server.host else { throw APIError.conflict("Instance \(server.id) is not ready") }
        let record = MigrationRecord(
            id: id, instance: server, type: .liveMigration, status: .queued, sourceHost: source,
            newFlavor: server.flavor.id, userID: call.caller.userID, now: parts.now())
        let seen = server
        _ = try await changeServer(
            server, .liveMigrate, call, parts, kind: TaskKind.liveMigrate, migrations: [.insert(record)],
            change: { instance in
                // What the record was made of must still be so.
                guard instance.host == source, instance.flavor.id == seen.flavor.id else {
                    throw APIError.conflict("Instance \(instance.id) was changed by another request at the same time.")
                }
                instance.move = PendingMove(
                    migration: id, type: .liveMigration, source: source, formerFlavor: instance.flavor,
                    formerVMState: instance.vmState)
                instance.progress = 0
            },
            state: {
                var state = MoveTaskState(instance: $0.id, migration: id, requestedHost: wish.host)
                state.isForced = wish.isForced
                state.request = LiveRequest(isBlockMigration: wish.isBlockMigration)
                return state
            })
    }
}

/// A live migration of a server that is to end sooner than it would.
struct LiveMigrationEnd: Sendable {
    let server: Instance
    let call: ComputeCall
    let parts: ComputeParts

    /// Breaks it off: its task is told, and the guest's host by it.
    func abort() async throws {
        var statuses: Set<MigrationStatus> = [.running]
        if call.isAtLeast(65) { statuses.formUnion([.queued, .preparing]) }
        let migration = try await found(statuses, .abortLiveMigration)
        let tasks = try await parts.database.tasks.list(instance: server.id, unfinishedOnly: true, limit: 100)
        let task = try tasks.first { row in
            row.kind == TaskKind.liveMigrate
                ? try TaskEngine.state(MoveTaskState.self, of: row).migration == migration.id : false
        }
        guard let task else { throw wrong(migration, .abortLiveMigration) }
        try await recordingAction(
            .abortLiveMigration, of: server, event: "compute_live_migration_abort", call, parts
        ) {
            try await parts.database.tasks.requestCancel(task.id, now: parts.now())
            parts.conductor.wake()
        }
    }

    /// Has the guest go on at its destination soon, however much of it changes meanwhile.
    func force() async throws {
        let migration = try await found([.running], .forceLiveMigration)
        try await recordingAction(
            .forceLiveMigration, of: server, event: "compute_live_migration_force_complete", call, parts
        ) { try await parts.conductor.forceMigration(server.id, migration.id) }
    }

    /// The migration that the path names, if it is a live one of the server in one of those states.
    private func found(
        _ statuses: Set<MigrationStatus>, _ request: InstanceRequest
    ) async throws -> MigrationRecord {
        let text = call.parameter("migration")
        guard let number = Int64(text),
            let migration = try await parts.database.migrations.find(number, of: server.id)
        else { throw APIError.notFound("Migration \(text.prefix(64)) for server \(server.id) could not be found.") }
        try requireAdmitted(request, to: server, call)
        guard migration.type == .liveMigration, statuses.contains(migration.status) else {
            throw wrong(migration, request)
        }
        return migration
    }

    private func wrong(_ migration: MigrationRecord, _ request: InstanceRequest) -> APIError {
        .badRequest(
            "Migration \(migration.number) state of instance \(server.id) is \(migration.status.rawValue). Cannot "
                + "'\(request.name)' it while the migration is in this state.")
    }
}
