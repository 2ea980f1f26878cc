public import Model

/// Moves that would make hosts more alike in how full they are, in the order in which they are to be made.
public struct RebalancePlan: Sendable, Hashable {
    public struct Move: Sendable, Hashable {
        public var server: InstanceID
        public var name: String
        public var from: HostName
        public var to: HostName
        /// What it takes from a host.
        public var resources: Resources
        /// What each weigher gives its host, without it, and the one that it is to go to: the others that pass are weighed
        /// with them.
        public var weightsFrom: [DecisionExplanation.Weight]
        public var weightsTo: [DecisionExplanation.Weight]
        /// As `LoadSpread.overall`, before this move and after it.
        public var spreadBefore: Double
        public var spreadAfter: Double

        public var weightFrom: Double { weightsFrom.reduce(0) { $0 + $1.weighted } }
        public var weightTo: Double { weightsTo.reduce(0) { $0 + $1.weighted } }
    }

    public struct Host: Sendable, Hashable {
        public var name: HostName
        /// Shares of what may be promised, 1 being all.
        public var before: [LoadResource: Double]
        public var after: [LoadResource: Double]
    }

    /// Why a server that may be moved has no move.
    public enum Reason: String, Sendable, Hashable, CaseIterable {
        /// Wherever it went, the hosts would be no nearer to each other, or by too little.
        case noGain = "no_gain"
        /// The filters let no other host pass.
        case refused
        /// The weighers put its own host before all others that pass.
        case preferred
        /// The hosts that the weighers put before its own are as full, or would be.
        case noGainThere = "no_gain_there"
    }

    /// Why there are no more moves.
    public enum End: String, Sendable, Hashable {
        /// As many as were allowed.
        case limit
        /// No further one lowers the spread by enough.
        case exhausted
        /// Fewer than two hosts can share anything.
        case tooFewHosts = "too_few_hosts"
        /// No weigher that prefers free processors, memory or disk has a positive multiplier.
        case packing
    }

    public var moves: [Move] = []
    public var before: LoadSpread
    public var after: LoadSpread
    /// How much each resource counts: the multiplier of its weigher, where that is positive.
    public var weights: [LoadResource: Double]
    /// By name.
    public var hosts: [Host]
    /// Hosts of the scope that are disabled or down: nothing comes to them, and nothing is taken from them.
    public var unusableHosts: [HostName]
    /// How many servers are on the hosts of the scope.
    public var servers: Int
    public var obstacles: [MoveObstacle: Int]
    /// Those that may be moved and have no move; empty where `end` is not `exhausted`, for then not all were looked at.
    public var unmoved: [Reason: Int]
    public var end: End
}

/// Finds moves that lower the spread of load over a fleet. A value: no I/O, no clock, no chance; the same fleet gives the
/// same plan.
///
/// Of the fullest host that server is moved which evens out most, the smallest of several; it goes to the host that the scheduler would choose: the
/// best by its weighers of those that all of its filters let pass, that weigh more than the server's own host without it,
/// and that lower the spread. Each move sees the ones before it. A server is moved once at most.
public struct Rebalancer: Sendable {
    public struct Limits: Sendable, Hashable {
        /// How many moves there may be.
        public var moves: Int
        /// How far two hosts must lie apart for a move between them: the mean of before and after it, as a share of what
        /// they may promise.
        public var leastGap: Double

        public init(moves: Int = 20, leastGap: Double = 0.02) { (self.moves, self.leastGap) = (moves, leastGap) }
    }

    /// Which hosts share load with each other; the others neither give nor take.
    public struct Scope: Sendable, Hashable {
        /// `nil`: whatever the zone.
        public var zone: String?
        /// The name of an aggregate; `nil`: whatever the aggregate.
        public var aggregate: String?

        public init(zone: String? = nil, aggregate: String? = nil) { (self.zone, self.aggregate) = (zone, aggregate) }

        public func contains(_ host: HostState) -> Bool {
            (zone == nil || host.availabilityZone == zone)
                && (aggregate == nil || host.aggregates.contains { $0.name == aggregate })
        }
    }

    private struct Candidate {
        var server: Int
        var to: HostName
        var gain: Double
    }

