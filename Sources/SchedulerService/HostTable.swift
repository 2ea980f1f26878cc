internal import Database
internal import Model
internal import Scheduling
internal import Telemetry

/// The scheduler's hosts: refreshed by change before each decision, consumed by it.
actor HostTable {
    private let database: ControlDatabase
    private let downAfter: Duration
    private let zone: String
    private let options: SchedulingOptions
    private let now: @Sendable () -> Timestamp
    private var scheduler: FilterScheduler
    private var revision: Int64 = 0
    private var refreshedAt: Timestamp?
    private var serviceMark: ServiceMark?
    private var services: [HostName: ServiceRecord] = [:]
    /// When the first of those that are up has not been heard of for too long, unless it is until then.
    private var nextExpiry = Timestamp(microseconds: .min)
    /// Of the aggregates that the hosts have been put into.
    private var aggregateRevision: Int64?
    private var facts: [HostName: [AggregateFacts]] = [:]
    private var zones: [HostName: String] = [:]
    /// Where members of groups were put that the database may not show yet.
    private var picks = GroupPicks()
    /// What the attestation service says.
    private var trust: [HostName: String] = [:]
    private var trustEnd: ContinuousClock.Instant?
    private let log = Logger("scheduler")
    private var generator = SystemRandomNumberGenerator()
    private var underWay: Task<Void, any Error>?
    /// One that begins when the one under way has ended.
    private var waiting: Task<Void, any Error>?
    private(set) var refreshCount = 0
    private let refreshes = Metrics.shared.counter("scheduler_refreshes_total", help: "Looks for what has changed.")
    private let decisions = Metrics.shared.counter(
        "scheduler_decisions_total", help: "Decisions by outcome.")
    private let known = Metrics.shared.gauge("scheduler_hosts", help: "Hosts in the scheduler's table.")

    init(
        database: ControlDatabase, downAfter: Duration, zone: String, scheduler: FilterScheduler,
        options: SchedulingOptions, now: @escaping @Sendable () -> Timestamp
    ) {
        (self.database, self.downAfter, self.options) = (database, downAfter, options)
        (self.zone, self.scheduler, self.now) = (zone, scheduler, now)
    }

    func select(_ asked: PlacementRequest) async throws -> PlacementDecision {
        var request = try await RequestFacts(database: database, options: options).complete(asked)
        try await refreshIfStale()
        // No suspension from here on: what is seen is what is consumed.
        let moment = now()
        picks.complete(&request, at: moment)
        let decision = decide(request, at: moment)
        switch decision {
        case .placed(let selections):
            decisions.increment(labels: [("outcome", "placed")])
            picks.note(selections, of: request, at: moment)
            log.info(
                "placed",
                [
                    "instance": request.instances.first, "count": request.instances.count,
                    "host": selections.first?.first,
                ])
        case .refused(let refusal):
            decisions.increment(labels: [("outcome", "refused")])
            log.notice(
                "no host",
                [
                    "instance": request.instances.first, "count": request.instances.count,
                    "hosts": refusal.hostsConsidered,
                    "reasons": refusal.details.split(separator: "\n").joined(separator: "; "),
                ])
        }
        return decision
    }

    /// Why `host` may not have the image of `request` for an instance that it has; `nil` where it may. Takes nothing.
    func check(_ request: PlacementRequest, on host: HostName) async throws -> PlacementRefusal? {
        try await refreshIfStale()
        let refusal: PlacementRefusal? =
            switch options.driver {
            case .filter, .caching: scheduler.refusal(toRebuild: request, on: host)
            // One that looks at nothing has nothing against a host.
            case .chance: nil
            case .fake: Self.notChosen(among: 1)
            }
        decisions.increment(labels: [("outcome", refusal == nil ? "rebuild_allowed" : "rebuild_refused")])
        if let refusal {
            log.notice(
                "a host may not have an image",
                ["instance": request.instances.first, "host": host, "reasons": refusal.message])
        }
        return refusal
    }

    /// The hosts that there are.
    func names() async throws -> [HostName] {
        try await refreshIfStale()
        return scheduler.hosts.map(\.name)
    }

    /// Takes the levels of the attestation service, in place of all that were known.
    ///
    /// - Parameters:
    ///   - levels: a host that is not named has none.
    ///   - end: from when on none is believed.
    func attest(_ levels: [HostName: String], until end: ContinuousClock.Instant) {
        (trust, trustEnd) = (levels, end)
        for host in scheduler.hosts { scheduler.setTrustLevel(of: host.name, levels[host.name]) }
    }

    private func forgetOldTrust() {
        guard let trustEnd, ContinuousClock.now >= trustEnd else { return }
        attest([:], until: trustEnd)
        self.trustEnd = nil
    }

    private func refreshIfStale() async throws {
        defer { forgetOldTrust() }
        guard isStale(at: now()) else { return }
        try await nextRefresh().value
    }

    /// The refresh that begins next: it sees all that was written before, and all who ask meanwhile share it. Two at once
    /// would read the same rows, and the older reading might be applied last.
    private func nextRefresh() -> Task<Void, any Error> {
        if let waiting { return waiting }
        let earlier = underWay
        let task = Task {
            _ = await earlier?.result
            if earlier != nil { (underWay, waiting) = (waiting, nil) }
            defer { if waiting == nil { underWay = nil } }
            try await refresh()
        }
        if earlier == nil { underWay = task } else { waiting = task }
        return task
    }

    private func refresh() async throws {
        let changes = try await database.hosts.changes(since: revision)
        let agents = try await database.services.changes(since: serviceMark, binary: "nova-compute")
        let aggregates = try await database.aggregates.table()
        refresh(changes, agents, aggregates, at: now())
        refreshes.increment()
        refreshCount += 1
    }

    /// Reads the hosts before anybody asks for one: of many thousands that takes seconds.
    func warm() async {
        do {
            try await nextRefresh().value
        } catch {
            log.warning("the hosts cannot be read yet", ["error": LoggedError(error)])
        }
    }

    /// The caching driver decides on what it has read, for as long as the interval says; the others on what there is.
    private func isStale(at moment: Timestamp) -> Bool {
        guard options.driver == .caching, let refreshedAt else { return true }
        return moment.since(refreshedAt) >= options.refreshInterval || moment < refreshedAt
    }

    private func refresh(
        _ changes: [HostRecord], _ agents: ServiceChanges, _ aggregates: AggregateTable, at moment: Timestamp
    ) {
        apply(changes, aggregates)
        if agents.isAll { services = [:] }
        for agent in agents.services { services[agent.host] = agent }
        serviceMark = agents.mark
        let isBack = refreshedAt.map { moment < $0 } ?? false
        if agents.isAll || isBack || moment > nextExpiry {
            nextExpiry = moment + downAfter
            for name in scheduler.hosts.map(\.name) { setStatus(of: name, at: moment) }
        } else {
            for agent in agents.services { setStatus(of: agent.host, at: moment) }
            for change in changes where !change.isDeleted { setStatus(of: change.report.host, at: moment) }
        }
        refreshedAt = moment
        known.set(Double(scheduler.hosts.count))
    }

    /// A host whose heartbeats stay away is found down by the first decision after its time, which looks at all of them;
    /// others look only at what has changed.
    private func setStatus(of name: HostName, at moment: Timestamp) {
        let service = services[name]
        let isUp = service?.isUp(now: moment, downAfter: downAfter) ?? false
        if isUp, let seen = service?.lastSeenAt { nextExpiry = min(nextExpiry, seen + downAfter) }
        scheduler.setStatus(of: name, isUp: isUp, isDisabled: service?.isDisabled ?? false)
    }

    private func decide(_ request: PlacementRequest, at moment: Timestamp) -> PlacementDecision {
        switch options.driver {
        case .filter, .caching: return scheduler.select(request, now: moment, using: &generator)
        case .chance: return ChanceScheduler.select(among: scheduler.hosts, request, using: &generator)
        case .fake: return .refused(Self.notChosen(among: scheduler.hosts.count))
        }
    }

    private static func notChosen(among count: Int) -> PlacementRefusal {
        let reason = PlacementRefusal.Reason(
            filter: "FakeScheduler", reason: "not chosen", hosts: count, nearestMiss: nil)
        return PlacementRefusal(hostsConsidered: count, reasons: count == 0 ? [] : [reason])
    }

    private func apply(_ changes: [HostRecord], _ aggregates: AggregateTable) {
        let isRegrouped = aggregateRevision != aggregates.revision
        if isRegrouped {
            facts = AggregateFacts.byHost(aggregates.aggregates)
            (zones, aggregateRevision) = (aggregates.zones, aggregates.revision)
            for aggregate in aggregates.aggregates {
                // Said when the aggregates are read, not with each decision.
                for (key, value) in AggregateFacts(name: aggregate.name, metadata: aggregate.metadata).unreadable {
                    log.warning(
                        "an aggregate's number is none; it is passed over",
                        ["aggregate": aggregate.name, "key": key, "value": value])
                }
            }
        }
        for change in changes {
            revision = max(revision, change.revision)
            let name = change.report.host
            if change.isDeleted {
                scheduler.remove(name)
            } else {
                scheduler.update(HostState(report: change.report, isDisabled: false, isUp: false))
                scheduler.setAggregates(of: name, facts[name] ?? [], zone: zones[name] ?? zone)
                scheduler.setTrustLevel(of: name, trust[name])
            }
        }
        guard isRegrouped else { return }
        for name in scheduler.hosts.map(\.name) {
            scheduler.setAggregates(of: name, facts[name] ?? [], zone: zones[name] ?? zone)
        }
    }
}

