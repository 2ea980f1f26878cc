internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Telemetry

/// Tells the conductor what waits in the journal: in order per instance, each row until it was taken or refused for good.
///
/// Rows are written by whoever has something to tell, in the transaction of the fact itself; `wake()` then starts the
/// delivery at once. While no conductor answers, everything waits behind one backoff.
actor Outbox {
    struct Pace: Sendable {
        var firstDelay = Duration.milliseconds(200)
        var longestDelay = Duration.seconds(30)
        /// How long a progress note waits: operations shorter than that tell their outcome only.
        var progressDelay = Duration.milliseconds(300)
        var concurrency = 8
    }

    private struct Pause {
        var failures: Int
        var until: ContinuousClock.Instant
    }

    private let journal: Journal
    private let client: RPCClient
    private let host: HostName
    private let pace: Pace
    private let sequence: @Sendable () -> Int64
    private let wakes: AsyncStream<Void>
    private nonisolated let wakeSink: AsyncStream<Void>.Continuation
    private let log = Logger("agent.outbox")
    private let rows = Metrics.shared.gauge("apus_outbox_rows", help: "Rows that wait to be told to a conductor.")
    private let sent = Metrics.shared.counter("apus_outbox_sent_total", help: "Attempts to tell, by result.")
    private let lag = Metrics.shared.histogram("apus_outbox_lag_seconds", help: "From the fact to its delivery.")

    private var busy: Set<InstanceID> = []
    private var pauses: [InstanceID: Pause] = [:]
    /// Set while no conductor answers.
    private var linkPause: Pause?
    private var notes: [InstanceID: (state: TaskState, progress: Int?, due: ContinuousClock.Instant)] = [:]
    private var alarm: ContinuousClock.Instant?

    init(
        journal: Journal, client: RPCClient, host: HostName, pace: Pace = Pace(),
        sequence: @escaping @Sendable () -> Int64
    ) {
        (self.journal, self.client, self.host, self.pace) = (journal, client, host, pace)
        self.sequence = sequence
        (wakes, wakeSink) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Says that rows were written. Never waits.
    nonisolated func wake() { wakeSink.yield() }

    /// Notes what an operation is at, and how far in percent. Told only if the operation lasts, and lost with the agent.
    func note(_ instance: InstanceID, _ state: TaskState, progress: Int? = nil) {
        // An instance beyond that many says nothing between its command and its outcome.
        guard notes.count < 1_000 || notes[instance] != nil else { return }
        let known = notes[instance]
        notes[instance] = (state, progress ?? known?.progress, known?.due ?? .now + pace.progressDelay)
        wake()
    }

    /// Forgets the note of an operation that has ended.
    func dropNote(_ instance: InstanceID) { notes[instance] = nil }

    /// A conductor has just answered somebody: what waited for that goes at once.
    func linkIsUp() {
        guard linkPause != nil else { return }
        linkPause = nil
        wake()
    }

    /// Delivers until it is cancelled.
    func run() async {
        wake()
        await withDiscardingTaskGroup { group in
            for await _ in wakes {
                await startDeliveries(&group)
            }
        }
    }

    private func startDeliveries(_ group: inout DiscardingTaskGroup) async {
        var heads: [InstanceID]
        do {
            let (found, count) = try await journal.database.read {
                (try $0.outboxHeads(), try $0.outboxCount())
            }
            heads = found
            rows.set(Double(count))
        } catch {
            log.error("the outbox cannot be read", ["error": LoggedError(error)])
            return setAlarm(.now + .seconds(1), &group)
        }
        let now = ContinuousClock.now
        if let linkPause, linkPause.until > now { return setAlarm(linkPause.until, &group) }
        let waiting = Set(heads)
        heads += notes.filter { $0.value.due <= now && !waiting.contains($0.key) }.map(\.key)
        for instance in heads where !busy.contains(instance) {
            guard busy.count < pace.concurrency else { break }
            if let pause = pauses[instance], pause.until > now {
                setAlarm(pause.until, &group)
                continue
            }
            busy.insert(instance)
            group.addTask { await self.deliver(instance) }
        }
        if let next = notes.values.map(\.due).filter({ $0 > now }).min() { setAlarm(next, &group) }
    }

    /// Wakes the loop at `moment`, unless it is woken earlier anyway.
    private func setAlarm(_ moment: ContinuousClock.Instant, _ group: inout DiscardingTaskGroup) {
        if let alarm, alarm <= moment, alarm > .now { return }
        alarm = moment
        group.addTask {
            do { try await AlarmClock().sleep(until: moment) } catch { return }
            await self.alarmRang(moment)
        }
    }

    private func alarmRang(_ moment: ContinuousClock.Instant) {
        if alarm == moment { alarm = nil }
        wake()
    }

    /// Tells everything that waits for one instance, until there is nothing or it cannot be told now.
    private func deliver(_ instance: InstanceID) async {
        var mayGoOn = true
        while mayGoOn, !Task.isCancelled {
            do {
                if let row = try await journal.database.read({ try $0.outboxHead(instance) }) {
                    mayGoOn = try await deliver(row)
                } else {
                    try await deliverNote(instance)
                    mayGoOn = false
                }
            } catch {
                log.error("the outbox failed", ["instance": instance, "error": LoggedError(error)])
                pause(instance)
                mayGoOn = false
            }
        }
        busy.remove(instance)
        wake()
    }

    /// True when the row is done with.
    private func deliver(_ row: OutboxRow) async throws -> Bool {
        do {
            try await RequestScope.$current.withValue(row.requestID.rawValue.isEmpty ? nil : row.requestID) {
                try await send(row)
            }
            sent.increment(labels: [("result", "taken")])
            lag.observe(journal.now().since(row.createdAt).inSeconds)
        } catch let failure as Failure {
            if Task.isCancelled { return false }
            switch failure.kind {
            case .notFound, .conflict, .invalidParameters, .idempotencyMismatch, .methodNotFound, .unsupportedVersion:
                // The conductor will never take it: the instance is gone, or a newer action has overtaken the report.
                sent.increment(labels: [("result", "refused")])
                log.info("a report was refused", ["instance": row.instance, "failure": failure])
            case .unreachable, .timeout:
                sent.increment(labels: [("result", "unreachable")])
                if linkPause == nil { log.warning("no conductor answers", ["failure": failure]) }
                linkPause = later(linkPause)
                return false
            default:
                sent.increment(labels: [("result", "failed")])
                log.warning("a report could not be delivered", ["instance": row.instance, "failure": failure])
                pause(row.instance)
                return false
            }
        }
        linkPause = nil
        pauses[row.instance] = nil
        try await journal.database.write { try $0.removeOutbox(row.position) }
        return true
    }

    private func send(_ row: OutboxRow) async throws {
        switch row.kind {
        case .operation:
            let report = try decode(ReportOperation.Params.self, row.payload)
            _ = try await client.call(ReportOperation.self, report, idempotencyKey: row.idempotencyKey)
        case .state:
            let report = try decode(ReportInstance.Params.self, row.payload)
            _ = try await client.call(ReportInstance.self, report, idempotencyKey: row.idempotencyKey)
        case .dropped:
            let count = try decode(Int.self, row.payload)
            log.error("outcomes were dropped before they could be told", ["instance": row.instance, "count": count])
            // The outcomes are lost, the present state is not.
            let (guest, fence) = try await journal.database.read {
                (try $0.guest(row.instance), try $0.fence(row.instance))
            }
            guard let guest, let fence else { return }
            let report = ReportInstance.Params(
                host: host, instance: row.instance, fence: fence, vmState: guest.vmState,
                powerState: guest.powerState, taskState: nil, interfaces: guest.specification.interfaces,
                sequence: sequence(), observedAt: journal.now())
            _ = try await client.call(ReportInstance.self, report, idempotencyKey: row.idempotencyKey)
        }
    }

    private func deliverNote(_ instance: InstanceID) async throws {
        guard let note = notes[instance], note.due <= .now else { return }
        notes[instance] = nil
        let (guest, lane) = try await journal.database.read { (try $0.guest(instance), try $0.lane(instance)) }
        guard let operation = lane.first else { return }
        let report = ReportInstance.Params(
            host: host, instance: instance, fence: operation.fence, vmState: nil,
            powerState: guest?.powerState ?? .noState, taskState: note.state, interfaces: nil,
            progress: note.progress, sequence: sequence(), observedAt: journal.now())
        do {
            _ = try await RequestScope.$current.withValue(operation.requestID) {
                try await client.call(ReportInstance.self, report)
            }
        } catch {
            // Progress only: the outcome will tell.
            log.debug("progress was not told", ["instance": instance, "error": LoggedError(error)])
        }
    }

    private func pause(_ instance: InstanceID) { pauses[instance] = later(pauses[instance]) }

    /// The pause after one more failure: doubled each time, with jitter so that agents do not knock in step.
    private func later(_ pause: Pause?) -> Pause {
        // Failures of deliveries that ran side by side count once.
        if let pause, pause.until > .now { return pause }
        let failures = min((pause?.failures ?? 0) + 1, 20)
        let delay = min(pace.firstDelay * (1 << min(failures - 1, 16)), pace.longestDelay)
        return Pause(failures: failures, until: .now + delay * Double.random(in: 0.5...1))
    }
}
