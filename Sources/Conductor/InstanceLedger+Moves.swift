internal import Database
internal import Model
internal import RPC
internal import Tasks

extension InstanceLedger {
    /// Names the host that is about to be asked for room, before it hears of it, so that a deletion finds it.
    func aim(
        _ id: InstanceID, at host: HostName, _ taskState: TaskState, _ context: StepContext
    ) async throws -> Instance {
        try await change(id, context) { instance in
            instance.move?.destination = host
            instance.taskState = taskState
        } migrations: { move in
            [.change(move.migration) { $0.destinationHost = host }]
        }
    }

    /// Says how far the move is.
    func reach(
        _ taskState: TaskState, _ status: MigrationStatus, _ id: InstanceID, _ context: StepContext
    ) async throws -> Instance {
        try await change(id, context) { instance in
            instance.taskState = taskState
        } migrations: { move in
            [.status(move.migration, status)]
        }
    }

    /// The guest is on its new host, in its new size, until the user confirms it or takes it back.
    func finishMove(_ report: ReportOperation.Params, newFlavor: Flavor?, _ context: StepContext) async throws {
        let event = ended("compute_finish_resize", report, context)
        _ = try await change(report.header.instance, context, finishing: event) { instance in
            instance.host = report.host
            instance.hostFence = report.header.fence
            instance.postponedReport = nil
            if let newFlavor { instance.flavor = newFlavor }
            instance.vmState = .resized
            instance.powerState = report.powerState
            instance.interfaces = report.interfaces ?? instance.interfaces
            instance.launchedAt = report.launchedAt ?? instance.launchedAt
            instance.move?.finishedAt = context.now()
            (instance.fault, instance.progress) = (nil, 100)
            instance.settle()
        } migrations: { move in
            [.status(move.migration, .finished)]
        }
    }

    /// The move counts: there is no way back any more.
    func confirmMove(_ report: ReportOperation.Params, _ context: StepContext) async throws {
        let event = ended("compute_confirm_resize", report, context)
        _ = try await change(report.header.instance, context, finishing: event) { instance in
            // What it does says its power: the user may have turned it off meanwhile.
            instance.vmState = instance.powerState == .shutdown || instance.powerState == .crashed ? .stopped : .active
            (instance.move, instance.fault) = (nil, nil)
            instance.settle()
        } migrations: { move in
            [.verdict(move.migration, .confirmed)]
        }
    }

    /// The guest is where it was, as it was.
    func revertMove(_ report: ReportOperation.Params, _ context: StepContext) async throws {
        let event = ended("compute_finish_revert_resize", report, context)
        _ = try await change(report.header.instance, context, finishing: event) { instance in
            instance.goBack(report)
            instance.fault = nil
            instance.settle()
        } migrations: { move in
            [.verdict(move.migration, .reverted)]
        }
    }

    /// A move has come to nothing: the instance is as before, with a fault that says why. Where `isLost`, its source has it
    /// not again, and it is in ERROR with what is known of the move.
    func failMove(
        _ id: InstanceID, _ failure: Failure, back report: ReportOperation.Params?, isLost: Bool, _ row: TaskRow,
        now: Timestamp
    ) async throws {
        let move = try await find(id)?.move
        try await fail(
            id, failure, keeping: !isLost, row, now: now,
            migrations: move.map { [.status($0.migration, .error, failure: failure.message)] } ?? []
        ) { instance in
            guard !isLost else { return }
            if let report { instance.goBack(report) }
            instance.move = nil
        }
    }

    /// A confirmation or a reversal that has not begun, or can be asked for again.
    func failVerification(_ id: InstanceID, _ failure: Failure, isLost: Bool, _ row: TaskRow, now: Timestamp)
        async throws
    {
        let move = try await find(id)?.move
        try await fail(
            id, failure, keeping: !isLost, row, now: now,
            migrations: move.map { [.status($0.migration, isLost ? .error : .finished, failure: failure.message)] }
                ?? [])
    }

    func ended(_ event: String, _ report: ReportOperation.Params, _ context: StepContext) -> ActionEnd {
        ActionEnd(
            requestID: context.row.requestID, at: context.now(), failed: false,
            event: InstanceEvent(
                name: event, host: report.host, startedAt: context.row.createdAt, finishedAt: report.endedAt,
                result: "Success", details: nil))
    }

    func change(
        _ id: InstanceID, _ context: StepContext, finishing: ActionEnd? = nil,
        _ body: @escaping @Sendable (inout Instance) -> Void, migrations: (PendingMove) -> [MigrationWrite]
    ) async throws -> Instance {
        let known = try await current(id, context)
        guard let move = known.move else {
            throw Failure(.conflict, "instance \(id) is not being moved")
        }
        do {
            return try await instances.update(
                id, generation: context.row.generation, now: context.now(), finishing: finishing,
                migrations: migrations(move), change: body)
        } catch StoreError.conflict {
            throw Failure(.cancelled, "a newer request for instance \(id) has been accepted")
        }
    }
}

extension Instance {
    /// What its source says of a guest that it has again.
    fileprivate mutating func goBack(_ report: ReportOperation.Params) {
        guard let move else { return }
        host = move.source
        hostFence = report.header.fence
        flavor = move.formerFlavor
        vmState = report.vmState ?? move.formerVMState
        powerState = report.powerState
        interfaces = report.interfaces ?? interfaces
        (self.move, postponedReport, progress) = (nil, nil, 100)
    }
}
