internal import GuestHardware
internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import TaskStore
internal import Tasks
internal import Telemetry

extension Dispatcher {
    /// Takes in a guest whose host is dead. Throws `.conflict` where this host has promised it nothing, or has it.
    func takeIn(_ params: TakeInGuest.Params, _ requestID: RequestID) async throws {
        let (id, image) = (params.instance.id, params.image)
        guard params.header.instance == id else {
            throw Failure(.invalidParameters, "the header names another instance than the record")
        }
        guard params.vmState == .active || params.vmState == .stopped else {
            throw Failure(.invalidParameters, "a guest is active or stopped after an evacuation")
        }
        guard !params.instance.hasVirtualTPM(imageProperties: image.properties) else {
            throw Failure(.invalidParameters, params.instance.virtualTPMRefusal(of: "evacuate"))
        }
        let command = OperationKind.takeIn.operationID(task: params.header.task, attempt: 1)
        let (claim, isKnown) = try await journal.database.read { connection in
            (
                try connection.claims(of: id).first { $0.purpose == .move(params.migration) },
                try connection.operation(command) != nil
            )
        }
        var specification = GuestSpecification(
            instance: params.instance, image: image, interfaces: params.instance.interfaces)
        if let claim {
            (specification.placement, specification.devices) = (claim.placement, claim.devices)
            specification.mediatedDevices = claim.mediatedDevices
        }
        specification.arrivedBy = params.migration
        // Sent again, by another conductor or after an answer that was lost: `take` tells what came of it.
        guard isKnown || claim != nil else {
            throw Failure(.conflict, "this host has promised nothing to migration \(params.migration)")
        }
        try await take(
            .takeIn, params.header, attempt: 1, requestID, TakeInState(params, specification)
        ) { connection, lane in
            guard lane.isEmpty, try connection.guest(id) == nil else {
                throw Failure(.conflict, "instance \(id) is on this host already")
            }
            try Self.requireNotGivenUp(.takeIn, params.header, params.migration, connection)
        }
    }

    /// Removes what is here of an instance that lives elsewhere by the evacuation, or turns it off until that is decided.
    /// Whatever else is under way with it here is broken off.
    ///
    /// - Returns: the operation; `nil` when this host has had a command of the evacuation's generation or a newer one, so
    ///   that what is here is here by right.
    func discard(_ evacuated: ListEvacuated.Evacuated) async throws -> TaskID? {
        let (id, requestID) = (evacuated.instance, RequestScope.makeID())
        let (now, rows) = (now, rows)
        let fence = Fence(generation: evacuated.generation, epoch: 0)
        let state = DiscardState(evacuated)
        let name = "\(evacuated.migration)/\(evacuated.isGone ? "gone" : "off")/"
        let (operation, pointless) = try await journal.database.write { connection -> (TaskID?, [TaskID]) in
            if let highest = try connection.fence(id), highest.generation >= evacuated.generation { return (nil, []) }
            let lane = try connection.lane(id)
            if let last = lane.last, last.id.rawValue.hasPrefix(name) { return (last.id, []) }
            let operation = OperationRecord(
                id: TaskID("\(name)\(requestID).\(OperationKind.discard.rawValue)"), kind: .discard, instance: id,
                task: nil,
                fence: fence, requestID: requestID, acceptedAt: now())
            try connection.insert(operation)
            try rows.insert(operation, state, isFirst: lane.isEmpty, on: connection)
            return (operation.id, superseded(in: lane + [operation]))
        }
        for id in pointless { try await engine.cancel(id) }
        try await next(of: id)
        engine.wake()
        return operation
    }
}
