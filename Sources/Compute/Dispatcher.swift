internal import Crypto
internal import Model
internal import RPC
internal import SQLite
internal import Synchronization
internal import Tasks
internal import Telemetry

/// Takes commands: decides whether they may run, records them, and lets each instance's operations follow one another.
///
/// One transaction compares and records the fence, makes the claim and writes the operation with its task; the answer
/// comes after it. A command that came before under the same task is the same operation, whoever sends it.
struct Dispatcher: Sendable {
    let journal: Journal
    let tracker: ResourceTracker
    let engine: TaskEngine
    let rows: OperationRows
    let wakeOutbox: @Sendable () -> Void
    let now: Now

    /// Operations that may be open on the whole host.
    static let openLimit = 2_000

    private let log = Logger("agent.commands")
    private let taken = Metrics.shared.counter("agent_commands_total", help: "Commands, by kind and what was answered.")

    init(
        journal: Journal, tracker: ResourceTracker, engine: TaskEngine, rows: OperationRows,
        wakeOutbox: @escaping @Sendable () -> Void, now: @escaping Now
    ) {
        (self.journal, self.tracker, self.engine, self.rows) = (journal, tracker, engine, rows)
        (self.wakeOutbox, self.now) = (wakeOutbox, now)
    }

    func build(_ params: BuildInstance.Params, _ requestID: RequestID) async throws {
        guard params.header.instance == params.instance.id else {
            throw Failure(.invalidParameters, "the header names another instance than the one to build")
        }
        let instance = params.instance
        let state = BuildState(instance: instance, image: params.image, adminPassword: params.adminPassword)
        var record = GuestRecord(
            specification: state.specification, vmState: .building, powerState: .noState, launchedAt: nil,
            isLeftover: false)
        record.specification.instance.userData = nil
        let (tracker, now, guest) = (tracker, now, record)
        let made = Mutex<Claim?>(nil)
        do {
            try await take(.build, params.header, attempt: params.attempt, requestID, state) { connection, lane in
                guard lane.isEmpty, try connection.guest(instance.id) == nil else {
                    throw Failure(.conflict, "instance \(instance.id) is on this host already")
                }
                let claim: Claim
                do throws(ClaimError) {
                    claim = try tracker.claim(instance.resources, for: instance.id)
                } catch {
                    throw error.failure
                }
                made.withLock { $0 = claim }
                try connection.insert(claim, now: now())
                try connection.put(guest, now: now())
            }
        } catch {
            // The claim was promised within a transaction that did not come about.
            if let claim = made.withLock({ $0 }) { tracker.release(claim) }
            throw error
        }
    }

    func delete(_ params: DeleteInstance.Params, _ requestID: RequestID) async throws {
        let id = params.header.instance
        try await take(.delete, params.header, attempt: 1, requestID, DeleteState(instanceID: id)) { _, _ in }
    }

    func changePower(_ params: ChangePower.Params, _ requestID: RequestID) async throws {
        let id = params.header.instance
        let state = PowerOperationState(instanceID: id)
        try await take(OperationKind(params.change), params.header, attempt: 1, requestID, state) { connection, lane in
            guard try connection.guest(id) != nil else {
                throw Failure(.notFound, "instance \(id) is not on this host")
            }
            guard !lane.contains(where: { $0.kind == .delete || $0.kind == .build }) else {
                throw Failure(.conflict, "instance \(id) is being built or deleted")
            }
        }
    }

    /// Removes what an earlier removal left, without being told to; nothing when an operation is under way.
    func cleanUp(_ guest: GuestRecord) async throws {
        let id = guest.id
        let requestID = RequestScope.makeID()
        let (now, rows) = (now, rows)
        let state = DeleteState(instanceID: id)
        let isNew = try await journal.database.write { connection in
            guard try connection.lane(id).isEmpty, try connection.guest(id)?.isLeftover == true,
                let fence = try connection.fence(id)
            else { return false }
            let operation = OperationRecord(
                id: TaskID("\(requestID).\(OperationKind.delete.rawValue)"), kind: .delete, instance: id, task: nil,
                fence: fence, requestID: requestID, acceptedAt: now())
            try connection.insert(operation)
            try rows.insert(operation, state, isFirst: true, on: connection)
            return true
        }
        if isNew { engine.wake() }
    }

    /// Starts what is first in each lane and was not told so, and repeats cancellations: after a restart, and now and
    /// then for a signal that was lost.
    func repairLanes() async throws {
        let open = try await journal.database.read { try $0.openOperations() }
        for (_, lane) in Dictionary(grouping: open, by: \.instance) {
            try await cancel(superseded(in: lane))
            if let first = lane.first { try await engine.signal(first.id) }
        }
    }

