internal import Model
internal import PCIDevices
internal import RPC
internal import SQL
internal import SQLite
internal import Telemetry

/// Tells the conductor what the host has and has promised: after each claim and release, and whenever it is measured.
/// Reports that come close together are one; only the newest counts, so none is kept on disk.
///
/// The first report is whole; those after it say only what has changed since the last one that was taken, until the
/// conductor has another base and asks for the whole.
actor HostReporter {
    struct Subject: Sendable {
        let host: HostName
        let uuid: String
        let address: String
    }

    private let subject: Subject
    private let driver: any VirtDriver
    private let journal: Journal
    private let tracker: ResourceTracker
    private let client: RPCClient
    private let sequence: @Sendable () -> Int64
    private let strays: StrayList
    private let builds: BuildCount
    private let measuresProcessors: Bool
    private let topologySettings: TopologySettings
    private let deviceSettings: DeviceSettings
    /// How long a guest's start waits for its claim to be known.
    private static let patience = Duration.seconds(2)
    private let triggers: AsyncStream<Void>
    private nonisolated let sink: AsyncStream<Void>.Continuation
    private let log = Logger("agent.report")
    private let reports = Metrics.shared.counter("agent_host_reports_total", help: "Host reports, by result.")

    private var capacity: HostCapacity
    private var measuredAt: Timestamp
    private var failures = 0
    /// The last report that was taken.
    private var taken: HostReport?
    /// Whether the conductor is to be asked if it still has that, although nothing has changed.
    private var mustConfirm = false
    /// How many reports were begun, how many came to an end, and who waits for which.
    private var rounds = (begun: 0, ended: 0)
    private var waiters: [Int: (round: Int, continuation: CheckedContinuation<Void, Never>)] = [:]
    private var nextWaiter = 0
    private var isRunning = false
    private var metrics: [HostMetric]?
    /// What is configured and the host does not have.
    private var misfits: [String] = []

    init(
        _ subject: Subject, capacity: HostCapacity, driver: any VirtDriver, journal: Journal,
        tracker: ResourceTracker, client: RPCClient, triggers: (AsyncStream<Void>, AsyncStream<Void>.Continuation),
        sequence: @escaping @Sendable () -> Int64, strays: StrayList, builds: BuildCount, measuresProcessors: Bool,
        topologySettings: TopologySettings, deviceSettings: DeviceSettings
    ) {
        self.deviceSettings = deviceSettings
        (self.builds, self.measuresProcessors) = (builds, measuresProcessors)
        self.topologySettings = topologySettings
        (self.subject, self.capacity, self.driver) = (subject, capacity, driver)
        (self.journal, self.tracker, self.client) = (journal, tracker, client)
        (self.triggers, sink) = triggers
        (self.sequence, self.strays) = (sequence, strays)
        measuredAt = journal.now()
    }

    /// Has a report sent soon. Never waits.
    nonisolated func trigger() { sink.yield() }

    /// Measures the host anew and has it reported.
    func measure() async throws {
        capacity = try await driver.capacity()
        measuredAt = journal.now()
        let found = topologySettings.apply(to: capacity)
        tracker.measured(found.total, found.topology)
        note(misfits: found.misfits)
        if measuresProcessors { await measureProcessors() }
        // Devices that cannot be listed stay what they were, and keep nothing else from being told.
        let devices: Result<[PCIDevice], any Error>
        do {
            devices = .success(try await deviceSettings.devices(of: driver))
        } catch {
            devices = .failure(error)
        }
        if case .success(let found) = devices { tracker.found(found) }
        let mediated: Result<MediatedDeviceInventory, any Error>
        do {
            mediated = .success(try await deviceSettings.mediatedDevices(of: driver))
        } catch {
            mediated = .failure(error)
        }
        if case .success(let found) = mediated { tracker.found(found) }
        mustConfirm = true
        trigger()
        _ = (try devices.get(), try mediated.get())
    }

    /// A host that no longer has what is configured goes on with what is there; each change of that is told once.
    private func note(misfits found: [String]) {
        guard found != misfits else { return }
        misfits = found
        if found.isEmpty {
            log.notice("the host has all that is configured again")
        } else {
            log.warning("the host has not all that is configured", ["missing": found.joined(separator: "; ")])
        }
    }

    /// Waits until what is claimed now has been reported, or a report that holds it has failed: a conductor that is away
    /// holds up no guest.
    func reported() async {
        guard isRunning else { return }
        let (round, id) = (rounds.begun + 1, nextWaiter)
        nextWaiter += 1
        trigger()
        let alarm = Task {
            do { try await AlarmClock().sleep(for: Self.patience) } catch { return }
            self.release(id)
        }
        defer { alarm.cancel() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled { return continuation.resume() }
                waiters[id] = (round, continuation)
            }
        } onCancel: {
            Task { await self.release(id) }
        }
    }

    /// A hypervisor that does not tell how busy it is has no metrics; the rest of the report goes all the same.
    private func measureProcessors() async {
        do {
            metrics = try await driver.hostMetrics()
        } catch {
            if metrics != nil { log.warning("the processors cannot be measured", ["error": LoggedError(error)]) }
            metrics = nil
        }
    }

    private func release(_ id: Int) { waiters.removeValue(forKey: id)?.continuation.resume() }

    private func endRound() {
        rounds.ended += 1
        for (id, waiter) in waiters where waiter.round <= rounds.ended { release(id) }
    }

    /// Sends reports until it is cancelled. The first goes at once.
    func run() async {
        isRunning = true
        defer {
            isRunning = false
            for id in waiters.keys { release(id) }
        }
        trigger()
        await withDiscardingTaskGroup { group in
            for await _ in triggers {
                rounds.begun += 1
                defer { endRound() }
                do {
                    try await tell(try await report())
                    failures = 0
                } catch {
                    if Task.isCancelled { return }
                    reports.increment(labels: [("result", "failed")])
                    if failures == 0 { log.warning("the host report was not taken", ["error": LoggedError(error)]) }
                    failures += 1
                    guard failures < 1_000_000 else { continue }
                    let delay = min(Duration.milliseconds(250) * (1 << min(failures, 10)), .seconds(30))
                    let wait = delay * Double.random(in: 0.5...1)
                    group.addTask {
                        do { try await AlarmClock().sleep(for: wait) } catch { return }
                        self.trigger()
                    }
                }
            }
        }
    }

    private func tell(_ report: HostReport) async throws {
        if let base = taken, let usage = report.usage(since: base) {
            guard mustConfirm || !usage.isEmpty else { return }
            mustConfirm = false
            let answer = try await client.call(
                ReportHostChange.self,
                .init(
                    host: report.host, uuid: report.uuid, base: base.sequence, sequence: report.sequence,
                    measuredAt: report.measuredAt, usage: usage.isEmpty ? nil : usage))
            if answer.isTaken {
                reports.increment(labels: [("result", usage.isEmpty ? "confirmed" : "change")])
                // What was confirmed is stored under its own number.
                if !usage.isEmpty { taken = report }
                return
            }
            log.notice("the conductor wants the whole host report")
        }
        (taken, mustConfirm) = (nil, false)
        _ = try await client.call(ReportHost.self, .init(report: report))
        reports.increment(labels: [("result", "whole")])
        taken = report
    }

    /// The report as it would be sent now.
    func report() async throws -> HostReport {
        let ledger = tracker.snapshot
        let (instances, open) = try await journal.database.read { connection in
            (try connection.guestCount(), try connection.openOperations())
        }
        let workload = Set(open.map(\.instance)).count
        var report = HostReport(
            host: subject.host, uuid: subject.uuid, hypervisorHostname: capacity.hypervisorHostname,
            hypervisorType: capacity.hypervisorType, hypervisorVersion: capacity.hypervisorVersion,
            hostAddress: subject.address, total: ledger.total, reserved: ledger.reserved, used: ledger.used,
            ratios: ledger.ratios, diskAvailableLeastGiB: capacity.diskAvailableLeastGiB,
            runningInstances: instances, workload: workload, cpuModel: capacity.cpuModel,
            cpuVendor: capacity.cpuVendor, architecture: capacity.architecture, cpuTopology: capacity.cpuTopology,
            cpuFeatures: capacity.cpuFeatures, uptimeSeconds: capacity.uptimeSeconds, sequence: sequence(),
            measuredAt: measuredAt)
        report.strays = strays.current
        report.renew(sequence: report.sequence, measuredAt: journal.now())
        report.traits = capacity.traits.isEmpty ? nil : capacity.traits
        report.sharedStorage = capacity.sharedStorage
        report.ioWorkload = Set(open.filter(\.kind.burdensDisks).map(\.instance)).count
        report.failedBuilds = builds.failed
        report.guestOverheadMiB = ledger.guestOverheadMiB
        report.cells = ledger.cells
        report.pciPools = ledger.pools
        report.mediatedDevicePools = ledger.mediatedPools
        report.metrics = metrics
        return report
    }
}
