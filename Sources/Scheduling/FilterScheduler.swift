public import Model

/// What a decision came to.
public enum PlacementDecision: Sendable, Hashable {
    /// One list an instance: the chosen host, then the alternates.
    case placed([[HostName]])
    case refused(PlacementRefusal)
}

/// Filters, weighs and picks over a table of hosts that it keeps and consumes. A value: no I/O, no clock; randomness
/// comes from the generator that the caller hands in.
public struct FilterScheduler: Sendable {
    public private(set) var hosts: [HostState] = []
    private var index: [HostName: Int] = [:]
    private let filters: [any HostFilter]
    private let weighers: [any HostWeigher]
    private let subsetSize: Int
    private let shufflesEqualHosts: Bool

    /// - Parameters:
    ///   - subsetSize: among how many of the best hosts one is drawn by chance (`[filter_scheduler] host_subset_size`).
    ///   - shufflesEqualHosts: whether chance orders the best hosts of the same weight
    ///     (`shuffle_best_same_weighed_hosts`).
    public init(
        filters: [any HostFilter], weighers: [any HostWeigher], subsetSize: Int = 1, shufflesEqualHosts: Bool = false
    ) {
        self.filters = filters
        self.weighers = weighers
        self.subsetSize = max(1, subsetSize)
        self.shufflesEqualHosts = shufflesEqualHosts
    }

    /// As the options say. Throws the name of a filter that there is not.
    public init(_ options: SchedulingOptions) throws(UnknownFilter) {
        self.init(
            filters: try FilterCatalog.filters(options), weighers: FilterCatalog.weighers(options),
            subsetSize: options.hostSubsetSize, shufflesEqualHosts: options.shufflesEqualHosts)
    }

    /// Takes a host's new state. What this scheduler consumed stands until a report that was measured later.
    public mutating func update(_ state: HostState) {
        guard let position = index[state.name] else {
            index[state.name] = hosts.count
            hosts.append(state)
            return
        }
        guard state.measuredAt >= hosts[position].measuredAt else {
            (hosts[position].isUp, hosts[position].isDisabled) = (state.isUp, state.isDisabled)
            return
        }
        var state = state
        (state.aggregates, state.availabilityZone) = (hosts[position].aggregates, hosts[position].availabilityZone)
        hosts[position] = state
    }

    public mutating func setStatus(of name: HostName, isUp: Bool, isDisabled: Bool) {
        guard let position = index[name] else { return }
        (hosts[position].isUp, hosts[position].isDisabled) = (isUp, isDisabled)
    }

    /// Puts a host into aggregates, and into the zone that they give it.
    public mutating func setAggregates(of name: HostName, _ aggregates: [AggregateFacts], zone: String) {
        guard let position = index[name] else { return }
        (hosts[position].aggregates, hosts[position].availabilityZone) = (aggregates, zone)
    }

    public mutating func remove(_ name: HostName) {
        guard let position = index.removeValue(forKey: name) else { return }
        let last = hosts.count - 1
        if position != last {
            hosts[position] = hosts[last]
            index[hosts[position].name] = position
        }
        hosts.removeLast()
    }

    /// Chooses hosts for every instance of `request`, or for none: each pick consumes what it takes, so that the next
    /// sees less, and a decision that fails gives back what its earlier picks took.
    ///
    /// - Parameter now: stamps what is consumed, so that reports measured before it do not undo it.
    public mutating func select(
        _ asked: PlacementRequest, now: Timestamp, using generator: inout some RandomNumberGenerator
    ) -> PlacementDecision {
        let before = hosts
        var request = asked
        var selections: [[HostName]] = []
        var candidates = preselected(request)
        for round in asked.instances.indices {
            let passing: [Int]
            switch filter(candidates, request, isFirst: round == 0) {
            case .failure(let refusal):
                hosts = before
                return .refused(refusal.refusal)
            case .success(let positions):
                passing = positions
            }
            // What one filter said for the first holds for the others of the request.
            candidates.positions = passing
            var ordered = weigh(passing, request, using: &generator)
            let drawn = Int.random(in: 0..<min(subsetSize, ordered.count), using: &generator)
            let chosen = ordered.remove(at: drawn)
            hosts[chosen].consume(request.resources)
            hosts[chosen].measuredAt = max(hosts[chosen].measuredAt, now)
            request.group?.members[hosts[chosen].name, default: 0] += 1
            selections.append([hosts[chosen].name] + ordered.prefix(request.alternates).map { hosts[$0].name })
        }
        return .placed(selections)
    }

    private struct Candidates {
        var positions: [Int]
        var tally = RefusalTally()
        /// Chosen by an administrator: no filter is asked.
        var isForced = false
    }

