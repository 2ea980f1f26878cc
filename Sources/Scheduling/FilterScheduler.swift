public import Model

/// What a decision came to.
public enum PlacementDecision: Sendable, Hashable {
    /// One list an instance: the chosen host, then the alternates.
    case placed([[HostName]])
    case refused(PlacementRefusal)
}

/// Filters, weighs and picks over a table of hosts that it keeps and consumes. A value: no I/O, no clock; randomness
/// comes from the generator that the caller hands in.
///
/// A pick goes through the columns of the table; the hosts themselves are looked at by the filters that the request does
/// not leave neutral, and all of them, filter by filter, only to say why there is none.
public struct FilterScheduler: Sendable {
    public private(set) var hosts: [HostState] = []
    private(set) var index: [HostName: Int] = [:]
    let filters: [any HostFilter]
    let weighers: [any HostWeigher]
    private let subsetSize: Int
    private let shufflesEqualHosts: Bool
    private var columns: HostColumns
    private var verdicts = VerdictCache()
    let plan: FilterPlan
    /// The place of each host in the order of the names; empty while it is not known.
    private(set) var ranks: [Int32] = []

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
        (columns, plan) = (HostColumns(weighers), FilterPlan(filters))
    }

    /// As the options say. Throws the name of a filter that there is not.
    public init(_ options: SchedulingOptions) throws(UnknownFilter) {
        self.init(
            filters: try FilterCatalog.filters(options), weighers: FilterCatalog.weighers(options),
            subsetSize: options.hostSubsetSize, shufflesEqualHosts: options.shufflesEqualHosts)
    }

    // MARK: - The table

    /// Takes a host's new state. What this scheduler consumed stands until a report that was measured later.
    public mutating func update(_ state: HostState) {
        guard let position = index[state.name] else {
            index[state.name] = hosts.count
            hosts.append(state)
            columns.append(state)
            verdicts.append()
            ranks = []
            return
        }
        guard state.measuredAt >= hosts[position].measuredAt else {
            return setStatus(of: state.name, isUp: state.isUp, isDisabled: state.isDisabled)
        }
        var state = state
        (state.aggregates, state.availabilityZone) = (hosts[position].aggregates, hosts[position].availabilityZone)
        state.trustLevel = hosts[position].trustLevel
        hosts[position] = state
        columns.write(state, at: position)
        verdicts.forget(position)
    }

    public mutating func setStatus(of name: HostName, isUp: Bool, isDisabled: Bool) {
        guard let position = index[name], hosts[position].isUp != isUp || hosts[position].isDisabled != isDisabled
        else { return }
        (hosts[position].isUp, hosts[position].isDisabled) = (isUp, isDisabled)
        columns.writeStatus(hosts[position], at: position)
    }

    /// Puts a host into aggregates, and into the zone that they give it.
    public mutating func setAggregates(of name: HostName, _ aggregates: [AggregateFacts], zone: String) {
        guard let position = index[name] else { return }
        (hosts[position].aggregates, hosts[position].availabilityZone) = (aggregates, zone)
        columns.write(hosts[position], at: position)
        verdicts.forget(position)
    }

    /// - Parameter level: the attestation service's; `nil` where it is not known.
    public mutating func setTrustLevel(of name: HostName, _ level: String?) {
        guard let position = index[name], hosts[position].trustLevel != level else { return }
        hosts[position].trustLevel = level
        verdicts.forget(position)
    }

    public mutating func remove(_ name: HostName) {
        guard let position = index.removeValue(forKey: name) else { return }
        let last = hosts.count - 1
        if position != last {
            hosts[position] = hosts[last]
            index[hosts[position].name] = position
        }
        hosts.removeLast()
        columns.moveLast(to: position)
        verdicts.moveLast(to: position)
        ranks = []
    }

    func host(named name: HostName) -> HostState? { index[name].map { hosts[$0] } }

    /// Changes amounts of a host, as its own report would.
    mutating func change(_ name: HostName, _ body: (inout HostState) -> Void) {
        guard let position = index[name] else { return }
        body(&hosts[position])
        columns.writeAmounts(hosts[position], at: position)
        verdicts.forget(position)
    }

    private mutating func put(_ state: HostState, at position: Int) {
        hosts[position] = state
        columns.writeAmounts(state, at: position)
        verdicts.forget(position)
    }

    // MARK: - Decisions

    /// Chooses hosts for every instance of `request`, or for none: each pick consumes what it takes, so that the next
    /// sees less, and a decision that fails gives back what its earlier picks took.
    ///
    /// - Parameter now: stamps what is consumed, so that reports measured before it do not undo it.
    public mutating func select(
        _ asked: PlacementRequest, now: Timestamp, using generator: inout some RandomNumberGenerator
    ) -> PlacementDecision {
        select(asked, now: now, using: &generator) { _, _ in }
    }

    /// - Parameter noting: is given each picked host as it was before, and as it is after.
    mutating func select(
        _ asked: PlacementRequest, now: Timestamp, using generator: inout some RandomNumberGenerator,
        noting: (_ before: HostState, _ after: HostState) -> Void
    ) -> PlacementDecision {
        rankNames()
        var request = asked
        var selections: [[HostName]] = []
        var taken: [(position: Int, state: HostState)] = []
        var pool = Preselection(hosts, request)
        let asking = plan.asking(asked)
        for round in asked.instances.indices {
            let passing = pass(pool, asking, request, isFirst: round == 0)
            guard !passing.isEmpty else {
                let refusal = explain(pool, request, isFirst: round == 0)
                for (position, state) in taken.reversed() { put(state, at: position) }
                return .refused(refusal)
            }
            // What one filter said for the first holds for the others of the request.
            if asked.instances.count > 1 { pool.positions = passing }
            var ordered = order(passing, request, using: &generator)
            let drawn = Int.random(in: 0..<min(subsetSize, passing.count), using: &generator)
            let chosen = ordered.remove(at: drawn)
            taken.append((chosen, hosts[chosen]))
            // Of a host that was forced, too: what it gives is gone all the same.
            let before = hosts[chosen]
            for filter in asking { filter.prepared.consume(&hosts[chosen], chosenAs: before, for: request) }
            hosts[chosen].consume(request.resources)
            hosts[chosen].measuredAt = max(hosts[chosen].measuredAt, now)
            columns.writeAmounts(hosts[chosen], at: chosen)
            verdicts.forget(chosen)
            if let last = taken.last { noting(last.state, hosts[chosen]) }
            request.group?.members[hosts[chosen].name, default: 0] += 1
            selections.append([hosts[chosen].name] + ordered.prefix(request.alternates).map { hosts[$0].name })
        }
        return .placed(selections)
    }

    /// The hosts that every filter lets pass, in the order of the table.
    mutating func pass(
        _ pool: Preselection, _ asking: [FilterPlan.Asking], _ request: PlacementRequest, isFirst: Bool
    ) -> [Int] {
        if pool.isForced { return pool.positions ?? Array(hosts.indices) }
        var passing = plan.scan(columns, pool.positions, request)
        for filter in asking where isFirst || !filter.runsOncePerRequest {
            if let key = filter.key {
                passing = verdicts.sift(passing, of: hosts.count, key) {
                    filter.prepared.reject(hosts[$0], for: request) == nil
                }
            } else {
                passing.removeAll { filter.prepared.reject(hosts[$0], for: request) != nil }
            }
        }
        return passing
    }

    /// Why no host passes: each with the first filter that refuses it.
    private func explain(_ pool: Preselection, _ request: PlacementRequest, isFirst: Bool) -> PlacementRefusal {
        var tally = pool.tally
        let reading = RequestReading()
        let prepared = filters.filter { isFirst || !$0.runsOncePerRequest }.map {
            $0.prepared(for: request, sharing: reading)
        }
        for position in pool.positions ?? Array(hosts.indices) {
            for filter in prepared {
                guard let rejection = filter.reject(hosts[position], for: request) else { continue }
                tally.add(filter.name, rejection)
                break
            }
        }
        return PlacementRefusal(hostsConsidered: hosts.count, reasons: tally.reasons)
    }

    /// The best hosts, as many as may be needed, best first. Ties keep the order of names, so that the same table gives
    /// the same answer; or chance orders the best.
    private func order(
        _ passing: [Int], _ request: PlacementRequest, using generator: inout some RandomNumberGenerator
    ) -> [Int] {
        guard passing.count > 1 else { return passing }
        let sums = weights(passing, request)
        let precedes = { (left: Int, right: Int) -> Bool in
            sums[left] != sums[right]
                ? sums[left] > sums[right] : ranks[passing[left]] < ranks[passing[right]]
        }
        guard !shufflesEqualHosts else {
            var all = passing.indices.sorted(by: precedes)
            let best = all.prefix { sums[$0] == sums[all[0]] }
            all.replaceSubrange(0..<best.count, with: best.shuffled(using: &generator))
            return all.map { passing[$0] }
        }
        let wanted = min(passing.count, max(subsetSize, request.alternates) + 1)
        guard wanted * 8 < passing.count else {
            return passing.indices.sorted(by: precedes).prefix(wanted).map { passing[$0] }
        }
        var best: [Int] = []
        best.reserveCapacity(wanted + 1)
        for place in passing.indices {
            if best.count == wanted, !precedes(place, best[wanted - 1]) { continue }
            var low = best.count
            while low > 0, precedes(place, best[low - 1]) { low -= 1 }
            best.insert(place, at: low)
            if best.count > wanted { best.removeLast() }
        }
        return best.map { passing[$0] }
    }

    /// What the weighers give each of the hosts in all.
    func weights(_ passing: [Int], _ request: PlacementRequest) -> [Double] {
        var sums = [Double](repeating: 0, count: passing.count)
        for (index, weigher) in weighers.enumerated() {
            let own = columns.multipliers[index]
            if own == nil, weigher.multiplier == 0 || weigher.isNeutral(for: request) { continue }
            if weigher.readsHostAlone, columns.isLevel(index) { continue }
            let raw =
                weigher.readsHostAlone
                ? gather(columns.figures[index], passing) : passing.map { weigher.weigh(hosts[$0], for: request) }
            add(raw, weigher, own.map { gather($0, passing) }, to: &sums)
        }
        return sums
    }

    private func gather(_ column: [Double], _ passing: [Int]) -> [Double] {
        if passing.count == column.count { return column }
        return column.withUnsafeBufferPointer { column in
            [Double](unsafeUninitializedCapacity: passing.count) { buffer, count in
                for place in passing.indices { buffer[place] = column[passing[place]] }
                count = passing.count
            }
        }
    }

    private func add(_ raw: [Double], _ weigher: any HostWeigher, _ own: [Double]?, to sums: inout [Double]) {
        raw.withUnsafeBufferPointer { raw in
            let (least, greatest) = Self.extremes(raw)
            let low = weigher.minimum ?? least
            let most = max(greatest, low)
            guard most > low else { return }
            let scale = 1 / (most - low)
            sums.withUnsafeMutableBufferPointer { sums in
                if let own {
                    for place in 0..<raw.count {
                        let value = raw[place]
                        sums[place] += (value > low ? value - low : 0) * scale * own[place]
                    }
                } else {
                    let multiplier = weigher.effectiveMultiplier
                    for place in 0..<raw.count {
                        let value = raw[place]
                        sums[place] += (value > low ? value - low : 0) * scale * multiplier
                    }
                }
            }
        }
    }

    /// Four at a time, each with its own least and greatest: one pair of them would make every value wait for the one
    /// before.
    private static func extremes(_ values: UnsafeBufferPointer<Double>) -> (least: Double, greatest: Double) {
        var (least, greatest) = (SIMD4(repeating: values[0]), SIMD4(repeating: values[0]))
        var place = 0
        while place + 4 <= values.count {
            let four = SIMD4(values[place], values[place + 1], values[place + 2], values[place + 3])
            least.replace(with: four, where: four .< least)
            greatest.replace(with: four, where: four .> greatest)
            place += 4
        }
        var (low, high) = (least.min(), greatest.max())
        while place < values.count {
            low = min(low, values[place])
            high = max(high, values[place])
            place += 1
        }
        return (low, high)
    }

    mutating func rankNames() {
        guard ranks.count != hosts.count else { return }
        ranks = [Int32](repeating: 0, count: hosts.count)
        for (rank, position) in hosts.indices.sorted(by: { hosts[$0].name < hosts[$1].name }).enumerated() {
            ranks[position] = Int32(rank)
        }
    }
}