/// Where this scheduler has put members of server groups lately: of two that are placed at once, the second must see the
/// first, which the database may not show yet.
struct GroupPicks {
    private static let lifetime = Duration.seconds(60)
    private static let limit = 10_000

    private struct Pick {
        var group: ServerGroupID
        var host: HostName
        var at: Timestamp
    }
    private var picks: [InstanceID: Pick] = [:]

    /// Adds to the request's group what the database did not show.
    mutating func complete(_ request: inout PlacementRequest, at moment: Timestamp) {
        guard let id = request.group?.id else { return }
        picks = picks.filter { moment.since($0.value.at) < Self.lifetime }
        for (instance, pick) in picks where pick.group == id && !request.instances.contains(instance) {
            // One that has failed, or has been deleted, takes no place; one that has a host is counted there.
            if request.unplacedMembers?.contains(instance) == true {
                request.group?.members[pick.host, default: 0] += 1
            }
        }
    }

    mutating func note(_ selections: [[HostName]], of request: PlacementRequest, at moment: Timestamp) {
        guard let id = request.group?.id, picks.count < Self.limit else { return }
        for (instance, hosts) in zip(request.instances, selections) {
            if let host = hosts.first { picks[instance] = Pick(group: id, host: host, at: moment) }
        }
    }
}
