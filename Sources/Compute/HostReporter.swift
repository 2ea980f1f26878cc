internal import Model
internal import RPC
internal import SQLite
internal import Telemetry

/// Tells the conductor what the host has and has promised: after each claim and release, and whenever it is measured.
/// Reports that come close together are one; only the newest counts, so none is kept on disk.
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
    private let triggers: AsyncStream<Void>
    private nonisolated let sink: AsyncStream<Void>.Continuation
    private let log = Logger("agent.report")
    private let reports = Metrics.shared.counter("agent_host_reports_total", help: "Host reports, by result.")

    private var capacity: HostCapacity
    private var failures = 0

    init(
        _ subject: Subject, capacity: HostCapacity, driver: any VirtDriver, journal: Journal,
        tracker: ResourceTracker, client: RPCClient, triggers: (AsyncStream<Void>, AsyncStream<Void>.Continuation),
        sequence: @escaping @Sendable () -> Int64, strays: StrayList
    ) {
        (self.subject, self.capacity, self.driver) = (subject, capacity, driver)
        (self.journal, self.tracker, self.client) = (journal, tracker, client)
        (self.triggers, sink) = triggers
        (self.sequence, self.strays) = (sequence, strays)
    }

    /// Has a report sent soon. Never waits.
    nonisolated func trigger() { sink.yield() }

    /// Measures the host anew and has it reported.
    func measure() async throws {
        capacity = try await driver.capacity()
        tracker.measured(capacity.total)
        trigger()
    }

    /// Sends reports until it is cancelled. The first goes at once.
    func run() async {
        trigger()
        await withDiscardingTaskGroup { group in
            for await _ in triggers {
                do {
                    _ = try await client.call(ReportHost.self, .init(report: try await report()))
                    failures = 0
                    reports.increment(labels: [("result", "taken")])
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

    /// The report as it would be sent now.
    func report() async throws -> HostReport {
        let ledger = tracker.snapshot
        let (instances, workload) = try await journal.database.read { connection in
            (try connection.guests().count, Set(try connection.openOperations().map(\.instance)).count)
        }
        var report = HostReport(
            host: subject.host, uuid: subject.uuid, hypervisorHostname: capacity.hypervisorHostname,
            hypervisorType: capacity.hypervisorType, hypervisorVersion: capacity.hypervisorVersion,
            hostAddress: subject.address, total: ledger.total, reserved: ledger.reserved, used: ledger.used,
            ratios: ledger.ratios, diskAvailableLeastGiB: capacity.diskAvailableLeastGiB,
            runningInstances: instances, workload: workload, cpuModel: capacity.cpuModel,
            cpuVendor: capacity.cpuVendor, architecture: capacity.architecture, cpuTopology: capacity.cpuTopology,
            cpuFeatures: capacity.cpuFeatures, uptimeSeconds: capacity.uptimeSeconds, sequence: sequence(),
            measuredAt: journal.now())
        report.strays = strays.current
        return report
    }
}
