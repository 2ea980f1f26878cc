internal import Crypto
internal import GuestHardware
internal import Model
internal import PCIDevices
internal import RPC
internal import SQL
internal import SQLite
internal import Synchronization
internal import TaskStore
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
        let state = BuildState(
            instance: instance, image: params.image, adminPassword: params.adminPassword, files: params.files)
        var record = GuestRecord(
            specification: state.specification, vmState: .building, powerState: .noState, launchedAt: nil,
            isLeftover: false)
        record.specification.instance.userData = nil
        let (tracker, now, unplaced) = (tracker, now, record)
        let hardware = try Self.hardware(of: instance, params.image)
        let (topology, devices) = (hardware.topology, hardware.passthrough.claimed)
        let vgpus = hardware.passthrough.vgpus
        // Given back with this box where the transaction does not come about, or is run again.
        let promised = Mutex<ClaimPromise?>(nil)
        try await take(.build, params.header, attempt: params.attempt, requestID, state) { connection, lane in
            guard lane.isEmpty, try connection.guest(instance.id) == nil else {
                throw Failure(.conflict, "instance \(instance.id) is on this host already")
            }
            let claim = try promised.fill { () throws(ClaimError) in
                try tracker.claim(instance.resources, topology, devices: devices, vgpus: vgpus, for: instance.id)
            }
            try connection.insert(claim, now: now())
            var guest = unplaced
            (guest.specification.placement, guest.specification.devices) = (claim.placement, claim.devices)
            guest.specification.mediatedDevices = claim.mediatedDevices
            try connection.put(guest, now: now())
        }
        promised.keep()
    }

    /// What the instance asks of the host. What its flavor and image cannot have together the API has refused,
    /// unless it is of another release.
    static func hardware(of instance: Instance, _ image: ImageReference) throws(Failure) -> GuestHardware {
        do {
            return try GuestHardware(flavor: instance.flavor, imageProperties: image.properties)
        } catch {
            throw Failure(.invalidParameters, error.description)
        }
    }

    func delete(_ params: DeleteInstance.Params, _ requestID: RequestID) async throws {
        let id = params.header.instance
        try await take(.delete, params.header, attempt: 1, requestID, DeleteState(instanceID: id)) { _, _ in }
    }

    func operate(_ params: OperateGuest.Params, _ requestID: RequestID) async throws {
        let id = params.header.instance
        guard id == params.instance.id else {
            throw Failure(.invalidParameters, "the header names another instance than the record")
        }
        guard let kind = OperationKind(params.command), !OperationDefinitions.stepNames(of: kind).isEmpty else {
            throw Failure(.methodNotFound, "this host cannot carry out the command \(params.command.name)")
        }
        guard let guest = try await journal.guest(id) else {
            throw Failure(.notFound, "instance \(id) is not on this host")
        }
        if params.command.partsDiskFromTPM,
            params.instance.hasVirtualTPM(imageProperties: guest.specification.image.properties)
        {
            // The API has refused it already, unless it knows less of the guest than its host does.
            throw Failure(.invalidParameters, params.instance.virtualTPMRefusal(of: params.command.name))
        }
        if case .rebuild(let material) = params.command {
            // The claim stays what it is, so what it was made for must stay, too.
            let (old, new) = (
                try Self.hardware(of: params.instance, guest.specification.image).topology,
                try Self.hardware(of: params.instance, material.image).topology
            )
            guard old == new else {
                throw Failure(
                    .invalidParameters, "the image asks for other NUMA cells or processors than the server has")
            }
        }
        let now = now
        let state = CommandState(params.command, params.instance, on: guest)
        try await take(kind, params.header, attempt: 1, requestID, state) { connection, lane in
            guard var guest = try connection.guest(id) else {
                throw Failure(.notFound, "instance \(id) is not on this host")
            }
            guard !lane.contains(where: { $0.kind == .delete || $0.kind == .build }) else {
                throw Failure(.conflict, "instance \(id) is being built or deleted")
            }
            guest.specification.instance = params.instance
            guest.specification.instance.userData = nil
            try connection.put(guest, now: now())
        }
    }

    /// Interrupts the operation of a conductor's task, if it is not too far on to leave the guest as it was.
    func cancel(_ header: CommandHeader) async throws {
        let now = now
        let operation = try await journal.database.read { connection in
            try connection.lane(header.instance).first { $0.task == header.task }
        }
        guard let operation else {
            throw Failure(.notFound, "no operation of task \(header.task) is under way on this host")
        }
        guard let steps = operation.kind.cancellableSteps else {
            throw Failure(.conflict, "\(operation.kind.rawValue) is not cancelled")
        }
        // With the engine that has it, or in the journal while nobody has: either way no further step can begin.
        var answer = engine.cancel(operation.id, during: steps)
        if answer == nil {
            answer = try await journal.database.write { connection in
                try SQLTaskStorage.requestCancel(idle: operation.id, at: steps, now: now(), on: connection)
            }
            engine.wake()
        }
        guard let answer else {
            throw Failure(.conflict, "the operation is between two of its steps", isRetriable: true)
        }
        guard answer else {
            throw Failure(.conflict, "\(operation.kind.rawValue) is too far on to be cancelled")
        }
        log.notice("an operation is cancelled", ["instance": header.instance, "kind": operation.kind.rawValue])
    }

    /// Removes what an earlier removal left, without being told to; `false` when an operation is under way.
    func cleanUp(_ guest: GuestRecord) async throws -> Bool {
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
        return isNew
    }

    /// Starts a guest without being told to; nothing when an operation is under way.
    func start(_ guest: GuestRecord) async throws {
        let id = guest.id
        let requestID = RequestScope.makeID()
        let (now, rows) = (now, rows)
        let state = CommandState(.start, guest.specification.instance, on: guest)
        try await journal.database.write { connection in
            guard try connection.lane(id).isEmpty, let fence = try connection.fence(id) else { return }
            let operation = OperationRecord(
                id: TaskID("\(requestID).\(OperationKind.start.rawValue)"), kind: .start, instance: id, task: nil,
                fence: fence, requestID: requestID, acceptedAt: now())
            try connection.insert(operation)
            try rows.insert(operation, state, isFirst: true, on: connection)
        }
        engine.wake()
    }

    /// Removes, without being told to, a guest whose instance the database says was deleted at `fence`, with all that it
    /// holds here. `false` when an operation is under way, or a newer command than the deletion has come.
    func reap(_ id: InstanceID, deletedAt fence: Fence) async throws -> Bool {
        let requestID = RequestScope.makeID()
        let (now, rows) = (now, rows)
        let isNew = try await journal.database.write { connection in
            guard try Self.raiseFence(of: id, toDeletion: fence, now: now(), on: connection) else { return false }
            let operation = OperationRecord(
                id: TaskID("\(requestID).\(OperationKind.delete.rawValue)"), kind: .delete, instance: id, task: nil,
                fence: fence, requestID: requestID, acceptedAt: now())
            try connection.insert(operation)
            try rows.insert(operation, DeleteState(instanceID: id), isFirst: true, on: connection)
            return true
        }
        if isNew { engine.wake() }
        return isNew
    }

    /// Shuts such a guest down; it and all that it holds stay. The same answer.
    func stop(_ guest: GuestRecord, deletedAt fence: Fence) async throws -> Bool {
        let requestID = RequestScope.makeID()
        let (now, rows) = (now, rows)
        let state = CommandState(.stop, guest.specification.instance, on: guest)
        let isNew = try await journal.database.write { connection in
            guard try Self.raiseFence(of: guest.id, toDeletion: fence, now: now(), on: connection) else { return false }
            let operation = OperationRecord(
                id: TaskID("\(requestID).\(OperationKind.stop.rawValue)"), kind: .stop, instance: guest.id, task: nil,
                fence: fence, requestID: requestID, acceptedAt: now())
            try connection.insert(operation)
            try rows.insert(operation, state, isFirst: true, on: connection)
            return true
        }
        if isNew { engine.wake() }
        return isNew
    }

    /// Has the deletion win over every older command, if nothing is under way and nothing newer is known.
    private static func raiseFence(
        of id: InstanceID, toDeletion fence: Fence, now: Timestamp, on connection: SQLConnection
    ) throws -> Bool {
        guard try connection.lane(id).isEmpty else { return false }
        if let highest = try connection.fence(id) {
            guard fence.generation >= highest.generation else { return false }
            try connection.setFence(id, max(fence, highest), now: now)
        } else {
            try connection.setFence(id, fence, now: now)
        }
        return true
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

    func take<State: OperationState>(
        _ kind: OperationKind, _ header: CommandHeader, attempt: Int, _ requestID: RequestID, _ state: State,
        _ admit: @escaping @Sendable (SQLConnection, [OperationRecord]) throws -> Void
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
                guard lane.count < SQLConnection.laneLimit * (kind == .delete ? 2 : 1) else {
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
        _ known: OperationRecord, _ fence: Fence, on connection: SQLConnection
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

/// The operations of a lane that a later one makes pointless: all before a delete or a discard; before a hard reboot those
/// that it may interrupt.
func superseded(in lane: [OperationRecord]) -> [TaskID] {
    lane.enumerated().compactMap { index, operation in
        guard operation.kind != .delete, operation.kind != .discard else { return nil }
        let later = lane[(index + 1)...]
        let isPointless = later.contains { next in
            next.kind == .delete || next.kind == .discard
                || (next.kind == .hardReboot && operation.kind.yieldsToHardReboot)
        }
        return isPointless ? operation.id : nil
    }
}

extension GuestCommand {
    /// Whether the guest's disk goes where its TPM's state does not follow.
    fileprivate var partsDiskFromTPM: Bool {
        switch self {
        case .rescue, .rebuild, .shelve: true
        default: false
        }
    }
}

extension OperationRecord {
    /// The same for each delivery of the same outcome under the same fence.
    var reportKey: String { "\(id).\(fence.generation).\(fence.epoch)" }
}

extension SQLConnection {
    fileprivate func openCount() throws -> Int {
        try first("SELECT count(*) FROM operations WHERE ended_at IS NULL") { $0.int(0) } ?? 0
    }
}

extension Mutex<ClaimPromise?> {
    /// Holds the claim that `make` makes; one that was held before is given back first.
    borrowing func fill(_ make: () throws(ClaimError) -> ClaimPromise) throws(Failure) -> Claim {
        try withLock { held throws(Failure) in
            held = nil
            do throws(ClaimError) {
                let promise = try make()
                let claim = promise.claim
                held = consume promise
                return claim
            } catch {
                throw error.failure
            }
        }
    }

    /// The claim that is held is recorded.
    borrowing func keep() {
        withLock { held in
            if let promise = held.take() { promise.keep() }
        }
    }
}

extension PassthroughHardware {
    /// What is to be claimed.
    var claimed: [PCIRequest] {
        let own = policy.flatMap { PCIPolicy(rawValue: $0.rawValue) }
        return requests.map { PCIRequest(alias: $0.alias, count: $0.count, policy: own) }
    }
}
