internal import Database
internal import Model
internal import RPC
internal import Tasks

extension InstanceLedger {
    /// Names the host that is about to be asked for room, before it hears of it, so that a deletion finds it.
    func aimEvacuation(_ id: InstanceID, at host: HostName, _ context: StepContext) async throws -> Instance {
        let move = try await evacuation(id, context)
        if move.destination == host { return try await current(id, context) }
        return try await update(
            id, context,
            [
                .change(move.migration) { migration in
                    migration.destinationHost = host
                    migration.status = .preMigrating
                }
            ]
        ) { $0.move?.destination = host }
    }

    /// The guest is on its new host; its old one is told so when it returns.
    func finishEvacuation(_ report: ReportOperation.Params, _ context: StepContext) async throws {
        let move = try await evacuation(report.header.instance, context)
        let event = InstanceEvent(
            name: "compute_rebuild_instance", host: report.host, startedAt: context.row.createdAt,
            finishedAt: report.endedAt, result: "Success", details: nil)
        let record = EvacuationRecord(
            migration: move.migration, instance: report.header.instance, source: move.source,
            generation: context.row.generation, sharesDisks: report.sharesDisks)
        _ = try await update(
            report.header.instance, context, [.status(move.migration, .done), .evacuation(record)],
            finishing: ActionEnd(requestID: context.row.requestID, at: context.now(), failed: false, event: event)
        ) { instance in
            instance.host = report.host
            instance.hostFence = report.header.fence
            instance.vmState = report.vmState ?? move.formerVMState
            instance.powerState = report.powerState
            instance.interfaces = report.interfaces ?? instance.interfaces
            instance.launchedAt = report.launchedAt ?? instance.launchedAt
            (instance.move, instance.fault, instance.progress, instance.postponedReport) = (nil, nil, 100, nil)
            instance.settle()
        }
    }

    /// An evacuation has come to nothing: the instance is in ERROR with the reason, on the host that has its disks. One of
    /// which no host has heard is as it was, if its own host is back.
    ///
    /// - Parameter isLost: whether the destination may have it: then it is the instance's host.
    func failEvacuation(
        _ id: InstanceID, _ failure: Failure, migration: MigrationID, isUntouched: Bool, isLost: Bool, _ row: TaskRow,
        now: Timestamp
    ) async throws {
        let status: MigrationStatus = failure.kind == .noValidHost ? .error : .failed
        var writes: [MigrationWrite] = [.status(migration, status, failure: failure.message)]
        // Of one that the destination may have the source still has to know.
        if !isLost { writes.append(.noEvacuation(migration)) }
        let isKept = isUntouched && (failure.kind == .conflict || failure.kind == .cancelled)
        try await fail(id, failure, keeping: isKept, row, now: now, migrations: writes) { instance in
            guard instance.move?.migration == migration else { return }
            if isLost, let destination = instance.move?.destination {
                (instance.host, instance.hostFence, instance.postponedReport) = (destination, row.fence, nil)
            }
            instance.move = nil
        }
        guard let left = try await find(id), left.move?.migration == migration, left.deletedAt == nil,
            left.taskState != .deleting
        else { return }
        // A newer request has come: it decides about the instance, and this one leaves nothing behind. A deletion needs to
        // know the other host.
        _ = try await instances.update(id, now: now) { instance in
            if instance.move?.migration == migration { instance.move = nil }
        }
    }

    private func evacuation(_ id: InstanceID, _ context: StepContext) async throws -> PendingMove {
        guard let move = try await current(id, context).move, move.type == .evacuation else {
            throw Failure(.conflict, "instance \(id) is not being evacuated")
        }
        return move
    }

    private func update(
        _ id: InstanceID, _ context: StepContext, _ migrations: [MigrationWrite], finishing: ActionEnd? = nil,
        _ body: @escaping @Sendable (inout Instance) -> Void
    ) async throws -> Instance {
        do {
            return try await instances.update(
                id, generation: context.row.generation, now: context.now(), finishing: finishing,
                migrations: migrations, change: body)
        } catch StoreError.conflict {
            throw Failure(.cancelled, "a newer request for instance \(id) has been accepted")
        }
    }
}