    /// Lets the next operation of an instance begin.
    func next(of instance: InstanceID) async throws {
        let first = try await journal.database.read { try $0.lane(instance).first }
        if let first { try await engine.signal(first.id) }
    }

    private enum Answer: Sendable {
        case first
        case queued(TaskID, cancel: [TaskID])
        case known(hasEnded: Bool)
    }

    private func take<State: OperationState>(
        _ kind: OperationKind, _ header: CommandHeader, attempt: Int, _ requestID: RequestID, _ state: State,
        _ admit: @escaping @Sendable (SQLiteConnection, [OperationRecord]) throws -> Void
    ) async throws {
        let (now, rows) = (now, rows)
        let command = OperationRecord(
            id: kind.operationID(task: header.task, attempt: attempt), kind: kind, instance: header.instance,
            task: header.task, fence: header.fence, requestID: requestID, acceptedAt: now())
        let answer: Answer
        do {
            answer = try await journal.database.write { connection in
                if let highest = try connection.fence(header.instance), header.fence < highest {
                    throw Failure(
                        .conflict,
                        "command (\(header.fence.generation), \(header.fence.epoch)) comes after "
                            + "(\(highest.generation), \(highest.epoch)) for instance \(header.instance)")
                }
                var operation = command
                if let known = try connection.operation(command.id) {
                    guard kind == .delete, known.outcome?.failure != nil else {
                        return try repeated(known, header.fence, on: connection)
                    }
                    // A removal that failed is worth another try; its outcome was told.
                    operation.id = TaskID("\(command.id).\(makeUUID())")
                }
                let lane = try connection.lane(header.instance)
                // A delete makes pointless what fills the lane, so it has room where others have none.
                guard lane.count < SQLiteConnection.laneLimit * (kind == .delete ? 2 : 1) else {
                    throw Failure(.overloaded, "too many operations wait on instance \(header.instance)")
                }
                guard try kind == .delete || connection.openCount() < Self.openLimit else {
                    throw Failure(.overloaded, "this host has too many operations under way", isRetriable: true)
                }
                try admit(connection, lane)
                try connection.setFence(header.instance, header.fence, now: now())
                try connection.insert(operation)
                try rows.insert(operation, state, isFirst: lane.isEmpty, on: connection)
                return lane.isEmpty
                    ? .first : .queued(operation.id, cancel: superseded(in: lane + [operation]))
            }
        } catch {
            taken.increment(labels: [("kind", kind.rawValue), ("answer", "refused")])
            throw error
        }
        switch answer {
        case .first:
            taken.increment(labels: [("kind", kind.rawValue), ("answer", "recorded")])
            engine.wake()
        case .queued(let id, let superseded):
            taken.increment(labels: [("kind", kind.rawValue), ("answer", "queued")])
            try await cancel(superseded)
            // The one in front may have ended between the transaction and its look for the next.
            let first = try await journal.database.read { try $0.lane(header.instance).first }
            if first?.id == id { try await engine.signal(id) }
        case .known(let hasEnded):
            taken.increment(labels: [("kind", kind.rawValue), ("answer", "known")])
            if hasEnded { wakeOutbox() }
        }
    }

    /// The command came again: its fence counts from now on, and an outcome that is there is told once more.
    private func repeated(
        _ known: OperationRecord, _ fence: Fence, on connection: SQLiteConnection
    ) throws -> Answer {
        var known = known
        known.fence = fence
        try connection.setFence(known.instance, fence, now: now())
        try connection.raiseFence(of: known.id, to: fence)
        guard let report = known.report(from: rows.host) else { return .known(hasEnded: false) }
        // A key of its own, so that whoever took the first report looks at this one too.
        let key = "\(known.reportKey).\(makeUUID())"
        try connection.enqueue(report, key: key, requestID: known.requestID, now: now())
        return .known(hasEnded: true)
    }

    private func cancel(_ operations: [TaskID]) async throws {
        for id in operations { try await engine.cancel(id) }
    }
}

/// The operations of a lane that a later one makes pointless: all before a delete, soft reboots before a hard one.
func superseded(in lane: [OperationRecord]) -> [TaskID] {
    lane.enumerated().compactMap { index, operation in
        let later = lane[(index + 1)...]
        switch operation.kind {
        case .delete: return nil
        case .softReboot where later.contains { $0.kind == .hardReboot }: return operation.id
        default: return later.contains { $0.kind == .delete } ? operation.id : nil
        }
    }
}

extension OperationRecord {
    /// The same for each delivery of the same outcome under the same fence.
    var reportKey: String { "\(id).\(fence.generation).\(fence.epoch)" }
}

extension SQLiteConnection {
    fileprivate func openCount() throws -> Int {
        try first("SELECT count(*) FROM operations WHERE ended_at IS NULL") { $0.int(0) } ?? 0
    }
}
