internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Telemetry

/// What an agent compares and finishes when it starts, and the wait for it.
actor Recovery {
    private var open: Set<TaskID>
    private let ends: AsyncStream<Void>
    private nonisolated let sink: AsyncStream<Void>.Continuation

    /// `open` are the operations that were under way when the last agent ended.
    init(open: Set<TaskID>) {
        self.open = open
        (ends, sink) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    func ended(_ id: TaskID) {
        guard open.remove(id) != nil else { return }
        sink.yield()
    }

    /// Waits until all of them have ended, at most `limit`; gives the number of those that have not.
    func settled(within limit: Duration) async -> Int {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.drain() }
            group.addTask { try? await AlarmClock().sleep(for: limit) }
            await group.next()
            group.cancelAll()
        }
        return open.count
    }

    private func drain() async {
        guard !open.isEmpty else { return }
        for await _ in ends where open.isEmpty { return }
    }
}

/// Compares the journal with what the control plane's database says of this host. Tells differences, changes nothing.
struct Comparison: Sendable {
    let host: HostName
    let journal: Journal
    let client: RPCClient
    let strays: StrayList
    let sequence: @Sendable () -> Int64
    let wakeOutbox: @Sendable () -> Void

    private let log = Logger("agent.compare")

    init(
        host: HostName, journal: Journal, client: RPCClient, strays: StrayList,
        sequence: @escaping @Sendable () -> Int64, wakeOutbox: @escaping @Sendable () -> Void
    ) {
        (self.host, self.journal, self.client, self.strays) = (host, journal, client, strays)
        (self.sequence, self.wakeOutbox) = (sequence, wakeOutbox)
    }

    /// At most `timeout`. Throws when no conductor answers.
    func run(timeout: Duration) async throws {
        let placed = try await client.call(ListHostInstances.self, .init(host: host), timeout: timeout).instances
        let (records, open, fences, kept) = try await journal.database.read { connection in
            let records = try connection.guests()
            let fences = try Dictionary(uniqueKeysWithValues: records.map { ($0.id, try connection.fence($0.id)) })
            return (
                records, Set(try connection.openOperations().map(\.instance)), fences,
                Set(try connection.setAside().map(\.id))
            )
        }
        let byID = Dictionary(records.map { ($0.id, $0) }) { first, _ in first }
        let known = Set(placed.map(\.id))
        let unplaced = records.filter { !known.contains($0.id) && !open.contains($0.id) }
        let unknown = placed.filter {
            byID[$0.id] == nil && !open.contains($0.id) && !kept.contains($0.id) && $0.vmState != .building
        }
        Metrics.shared.gauge("agent_unplaced_guests", help: "Records that the database places elsewhere or nowhere.")
            .set(Double(unplaced.count))
        Metrics.shared.gauge("agent_unknown_instances", help: "Instances placed here without a record.")
            .set(Double(unknown.count))
        strays.note(unplaced: unplaced.map(\.id), unknown: unknown.map(\.id))
        for guest in unplaced {
            log.warning("the database does not place this guest here; it is left alone", ["instance": guest.id])
        }
        for instance in unknown {
            log.warning("the journal does not know an instance that is placed here", ["instance": instance.id])
        }
        for instance in placed where instance.taskState == nil && !open.contains(instance.id) {
            // By the rule by which the conductor will judge the report: the host may not have got the last request.
            guard let guest = byID[instance.id], let fence = fences[instance.id] ?? nil, instance.believes(fence),
                guest.differs(from: instance), guest.vmState != .building, guest.vmState != .error,
                instance.vmState != .error
            else { continue }
            try await tell(guest, fence)
        }
    }

    private func tell(_ guest: GuestRecord, _ fence: Fence) async throws {
        let moment = journal.now()
        let (host, sequence) = (host, sequence)
        try await journal.database.write { connection in
            guard try connection.guest(guest.id) == guest, try connection.lane(guest.id).isEmpty else { return }
            let report = guest.observation(from: host, fence, sequence: sequence(), moment)
            try connection.enqueue(report, requestID: RequestScope.makeID(), now: moment)
        }
        wakeOutbox()
    }
}

extension GuestRecord {
    /// Whether what a report can tell is not what the database has.
    fileprivate func differs(from instance: Instance) -> Bool {
        // One that waits to be confirmed is not known as that to its host.
        (vmState != instance.vmState && instance.vmState != .resized) || powerState != instance.powerState
            || specification.interfaces != instance.interfaces
    }
}