    private let limits: Limits
    private let weights: [LoadResource: Double]
    /// Over the hosts of the scope that can be used.
    private var scheduler: FilterScheduler
    private var load: FleetLoad
    private var placement: Placement
    /// Indices of those that may still be moved.
    private var movable: [HostName: [Int]] = [:]
    private var obstacles: [MoveObstacle: Int] = [:]
    private var reasons: [Int: RebalancePlan.Reason] = [:]
    private var unusableHosts: [HostName] = []
    private var count = 0

    /// - Parameters:
    ///   - scheduler: with all hosts of the fleet.
    ///   - servers: all of the fleet, whether they may be moved or not: filters ask where others are.
    public init(
        _ scheduler: FilterScheduler, servers: [PlacedServer], scope: Scope = Scope(), limits: Limits = Limits()
    ) {
        var table = scheduler
        let known = Set(table.hosts.map(\.name))
        var own: Set<HostName> = []
        for host in scheduler.hosts {
            if scope.contains(host) { own.insert(host.name) }
            if own.contains(host.name), host.isUp, !host.isDisabled { continue }
            table.remove(host.name)
            if own.contains(host.name) { unusableHosts.append(host.name) }
        }
        unusableHosts.sort()
        let usable = Set(table.hosts.map(\.name))
        placement = Placement(servers.sorted { $0.id < $1.id }, for: table)
        for (index, server) in placement.servers.enumerated() {
            let isElsewhere = known.contains(server.host) && !own.contains(server.host)
            // A host that nobody knows is in no zone and no aggregate.
            if isElsewhere || (!known.contains(server.host) && scope != Scope()) { continue }
            count += 1
            let hostObstacle: MoveObstacle? =
                known.contains(server.host) ? usable.contains(server.host) ? nil : .hostUnusable : .hostUnknown
            if let obstacle = hostObstacle ?? server.obstacle {
                obstacles[obstacle, default: 0] += 1
            } else {
                movable[server.host, default: []].append(index)
            }
        }
        var weights: [LoadResource: Double] = [:]
        for resource in LoadResource.allCases {
            for weigher in table.weighers where weigher.name == resource.weigher && weigher.multiplier > 0 {
                weights[resource] = weigher.multiplier
            }
        }
        (self.scheduler, self.limits, self.weights) = (table, limits, weights)
        load = FleetLoad(table.hosts, weights: weights)
    }

    /// The plan. Takes as long as a decision for each of the servers of a host, for every host and twice for every move.
    public mutating func plan() -> RebalancePlan {
        let (before, shares) = (load.summary, load.shares)
        var plan = RebalancePlan(
            before: before, after: before, weights: weights, hosts: [], unusableHosts: unusableHosts, servers: count,
            obstacles: obstacles, unmoved: [:], end: .exhausted)
        if weights.isEmpty {
            plan.end = .packing
        } else if load.names.count < 2 {
            plan.end = .tooFewHosts
        } else {
            (plan.moves, plan.end) = moves()
        }
        plan.after = load.summary
        if plan.end == .exhausted {
            for reason in reasons.values { plan.unmoved[reason, default: 0] += 1 }
        }
        for (place, name) in load.names.enumerated() {
            var host = RebalancePlan.Host(name: name, before: [:], after: [:])
            for resource in plan.before.figures.keys {
                host.before[resource] = FleetLoad.share(of: resource, in: shares[place])
                host.after[resource] = FleetLoad.share(of: resource, in: load.shares[place])
            }
            plan.hosts.append(host)
        }
        return plan
    }

    private mutating func moves() -> ([RebalancePlan.Move], RebalancePlan.End) {
        var found: [RebalancePlan.Move] = []
        /// Hosts of which nothing can be moved. What comes to one, or goes from it, has it looked at again: a host is
        /// looked at once, and twice more for each move.
        var exhausted: Set<Int> = []
        while true {
            let open = load.names.indices.filter { !exhausted.contains($0) }
            guard let fullest = open.max(by: { load.level($0) < load.level($1) }) else { return (found, .exhausted) }
            guard let candidate = best(from: fullest) else {
                exhausted.insert(fullest)
                continue
            }
            guard found.count < limits.moves else { return (found, .limit) }
            found.append(make(candidate, from: load.names[fullest]))
            for name in [found[found.count - 1].from, candidate.to] {
                if let place = load.places[name] { exhausted.remove(place) }
            }
        }
    }

