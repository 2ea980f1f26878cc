public import Model

/// Draws a host for each instance, among those that are up and not ignored. Asks for nothing else: whether there is room
/// the host's own claim finds out.
public enum ChanceScheduler {
    /// The same host may be drawn more than once. Alternates are others, drawn likewise.
    public static func select(
        among hosts: [HostState], _ request: PlacementRequest, using generator: inout some RandomNumberGenerator
    ) -> PlacementDecision {
        var tally = RefusalTally()
        let ignored = Set(request.ignoredHosts.map { $0.rawValue.lowercased() })
        let candidates = hosts.filter { host in
            if let rejection = ComputeFilter().reject(host, for: request) {
                tally.add("ComputeFilter", rejection)
                return false
            }
            guard !ignored.contains(host.name.rawValue.lowercased()) else {
                tally.add("IgnoredHosts", Rejection(reason: "excluded by the request"))
                return false
            }
            return true
        }
        guard !candidates.isEmpty else {
            return .refused(PlacementRefusal(hostsConsidered: hosts.count, reasons: tally.reasons))
        }
        return .placed(
            request.instances.map { _ in
                let chosen = Int.random(in: candidates.indices, using: &generator)
                let others = candidates.indices.filter { $0 != chosen }.shuffled(using: &generator)
                return [candidates[chosen].name] + others.prefix(request.alternates).map { candidates[$0].name }
            })
    }
}
