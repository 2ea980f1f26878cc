internal import Database
internal import Model
internal import Scheduling
internal import Telemetry

/// The scheduler's hosts: refreshed by change before each decision, consumed by it.
actor HostTable {
    private let hosts: HostStore
    private let services: ServiceStore
    private let downAfter: Duration
    private let zone: String
    private let now: @Sendable () -> Timestamp
    private var scheduler: FilterScheduler
    private var revision: Int64 = 0
    private var generator = SystemRandomNumberGenerator()
    private let decisions = Metrics.shared.counter(
        "scheduler_decisions_total", help: "Decisions by outcome.")
    private let known = Metrics.shared.gauge("scheduler_hosts", help: "Hosts in the scheduler's table.")

    init(
        hosts: HostStore, services: ServiceStore, downAfter: Duration, zone: String, scheduler: FilterScheduler,
        now: @escaping @Sendable () -> Timestamp
    ) {
        (self.hosts, self.services, self.downAfter) = (hosts, services, downAfter)
        (self.zone, self.scheduler, self.now) = (zone, scheduler, now)
    }

    func select(_ request: PlacementRequest) async throws -> PlacementDecision {
        let changes = try await hosts.changes(since: revision)
        let agents = try await services.list(binary: "nova-compute")
        // No suspension from here on: what is seen is what is consumed.
        let moment = now()
        var status: [HostName: ServiceRecord] = [:]
        for agent in agents { status[agent.host] = agent }
        for change in changes {
            revision = max(revision, change.revision)
            if change.isDeleted {
                scheduler.remove(change.report.host)
            } else {
                scheduler.update(
                    HostState(report: change.report, availabilityZone: zone, isDisabled: false, isUp: false))
            }
        }
        for name in scheduler.hosts.map(\.name) {
            let service = status[name]
            scheduler.setStatus(
                of: name, isUp: service?.isUp(now: moment, downAfter: downAfter) ?? false,
                isDisabled: service?.isDisabled ?? false)
        }
        known.set(Double(scheduler.hosts.count))
        let decision = scheduler.select(request, now: moment, using: &generator)
        switch decision {
        case .placed: decisions.increment(labels: [("outcome", "placed")])
        case .refused: decisions.increment(labels: [("outcome", "refused")])
        }
        return decision
    }
}
