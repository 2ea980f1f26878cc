internal import Model

extension FilterScheduler {
    /// Which hosts a decision would put before the one that an instance is on.
    struct Preference {
        /// Those that weigh more than its own, whatever the filters say of that one, and that every filter lets pass, the best first.
        var better: [(name: HostName, weight: Double)] = []
        /// How many hosts other than its own every filter lets pass.
        var passing = 0
    }

    /// Weighs the hosts that pass together with `host`, of which the instance must have been taken out. It takes nothing;
    /// chance, where it is configured, does not enter into the order.
    mutating func preference(of request: PlacementRequest, over host: HostName) -> Preference {
        let positions = passing(request, with: host)
        var found = Preference()
        guard positions.count > 1, let place = positions.firstIndex(where: { $0 == index[host] }) else { return found }
        let sums = weights(positions, request)
        let own = sums[place]
        found.passing = positions.count - 1
        let places = positions.indices.filter { sums[$0] > own }.sorted { left, right in
            sums[left] != sums[right]
                ? sums[left] > sums[right] : ranks[positions[left]] < ranks[positions[right]]
        }
        found.better = places.map { (hosts[positions[$0]].name, sums[$0]) }
        return found
    }

    /// What each weigher gives two hosts in that decision: the one that the instance is on, and another.
    mutating func weights(
        of request: PlacementRequest, on host: HostName, and other: HostName
    ) -> (own: [DecisionExplanation.Weight], other: [DecisionExplanation.Weight]) {
        let positions = passing(request, with: host)
        guard let left = index[host], let right = index[other] else { return ([], []) }
        var found: ([DecisionExplanation.Weight], [DecisionExplanation.Weight]) = ([], [])
        for weigher in weighers {
            let raw = positions.map { weigher.weigh(hosts[$0], for: request) }
            let low = weigher.minimum ?? raw.min() ?? 0
            let most = max(raw.max() ?? 0, low)
            func weight(_ position: Int) -> DecisionExplanation.Weight {
                let value = weigher.weigh(hosts[position], for: request)
                return DecisionExplanation.Weight(
                    weigher: weigher.name, raw: value,
                    normalized: most > low ? (max(value, low) - low) * (1 / (most - low)) : 0,
                    multiplier: weigher.multiplier(of: hosts[position]))
            }
            found.0.append(weight(left))
            found.1.append(weight(right))
        }
        return found
    }

    /// The hosts that pass, and `host`, in the order of the table.
    private mutating func passing(_ request: PlacementRequest, with host: HostName) -> [Int] {
        guard let own = index[host] else { return [] }
        rankNames()
        var positions = pass(Preselection(hosts, request), plan.asking(request), request, isFirst: true)
        let place = positions.firstIndex { $0 >= own } ?? positions.count
        if place == positions.count || positions[place] != own { positions.insert(own, at: place) }
        return positions
    }
}
