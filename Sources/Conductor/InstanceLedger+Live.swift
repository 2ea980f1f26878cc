internal import Database
internal import Model
internal import RPC
internal import Tasks

extension InstanceLedger {
    /// The guest runs on its new host, as it ran on the old one.
    /// - Parameter evidence: for a source that was called dead meanwhile.
    func finishLive(
        _ report: ReportOperation.Params, _ evidence: EvacuationRecord? = nil, _ context: StepContext
    ) async throws {
        let event = ended("compute_live_migration", report, context)
        _ = try await change(report.header.instance, context, finishing: event) { instance in
            // What the old host has said meanwhile is of no guest any more.
            (instance.host, instance.postponedReport) = (report.host, nil)
            instance.hostFence = report.header.fence
            instance.vmState = report.vmState ?? instance.vmState
            instance.powerState = report.powerState
            instance.interfaces = report.interfaces ?? instance.interfaces
            (instance.move, instance.fault, instance.progress) = (nil, nil, 100)
            instance.settle()
        } migrations: { move in
            [.status(move.migration, .completed)] + (evidence.map { [.evacuation($0)] } ?? [])
        }
    }

    /// A live migration has come to nothing: the guest runs on where it was. A fault says why, unless it was asked for.
    ///
    /// - Parameters:
    ///   - report: what its host has said of the guest at the end, where it had begun to send it.
    ///   - isBegun: whether it had.
    func endLive(
        _ id: InstanceID, _ failure: Failure, back report: ReportOperation.Params?, isBegun: Bool, _ row: TaskRow,
        now: Timestamp
    ) async throws {
        let isWanted = failure.kind == .cancelled
        let status: MigrationStatus = isWanted ? .cancelled : isBegun ? .failed : .error
        try await fail(
            id, failure, keeping: true, hasFault: !isWanted, row, now: now,
            migrations: try await writes(status, failure, of: id, row)
        ) { instance in
            if let report {
                instance.hostFence = report.header.fence
                instance.interfaces = report.interfaces ?? instance.interfaces
                if let vmState = report.vmState {
                    (instance.vmState, instance.powerState) = (vmState, report.powerState)
                }
                instance.forgetPostponed(before: report.observation)
            }
            instance.move = nil
        }
    }

    /// The guest is at its destination and nowhere else, which cannot have it go on: it is in ERROR there.
    func failArrival(
        _ id: InstanceID, _ failure: Failure, at host: HostName, _ report: ReportOperation.Params?, _ row: TaskRow,
        now: Timestamp
    ) async throws {
        let evidence = try TaskEngine.state(MoveTaskState.self, of: row).evidence(of: row)
        try await fail(
            id, failure, keeping: false, row, now: now,
            migrations: try await writes(.error, failure, of: id, row) + (evidence.map { [.evacuation($0)] } ?? [])
        ) { instance in
            (instance.host, instance.postponedReport, instance.move) = (host, nil, nil)
            if let report {
                (instance.hostFence, instance.powerState) = (report.header.fence, report.powerState)
                instance.interfaces = report.interfaces ?? instance.interfaces
            }
        }
    }

    /// Nobody can say on which of the two hosts the guest is: it is in ERROR, with what is known of the move.
    func loseLive(_ id: InstanceID, _ failure: Failure, _ row: TaskRow, now: Timestamp) async throws {
        try await fail(
            id, failure, keeping: false, row, now: now, migrations: try await writes(.error, failure, of: id, row))
    }

    private func writes(
        _ status: MigrationStatus, _ failure: Failure, of id: InstanceID, _ row: TaskRow
    ) async throws -> [MigrationWrite] {
        let migration = try TaskEngine.state(MoveTaskState.self, of: row).migration
        return [.status(migration, status, failure: status == .cancelled ? nil : failure.message)]
    }
}