    /// The move of one of a host's servers that gains most. Where there is none, the reasons are noted.
    private mutating func best(from place: Int) -> Candidate? {
        let host = load.names[place]
        var mostGains: [Resources: Double] = [:]
        var hopes: [(server: Int, most: Double)] = []
        for index in movable[host] ?? [] {
            let guest = placement.servers[index].request.resources
            let most =
                mostGains[guest] ?? load.mostGain(of: guest, from: place, leastGap: limits.leastGap)
            mostGains[guest] = most
            if most > 0 { hopes.append((index, most)) } else { reasons[index] = .noGain }
        }
        // Of those that gain as much, but for what rounding leaves, the smallest is the least to move.
        hopes.sort { left, right in
            let (one, other) = (Float(left.most), Float(right.most))
            guard one == other else { return one > other }
            let sizes = [left, right].map { placement.servers[$0.server].request.resources }
            return (sizes[0].memoryMiB, sizes[0].diskGiB, sizes[0].vcpus, left.server)
                < (sizes[1].memoryMiB, sizes[1].diskGiB, sizes[1].vcpus, right.server)
        }
        var best: Candidate?
        // Servers that ask the same have the same answer.
        var seen: [PlacementRequest: RebalancePlan.Reason?] = [:]
        for (index, most) in hopes {
            if let best, Float(most) <= Float(best.gain) { break }
            var request = placement.request(of: index)
            request.instances = []
            if let known = seen[request] {
                reasons[index] = known
                continue
            }
            switch look(index, request, from: place) {
            case .success(let candidate):
                seen[request] = .some(nil)
                reasons[index] = nil
                if Float(candidate.gain) > Float(best?.gain ?? 0) { best = candidate }
            case .failure(let reason):
                seen[request] = reason
                reasons[index] = reason
            }
        }
        return best
    }

    /// Where a server is to go, or why nowhere.
    private mutating func look(
        _ index: Int, _ request: PlacementRequest, from place: Int
    ) -> Result<Candidate, RebalancePlan.Reason> {
        let host = load.names[place]
        guard let state = scheduler.host(named: host) else { return .failure(.refused) }
        scheduler.takeOut(request, from: host)
        let preference = scheduler.preference(of: request, over: host)
        scheduler.change(host) { $0 = state }
        guard preference.passing > 0 else { return .failure(.refused) }
        guard !preference.better.isEmpty else { return .failure(.preferred) }
        for (name, _) in preference.better {
            guard let other = load.places[name] else { continue }
            let effect = load.effect(of: request.resources, from: place, to: other)
            if effect.gain > 0, effect.gap >= limits.leastGap {
                return .success(Candidate(server: index, to: name, gain: effect.gain))
            }
        }
        return .failure(.noGainThere)
    }

    /// Has the scheduler place the server where it is to go.
    private mutating func make(_ candidate: Candidate, from host: HostName) -> RebalancePlan.Move {
        let server = placement.servers[candidate.server]
        var request = placement.request(of: candidate.server)
        scheduler.takeOut(request, from: host)
        let (own, other) = scheduler.weights(of: request, on: host, and: candidate.to)
        let spread = load.spread
        request.requestedHost = candidate.to
        // Of one host chance has nothing to choose.
        var generator = SeededGenerator(seed: 0)
        guard case .placed = scheduler.select(request, now: Timestamp(microseconds: .min), using: &generator) else {
            preconditionFailure("a host that passed is refused, though nothing has changed")
        }
        scheduler.change(candidate.to) { state in
            // It comes when the move before it is done; and what it writes there nobody else can write.
            state.ioOperations -= 1
            state.diskAvailableLeastGiB = state.diskAvailableLeastGiB.map { $0 - request.resources.diskGiB }
        }
        for name in [host, candidate.to] {
            if let state = scheduler.host(named: name) { load.update(state) }
        }
        placement.move(candidate.server, to: candidate.to)
        movable[host]?.removeAll { $0 == candidate.server }
        return RebalancePlan.Move(
            server: server.id, name: server.name, from: host, to: candidate.to, resources: request.resources,
            weightsFrom: own, weightsTo: other, spreadBefore: spread, spreadAfter: load.spread)
    }
}

extension RebalancePlan.Reason: Error {}
