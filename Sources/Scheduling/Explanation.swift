public import Model

/// A decision in full: what every filter says of every host, how each that passed weighs, and in which order they come.
public struct DecisionExplanation: Sendable, Hashable {
    public struct Verdict: Sendable, Hashable {
        public var filter: String
        /// `nil` where the host passes.
        public var rejection: Rejection?
    }

    public struct Weight: Sendable, Hashable {
        public var weigher: String
        public var raw: Double
        /// Brought to 0…1 over the hosts that pass.
        public var normalized: Double
        /// That of the host's aggregates, or the configured one.
        public var multiplier: Double
        public var weighted: Double { normalized * multiplier }
    }

    public struct Host: Sendable, Hashable {
        public var name: HostName
        public var node: String
        /// In the order in which filters are asked; here each is asked, also after one has refused.
        public var verdicts: [Verdict]
        /// Empty for a host that does not pass.
        public var weights: [Weight] = []
        /// The sum of what is weighted.
        public var weight: Double?
        public var passes: Bool { verdicts.allSatisfy { $0.rejection == nil } }
    }

    /// In the order of the table.
    public var hosts: [Host]
    /// Those that pass, the best first.
    public var order: [HostName]
    /// Why there is none.
    public var refusal: PlacementRefusal?
}

extension FilterScheduler {
    /// What a decision about one instance of `request` would look at. It takes nothing; chance, where it is configured, does
    /// not enter into the order.
    public func explanation(of request: PlacementRequest) -> DecisionExplanation {
        let isForced = request.forcedHost != nil || request.forcedNode != nil
        let reading = RequestReading()
        let prepared = filters.map { $0.prepared(for: request, sharing: reading) }
        let selection = Preselection.Rule(request)
        var tally = RefusalTally()
        var found: [DecisionExplanation.Host] = []
        found.reserveCapacity(hosts.count)
        for host in hosts {
            var verdicts: [DecisionExplanation.Verdict] = []
            if let (name, rejection) = selection.reject(host) {
                verdicts.append(.init(filter: name, rejection: rejection))
            }
            if !isForced {
                for (filter, asked) in zip(filters, prepared) {
                    verdicts.append(.init(filter: filter.name, rejection: asked.reject(host, for: request)))
                }
            }
            if let first = verdicts.first(where: { $0.rejection != nil }), let rejection = first.rejection {
                tally.add(first.filter, rejection)
            }
            found.append(.init(name: host.name, node: host.node, verdicts: verdicts))
        }
        let passing = found.indices.filter { found[$0].passes }
        for position in passing { found[position].weight = 0 }
        if passing.count > 1 { weigh(passing, request, &found) }
        let order = passing.sorted { left, right in
            let (one, other) = (found[left].weight ?? 0, found[right].weight ?? 0)
            return one != other ? one > other : found[left].name < found[right].name
        }
        return DecisionExplanation(
            hosts: found, order: order.map { found[$0].name },
            refusal: passing.isEmpty
                ? PlacementRefusal(hostsConsidered: hosts.count, reasons: tally.reasons) : nil)
    }

    private func weigh(
        _ passing: [Int], _ request: PlacementRequest, _ found: inout [DecisionExplanation.Host]
    ) {
        for weigher in weighers {
            let raw = passing.map { weigher.weigh(hosts[$0], for: request) }
            let low = weigher.minimum ?? raw.min() ?? 0
            let most = max(raw.max() ?? 0, low)
            for (place, position) in passing.enumerated() {
                let normalized = most > low ? (max(raw[place], low) - low) * (1 / (most - low)) : 0
                let weight = DecisionExplanation.Weight(
                    weigher: weigher.name, raw: raw[place], normalized: normalized,
                    multiplier: weigher.multiplier(of: hosts[position]))
                found[position].weights.append(weight)
                found[position].weight = (found[position].weight ?? 0) + weight.weighted
            }
        }
    }
}

extension DecisionExplanation {
    /// The form that `apus scheduler explain --json` prints.
    public var json: JSON {
        var members: [String: JSON] = [
            "hosts": .array(hosts.map(\.json)), "order": .array(order.map { .string($0.rawValue) }),
        ]
        if let refusal {
            members["refusal"] = [
                "message": .string(refusal.message), "hosts": .integer(Int64(refusal.hostsConsidered)),
                "reasons": .array(refusal.reasons.map(\.json)),
            ]
        }
        return .object(members)
    }
}

extension PlacementRefusal.Reason {
    fileprivate var json: JSON {
        var members: [String: JSON] = [
            "filter": .string(filter), "reason": .string(reason), "hosts": .integer(Int64(hosts)),
        ]
        if let nearestMiss { members["nearest"] = .string(nearestMiss) }
        return .object(members)
    }
}

extension DecisionExplanation.Host {
    fileprivate var json: JSON {
        var members: [String: JSON] = [
            "host": .string(name.rawValue), "node": .string(node), "passes": .bool(passes),
            "verdicts": .array(
                verdicts.map { verdict in
                    var members: [String: JSON] = [
                        "filter": .string(verdict.filter), "passes": .bool(verdict.rejection == nil),
                    ]
                    if let rejection = verdict.rejection {
                        members["reason"] = .string(rejection.reason)
                        if let shortage = rejection.shortage {
                            (members["short"], members["unit"]) = (.integer(Int64(shortage)), .string(rejection.unit))
                        }
                    }
                    return .object(members)
                }),
            "weights": .array(
                weights.map { weight in
                    [
                        "weigher": .string(weight.weigher), "raw": .number(weight.raw),
                        "normalized": .number(weight.normalized), "multiplier": .number(weight.multiplier),
                        "weighted": .number(weight.weighted),
                    ]
                }),
        ]
        if let weight { members["weight"] = .number(weight) }
        return .object(members)
    }
}
