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

    /// - Parameter subsetSize: among how many of the best hosts one is drawn by chance
    ///   (`[filter_scheduler] host_subset_size`).
    public init(filters: [any HostFilter], weighers: [any HostWeigher], subsetSize: Int = 1) {
        self.filters = filters
        self.weighers = weighers
        self.subsetSize = max(1, subsetSize)
    }

    public static let defaultFilters: [any HostFilter] = [
        ComputeFilter(), AvailabilityZoneFilter(), CoreFilter(), RamFilter(), DiskFilter(),
    ]

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
        hosts[position] = state
    }

    public mutating func setStatus(of name: HostName, isUp: Bool, isDisabled: Bool) {
        guard let position = index[name] else { return }
        (hosts[position].isUp, hosts[position].isDisabled) = (isUp, isDisabled)
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
        _ request: PlacementRequest, now: Timestamp, using generator: inout some RandomNumberGenerator
    ) -> PlacementDecision {
        let before = hosts
        var selections: [[HostName]] = []
        for _ in request.instances {
            let passing: [Int]
            switch filter(request) {
            case .failure(let refusal):
                hosts = before
                return .refused(refusal.refusal)
            case .success(let positions):
                passing = positions
            }
            var ordered = weigh(passing, request)
            let drawn = Int.random(in: 0..<min(subsetSize, ordered.count), using: &generator)
            let chosen = ordered.remove(at: drawn)
            hosts[chosen].consume(request.resources)
            hosts[chosen].measuredAt = max(hosts[chosen].measuredAt, now)
            selections.append([hosts[chosen].name] + ordered.prefix(request.alternates).map { hosts[$0].name })
        }
        return .placed(selections)
    }

    private struct Refused: Error { var refusal: PlacementRefusal }

    private func filter(_ request: PlacementRequest) -> Result<[Int], Refused> {
        var passing: [Int] = []
        var tally = RefusalTally()
        for position in hosts.indices {
            if request.ignoredHosts.contains(hosts[position].name) {
                tally.add("IgnoredHosts", Rejection(reason: "excluded by the request"))
                continue
            }
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

    /// Best first. Ties keep the order of names, so that the same table gives the same answer.
    private func weigh(_ positions: [Int], _ request: PlacementRequest) -> [Int] {
        guard positions.count > 1 else { return positions }
        var sums = [Double](repeating: 0, count: positions.count)
        for weigher in weighers where weigher.multiplier != 0 {
            let raw = positions.map { weigher.weigh(hosts[$0], for: request) }
            guard let low = raw.min(), let high = raw.max(), high > low else { continue }
            for position in raw.indices {
                sums[position] += weigher.multiplier * (raw[position] - low) / (high - low)
            }
        }
        return positions.indices.sorted { left, right in
            sums[left] != sums[right]
                ? sums[left] > sums[right] : hosts[positions[left]].name < hosts[positions[right]].name
        }.map { positions[$0] }
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
