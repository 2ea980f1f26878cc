internal import GuestHardware
internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Synchronization

extension Dispatcher {
    /// Takes a host's part in a move. Throws `.conflict` where the guest is not, or is, here as the part needs it;
    /// `.insufficientResources` where there is no room for what is to come.
    func move(_ params: MoveGuest.Params, _ requestID: RequestID) async throws {
        let id = params.header.instance
        guard id == params.instance.id else {
            throw Failure(.invalidParameters, "the header names another instance than the record")
        }
        guard [.active, .stopped, .paused].contains(params.vmState) else {
            throw Failure(.invalidParameters, "a guest is active, paused or stopped after a move")
        }
        guard let kind = OperationKind(params.order) else {
            throw Failure(.methodNotFound, "this host does not know the order \(params.order.name)")
        }
        switch params.order {
        case .reserve(let image): try await reserve(params, image, requestID)
        case .takeOver(let image, _), .receive(let image, _, _), .arrive(let image):
            guard !params.instance.hasVirtualTPM(imageProperties: image.properties) else {
                throw Failure(.invalidParameters, params.instance.virtualTPMRefusal(of: "migrate"))
            }
            try await begin(kind, params, image, requestID)
        case .setAside, .release, .forget, .takeBack, .offer, .send, .leave:
            try await begin(kind, params, nil, requestID)
        }
    }

    /// Promises the room in the transaction that records the command.
    private func reserve(
        _ params: MoveGuest.Params, _ image: ImageReference, _ requestID: RequestID
    ) async throws {
        let instance = params.instance
        let hardware = try Self.hardware(of: instance, image)
        let (topology, devices) = (hardware.topology, hardware.passthrough.claimed)
        let vgpus = hardware.passthrough.vgpus
        let (tracker, now) = (tracker, now)
        let state = MoveState(params, GuestSpecification(instance: instance, image: image, interfaces: []))
        // Given back with this box where the transaction does not come about, or is run again.
        let promised = Mutex<ClaimPromise?>(nil)
        try await take(.reserve, params.header, attempt: 1, requestID, state) { connection, lane in
            guard lane.isEmpty else {
                throw Failure(.conflict, "something is under way with instance \(instance.id)", isRetriable: true)
            }
            try Self.requireNotGivenUp(.reserve, params.header, params.migration, connection)
            let isHere = try connection.guest(instance.id) != nil
            if try connection.setAside(instance.id) != nil {
                throw Failure(
                    .conflict, "this host still has what it had of instance \(instance.id) before another move",
                    isRetriable: true)
            }
            guard isHere == params.isSameHost else {
                throw Failure(
                    .conflict,
                    isHere
                        ? "instance \(instance.id) is on this host already" : "instance \(instance.id) is not here")
            }
            // A place that an earlier try has got, and whose answer was lost.
            for old in try connection.claims(of: instance.id) where old.isMove { try connection.release(old) }
            let claim = try promised.fill { () throws(ClaimError) in
                try tracker.claim(
                    instance.resources, topology, devices: devices, vgpus: vgpus, for: instance.id,
                    purpose: .move(params.migration))
            }
            try connection.insert(claim, now: now())
        }
        promised.keep()
    }

    private func begin(
        _ kind: OperationKind, _ params: MoveGuest.Params, _ image: ImageReference?, _ requestID: RequestID
    ) async throws {
        let id = params.instance.id
        let command = kind.operationID(task: params.header.task, attempt: 1)
        let (guest, aside, claims, isKnown) = try await journal.database.read { connection in
            (
                try connection.guest(id), try connection.setAside(id), try connection.claims(of: id),
                try connection.operation(command) != nil
            )
        }
        let claim = claims.first { $0.purpose == .move(params.migration) }
        // The guest comes here by another, later migration.
        let isPromisedToOther = claim == nil && claims.contains { $0.isMove }
        let isMine = aside?.migration == params.migration
        var specification: GuestSpecification
        switch kind {
        // Sent again, by another conductor or after an answer that was lost: `take` tells what came of it.
        case _ where isKnown: specification = Self.bare(params)
        case .takeOver, .receive, .arrive:
            guard let image, let claim else {
                throw Failure(.conflict, "this host has promised nothing to migration \(params.migration)")
            }
            specification = GuestSpecification(
                instance: params.instance, image: image, interfaces: params.instance.interfaces)
            (specification.placement, specification.devices) = (claim.placement, claim.devices)
            specification.mediatedDevices = claim.mediatedDevices
            specification.arrivedBy = params.migration
        case .setAside:
            // An answer that was lost is asked for again: `take` knows the command.
            guard let known = guest?.specification ?? (isMine ? aside?.specification : nil) else {
                throw Failure(.notFound, "instance \(id) is not on this host")
            }
            specification = known
        case .offer, .send:
            guard let known = guest?.specification else {
                throw Failure(.notFound, "instance \(id) is not on this host")
            }
            specification = known
        case .forget, .takeBack, .leave:
            let known = isMine ? aside?.specification : guest?.specification
            guard kind != .takeBack || known != nil else {
                throw Failure(.notFound, "nothing of instance \(id) is on this host")
            }
            specification = known ?? Self.bare(params)
        default:
            specification = guest?.specification ?? Self.bare(params)
        }
        var state = MoveState(params, specification)
        state.isSetAside = isMine
        state.isForeign =
            guest.map { $0.specification.arrivedBy != params.migration } ?? isPromisedToOther
        state.launchedAt = (isMine ? aside?.launchedAt : nil) ?? guest?.launchedAt
        try await take(kind, params.header, attempt: 1, requestID, state) { connection, lane in
            guard !lane.contains(where: { $0.kind == .delete || $0.kind == .build }) else {
                throw Failure(.conflict, "instance \(id) is being built or deleted")
            }
            try Self.requireNotGivenUp(kind, params.header, params.migration, connection)
        }
    }

    /// Refuses a part that comes after the one by which the same task has given the move up: it was late on its way.
    static func requireNotGivenUp(
        _ kind: OperationKind, _ header: CommandHeader, _ migration: MigrationID, _ connection: SQLConnection
    ) throws {
        let end: OperationKind
        switch kind {
        case .setAside: end = .takeBack
        case .reserve, .takeOver, .receive, .arrive, .takeIn: end = .release
        default: return
        }
        let part = header.task.whole.part(end == .takeBack ? MoveOrder.takeBack.name : MoveOrder.release.name)
        guard try connection.operation(end.operationID(task: part, attempt: 1)) == nil else {
            throw Failure(.conflict, "migration \(migration) has been given up on this host")
        }
    }

    /// What is known of a guest that this host has no record of.
    private static func bare(_ params: MoveGuest.Params) -> GuestSpecification {
        GuestSpecification(
            instance: params.instance,
            image: ImageReference(
                id: params.instance.imageID, format: .qcow2, sizeBytes: 0, virtualSizeBytes: 0, sha512: ""),
            interfaces: params.instance.interfaces)
    }
}
