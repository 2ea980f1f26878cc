internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Tasks
internal import Telemetry

/// Closes operations: the record, the claim, the outcome and the report go into one transaction; then the next one in
/// the lane begins. Run again after a crash in between, it changes nothing twice.
struct OperationEnding: Sendable {
    let driver: any VirtDriver
    let journal: Journal
    let tracker: ResourceTracker
    let host: HostName
    let outbox: Outbox
    let watcher: GuestWatcher
    let builds: BuildCount
    let sequence: @Sendable () -> Int64
    /// Lets the next operation of the instance begin.
    let next: @Sendable (InstanceID) async throws -> Void
    /// Told that an operation is over.
    let ended: @Sendable (TaskID) async -> Void

    private let log = Logger("agent.operations")
    private let lengths = Metrics.shared.histogram(
        "agent_operation_seconds", help: "From the command to the outcome, by kind and result.")

    init(
        driver: any VirtDriver, journal: Journal, tracker: ResourceTracker, host: HostName, outbox: Outbox,
        watcher: GuestWatcher, builds: BuildCount, sequence: @escaping @Sendable () -> Int64,
        next: @escaping @Sendable (InstanceID) async throws -> Void,
        ended: @escaping @Sendable (TaskID) async -> Void
    ) {
        self.builds = builds
        (self.driver, self.journal, self.tracker, self.host) = (driver, journal, tracker, host)
        (self.outbox, self.watcher, self.sequence) = (outbox, watcher, sequence)
        (self.next, self.ended) = (next, ended)
    }

    func build(_ state: inout BuildState, _ row: TaskRow, _ end: TaskEnd) async throws {
        state.forgetSecrets()
        let failure = end.failure
        if failure?.kind != .cancelled { builds.ended(successfully: failure == nil) }
        let isThere = failure == nil ? true : await remains(state.instanceID, row)
        let built = state
        let outcome = OperationOutcome(
            failure: failure, powerState: failure == nil ? .running : await power(of: built.instanceID),
            interfaces: failure == nil ? built.interfaces : nil, launchedAt: failure == nil ? built.launchedAt : nil,
            steps: built.timings, endedAt: journal.now())
        try await close(row, outcome) { connection, outcome in
            guard isThere else { return try connection.forgetGuest(built.instanceID) }
            guard var guest = try connection.guest(built.instanceID) else { return }
            guest.specification = built.specification
            guest.vmState = failure == nil ? .active : .error
            guest.isLeftover = failure != nil
            guest.powerState = outcome.powerState
            guest.launchedAt = built.launchedAt
            try connection.put(guest, now: outcome.endedAt)
        }
    }

    func delete(_ state: inout DeleteState, _ row: TaskRow, _ end: TaskEnd) async throws {
        let (id, failure) = (state.instanceID, end.failure)
        let outcome = OperationOutcome(
            failure: failure, powerState: failure == nil ? .noState : await power(of: id), interfaces: nil,
            launchedAt: nil, steps: state.timings, endedAt: journal.now())
        try await close(row, outcome) { connection, outcome in
            guard failure != nil else { return try connection.forgetGuest(id) }
            guard var guest = try connection.guest(id) else { return }
            guest.vmState = .error
            guest.isLeftover = true
            guest.powerState = outcome.powerState
            try connection.put(guest, now: outcome.endedAt)
        }
    }

    func command(_ state: inout CommandState, _ row: TaskRow, _ end: TaskEnd) async throws {
        state.forgetSecrets()
        let (ended, failure) = (state, end.failure)
        let outcome = OperationOutcome(
            failure: failure, powerState: await power(of: ended.instanceID), interfaces: nil, launchedAt: nil,
            steps: ended.timings, endedAt: journal.now())
        try await close(row, outcome) { connection, outcome in
            guard var guest = try connection.guest(ended.instanceID) else { return }
            guest.powerState = outcome.powerState
            let isRescued = guest.specification.rescueImage != nil
            guest.vmState =
                SettledState(
                    after: ended, failed: failure != nil, powerState: outcome.powerState, isRescued: isRescued
                ).vmState
            outcome.interfaces = guest.specification.interfaces
            try connection.put(guest, now: outcome.endedAt)
        }
    }

    /// Whether something of a failed build is, or may be, still on the host.
    private func remains(_ id: InstanceID, _ row: TaskRow) async -> Bool {
        guard row.undoFailures.isEmpty else { return true }
        do {
            return try await driver.observe(id)?.isOurs == true
        } catch {
            log.warning(
                "a failed build cannot be checked; its claim stays",
                ["instance": id, "error": LoggedError(error)])
            return true
        }
    }

    func power(of id: InstanceID) async -> PowerState {
        do {
            guard let seen = try await driver.observe(id), seen.isOurs else { return .noState }
            return seen.powerState
        } catch {
            log.warning("a guest cannot be observed", ["instance": id, "error": LoggedError(error)])
            return .noState
        }
    }

    func close(
        _ row: TaskRow, _ outcome: OperationOutcome,
        _ change: @escaping @Sendable (SQLConnection, inout OperationOutcome) throws -> Void
    ) async throws {
        let (host, sequence) = (host, sequence)
        let closed = try await journal.database.write { connection -> (OperationRecord, [Claim])? in
            var outcome = outcome
            guard var operation = try connection.operation(row.id) else { return nil }
            let before = try connection.claims(of: operation.instance)
            if operation.outcome == nil {
                try change(connection, &outcome)
                let guest = try connection.guest(operation.instance)
                outcome.vmState = guest?.vmState
                outcome.sequence = sequence()
                try connection.end(operation.id, outcome)
                operation.outcome = outcome
                if operation.task == nil, let guest {
                    // Nobody waits for what the agent did by itself; the instance's state is told all the same.
                    let report = guest.observation(from: host, operation.fence, sequence: sequence(), outcome.endedAt)
                    try connection.enqueue(report, requestID: operation.requestID, now: outcome.endedAt)
                }
                if let report = operation.report(from: host) {
                    try connection.enqueue(
                        report, key: operation.reportKey, requestID: operation.requestID, now: outcome.endedAt)
                }
            }
            let after = Set(try connection.claims(of: operation.instance).map(\.id))
            return (operation, before.filter { !after.contains($0.id) })
        }
        guard let (operation, released) = closed else { return }
        await outbox.dropNote(operation.instance)
        outbox.wake()
        for claim in released { tracker.release(claim) }
        try await next(operation.instance)
        await watcher.operationEnded(operation.instance)
        await ended(operation.id)
        lengths.observe(
            outcome.endedAt.since(operation.acceptedAt).inSeconds,
            labels: [("kind", operation.kind.rawValue), ("result", outcome.failure?.kind.rawValue ?? "success")])
        log.info(
            "operation ended",
            ["kind": operation.kind.rawValue, "instance": operation.instance, "failure": outcome.failure])
    }
}

extension TaskEnd {
    /// Why the task did not succeed; `nil` when it did.
    var failure: Failure? {
        switch self {
        case .succeeded: nil
        case .failed(let failure): failure
        case .cancelled: Failure(.cancelled, "cancelled, on request or because a later command took its place")
        }
    }
}
