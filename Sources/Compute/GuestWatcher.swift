internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Telemetry

/// Compares what the hypervisor has with what the journal says, and tells the difference: by event, and by the
/// periodic check for what events missed.
///
/// A guest with an operation under way is left to the operation. A broken connection says nothing about any guest.
actor GuestWatcher {
    private static let concurrency = 8
    /// Guests that may be marked, and as many that may wait for another look; beyond that all are compared.
    private static let markLimit = 100_000

    private let driver: any VirtDriver
    private let journal: Journal
    private let tracker: ResourceTracker
    private let host: HostName
    private let strays: StrayList
    private let sequence: @Sendable () -> Int64
    private let wakeOutbox: @Sendable () -> Void
    private let wakes: AsyncStream<Void>
    private nonisolated let wakeSink: AsyncStream<Void>.Continuation
    private let log = Logger("agent.guests")
    private let connected = Metrics.shared.gauge("agent_hypervisor_connected", help: "1 while the hypervisor answers.")
    private let orphanCount = Metrics.shared.gauge("agent_orphan_guests", help: "Our domains without a record.")
    private let missingCount = Metrics.shared.gauge("agent_missing_guests", help: "Records without a domain.")
    private let changes = Metrics.shared.counter(
        "agent_guest_changes_total", help: "Guests that changed by themselves.")

    private var marked: Set<InstanceID> = []
    private var busy: Set<InstanceID> = []
    /// Guests that changed while an operation was under way.
    private var postponed: Set<InstanceID> = []
    /// Guests that could not be examined and are looked at again, with the number of failures in a row.
    private var failures: [InstanceID: Int] = [:]
    /// Those of them that have a pause now.
    private var resting: Set<InstanceID> = []
    /// Whether every guest is still to be compared, because that failed or more changed than can be noted.
    private var isComparisonDue = false
    private let comparisons: AsyncStream<Void>
    private nonisolated let comparisonSink: AsyncStream<Void>.Continuation
    private(set) var isConnected = false
    /// Domains of ours that the journal does not know. Listed and counted, never touched.
    private(set) var orphans: [GuestObservation] = []

    init(
        driver: any VirtDriver, journal: Journal, tracker: ResourceTracker, host: HostName, strays: StrayList,
        sequence: @escaping @Sendable () -> Int64, wakeOutbox: @escaping @Sendable () -> Void
    ) {
        (self.driver, self.journal, self.host, self.strays) = (driver, journal, host, strays)
        self.tracker = tracker
        (self.sequence, self.wakeOutbox) = (sequence, wakeOutbox)
        (wakes, wakeSink) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (comparisons, comparisonSink) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Follows the driver's events until it is cancelled or the driver ends them.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.followEvents() }
            group.addTask { await self.repeatComparisons() }
            for await _ in wakes {
                while busy.count < Self.concurrency, let id = marked.first(where: { !busy.contains($0) }) {
                    marked.remove(id)
                    busy.insert(id)
                    group.addTask { await self.examine(id) }
                }
            }
        }
    }

    /// An operation has ended: what happened to its guest meanwhile counts now.
    func operationEnded(_ id: InstanceID) {
        guard postponed.remove(id) != nil else { return }
        mark(id)
    }

    /// The same as `compareAll`; what fails now is tried again until it succeeds or the hypervisor is out of reach.
    func compareAllOrLater() async {
        do {
            try await compareAll()
        } catch {
            guard !Task.isCancelled else { return }
            log.warning("the guests could not be compared; it is tried again", ["error": LoggedError(error)])
            compareLater()
        }
    }

    /// Compares every guest with its record, and looks for guests without one.
    func compareAll() async throws {
        let seen = try await driver.guests()
        let (records, open, aside, claims) = try await journal.database.read {
            (try $0.guests(), try $0.openOperations(), try $0.setAside(), try $0.claims())
        }
        let inWork = Set(open.map(\.instance))
        // Of a move: what is kept of it, and what comes by it and has not arrived.
        let kept = Set(aside.map(\.id)).union(claims.filter(\.isMove).map(\.instance))
        let byID = Dictionary(seen.filter(\.isOurs).map { ($0.id, $0) }) { first, _ in first }
        var missing = 0
        for record in records where !inWork.contains(record.id) {
            let observation = byID[record.id]
            if observation == nil, record.vmState != .error { missing += 1 }
            try await settle(record, observation)
        }
        missingCount.set(Double(missing))
        let known = Set(records.map(\.id)).union(inWork).union(kept)
        var orphans: [GuestObservation] = []
        for guest in seen where guest.isOurs && !known.contains(guest.id) {
            // One that was deleted between the two looks had its domain removed before its record.
            guard let now = try await driver.observe(guest.id) else { continue }
            var orphan = guest
            orphan.powerState = now.powerState
            orphans.append(orphan)
        }
        note(orphans: orphans)
    }

    private func followEvents() async {
        for await event in driver.events {
            switch event {
            case .changed(let id):
                mark(id)
            case .disconnected:
                isConnected = false
                // All are compared when it is back.
                isComparisonDue = false
                connected.set(0)
                log.warning("the hypervisor is out of reach; nothing is concluded about its guests")
            case .resynchronise:
                isConnected = true
                connected.set(1)
                await compareAllOrLater()
            }
        }
    }

    private func compareLater() {
        isComparisonDue = true
        comparisonSink.yield()
    }

    /// Compares again what could not be compared, with growing pauses.
    private func repeatComparisons() async {
        for await _ in comparisons {
            var attempt = 0
            while isComparisonDue {
                attempt += 1
                do { try await AlarmClock().sleep(for: Self.pause(after: attempt)) } catch { return }
                guard isComparisonDue else { break }
                isComparisonDue = false
                do {
                    try await compareAll()
                } catch {
                    guard !Task.isCancelled else { return }
                    isComparisonDue = isConnected
                    log.info("the guests could still not be compared", ["error": LoggedError(error)])
                }
            }
        }
    }

    /// 0.1 s to 10 s, doubled with each failure.
    private static func pause(after failures: Int) -> Duration {
        min(.milliseconds(100) * (1 << min(failures - 1, 10)), .seconds(10)) * Double.random(in: 0.5...1)
    }

    private func mark(_ id: InstanceID) {
        // The set is as large as the hypervisor has domains; more than that is somebody making names up.
        guard marked.count < Self.markLimit else { return compareLater() }
        marked.insert(id)
        wakeSink.yield()
    }

    private func examine(_ id: InstanceID) async {
        do {
            let (record, lane) = try await journal.database.read { (try $0.guest(id), try $0.lane(id)) }
            if let record {
                if lane.isEmpty {
                    let seen = try await driver.observe(id)
                    try await settle(record, seen.flatMap { $0.isOurs ? $0 : nil })
                } else {
                    postponed.insert(id)
                    // The operation may have ended between the reading and this line, and not found the guest here.
                    if try await journal.database.read({ try $0.lane(id) }).isEmpty { operationEnded(id) }
                }
            } else if orphans.contains(where: { $0.id == id }) {
                // What it took is free as soon as it is off or gone.
                compareLater()
            }
            failures[id] = nil
        } catch {
            guard !Task.isCancelled else { return }
            return await examineLater(id, error)
        }
        busy.remove(id)
        wakeSink.yield()
    }

    /// Marks a guest again after a pause: what happened to it would else be known only at the next periodic check. The
    /// pause takes none of the places for guests that are examined.
    private func examineLater(_ id: InstanceID, _ error: any Error) async {
        busy.remove(id)
        wakeSink.yield()
        guard let known = failures[id] ?? (failures.count < Self.markLimit ? 0 : nil) else { return compareLater() }
        failures[id] = known + 1
        if known == 0 {
            log.warning(
                "a guest could not be examined; it is tried again", ["instance": id, "error": LoggedError(error)])
        }
        guard resting.insert(id).inserted else { return }
        do { try await AlarmClock().sleep(for: Self.pause(after: known + 1)) } catch { return }
        resting.remove(id)
        mark(id)
    }

    /// Records and tells what is new about a guest, unless an operation has begun since it was seen.
    private func settle(_ record: GuestRecord, _ seen: GuestObservation?) async throws {
        let rule = PowerRule(vmState: record.vmState, known: record.powerState, seen: seen?.powerState)
        guard rule.isNews else { return }
        let (host, moment, sequence) = (host, journal.now(), sequence)
        let isTold = try await journal.database.write { connection in
            guard var guest = try connection.guest(record.id), guest.vmState == record.vmState,
                guest.powerState == record.powerState, try connection.lane(record.id).isEmpty,
                let fence = try connection.fence(record.id)
            else { return false }
            guest.powerState = rule.powerState
            if let vmState = rule.vmState { guest.vmState = vmState }
            try connection.put(guest, now: moment)
            let report = ReportInstance.Params(
                host: host, instance: record.id, fence: fence, vmState: rule.vmState, powerState: rule.powerState,
                taskState: nil, interfaces: nil, notice: seen?.remark, sequence: sequence(), observedAt: moment)
            try connection.enqueue(report, requestID: RequestScope.makeID(), now: moment)
            return true
        }
        guard isTold else { return }
        changes.increment()
        log.notice(
            "a guest changed by itself",
            [
                "instance": record.id, "was": record.vmState, "is": rule.vmState ?? record.vmState,
                "power": rule.powerState.rawValue, "has_domain": seen != nil, "remark": seen?.remark,
            ])
        wakeOutbox()
    }

    private func note(orphans found: [GuestObservation]) {
        let known = Set(orphans.map(\.id))
        for guest in found where !known.contains(guest.id) {
            log.warning("a domain of ours has no record; it is left alone", ["instance": guest.id, "name": guest.name])
        }
        orphans = found
        // Nobody has promised it to them, and they have it all the same.
        tracker.found(orphans: found.filter(\.isOn).reduce(.zero) { $0 + ($1.size ?? .zero) })
        strays.note(orphans: found.map(\.id))
        orphanCount.set(Double(found.count))
    }
}