    /// The hosts that come into question before any filter is asked.
    private func preselected(_ request: PlacementRequest) -> Candidates {
        var found = Candidates(positions: [])
        found.isForced = request.forcedHost != nil || request.forcedNode != nil
        let ignored = Set(request.ignoredHosts.map { $0.rawValue.lowercased() })
        let forced = request.forcedHost?.rawValue.lowercased()
        found.positions.reserveCapacity(hosts.count)
        for position in hosts.indices {
            if !ignored.isEmpty, ignored.contains(hosts[position].name.rawValue.lowercased()) {
                found.tally.add("IgnoredHosts", Rejection(reason: "excluded by the request"))
            } else if request.requestedHost.map({ $0 != hosts[position].name }) ?? false
                || request.requestedNode.map({ $0 != hosts[position].node }) ?? false
            {
                found.tally.add("RequestedDestination", Rejection(reason: "not the one that was asked for"))
            } else if forced.map({ $0 != hosts[position].name.rawValue.lowercased() }) ?? false
                || request.forcedNode.map({ $0 != hosts[position].node }) ?? false
            {
                found.tally.add("ForcedHost", Rejection(reason: "not the one that was asked for"))
            } else {
                found.positions.append(position)
            }
        }
        return found
    }

    private struct Refused: Error { var refusal: PlacementRefusal }

    private func filter(
        _ candidates: Candidates, _ request: PlacementRequest, isFirst: Bool
    ) -> Result<[Int], Refused> {
        var passing: [Int] = []
        var tally = candidates.tally
        let filters = candidates.isForced ? [] : isFirst ? filters : filters.filter { !$0.runsOncePerRequest }
        for position in candidates.positions {
            var rejection: Rejection?
            for filter in filters {
                rejection = filter.reject(hosts[position], for: request)
                if let rejection {
                    tally.add(filter.name, rejection)
                    break
                }
            }
            if rejection == nil { passing.append(position) }
        }
        guard passing.isEmpty else { return .success(passing) }
        return .failure(Refused(refusal: PlacementRefusal(hostsConsidered: hosts.count, reasons: tally.reasons)))
    }

    /// Best first. Ties keep the order of names, so that the same table gives the same answer; or chance orders the best.
    private func weigh(
        _ positions: [Int], _ request: PlacementRequest, using generator: inout some RandomNumberGenerator
    ) -> [Int] {
        guard positions.count > 1 else { return positions }
        let sums = weights(positions, request)
        var order = positions.indices.sorted { left, right in
            sums[left] != sums[right]
                ? sums[left] > sums[right] : hosts[positions[left]].name < hosts[positions[right]].name
        }
        if shufflesEqualHosts, let first = order.first {
            let best = order.prefix { sums[$0] == sums[first] }
            order.replaceSubrange(0..<best.count, with: best.shuffled(using: &generator))
        }
        return order.map { positions[$0] }
    }

    /// What the weighers give each of the hosts in all.
    private func weights(_ positions: [Int], _ request: PlacementRequest) -> [Double] {
        var sums = [Double](repeating: 0, count: positions.count)
        for weigher in weighers {
            var raw = positions.map { weigher.weigh(hosts[$0], for: request) }
            if let minimum = weigher.minimum { raw = raw.map { max($0, minimum) } }
            guard let most = raw.max(), let low = weigher.minimum ?? raw.min(), most > low else { continue }
            for place in raw.indices {
                let multiplier = weigher.multiplier(of: hosts[positions[place]])
                if multiplier != 0 { sums[place] += multiplier * (raw[place] - low) / (most - low) }
            }
        }
        return sums
    }
}

/// Counts rejections by filter and reason, and keeps the nearest miss of each.
private struct RefusalTally {
    private struct Key: Hashable {
        var filter: String
        var reason: String
    }
    private var counts: [Key: (hosts: Int, nearest: Int?, unit: String)] = [:]

    mutating func add(_ filter: String, _ rejection: Rejection) {
        var entry = counts[Key(filter: filter, reason: rejection.reason)] ?? (0, nil, rejection.unit)
        entry.hosts += 1
        if let shortage = rejection.shortage { entry.nearest = min(entry.nearest ?? shortage, shortage) }
        counts[Key(filter: filter, reason: rejection.reason)] = entry
    }

    var reasons: [PlacementRefusal.Reason] {
        counts.map { key, entry in
            PlacementRefusal.Reason(
                filter: key.filter, reason: key.reason, hosts: entry.hosts,
                nearestMiss: entry.nearest.map { "\($0) \(entry.unit)" })
        }.sorted { ($1.hosts, $0.filter, $0.reason) < ($0.hosts, $1.filter, $1.reason) }
    }
}
