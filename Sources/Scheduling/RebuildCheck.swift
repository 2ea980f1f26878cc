public import Model

extension FilterScheduler {
    /// Why the host `name` may not have the image of `request` for an instance that it has already; `nil` where it may.
    /// Only filters that read the image are asked: what else the instance needs the host has given it. Nothing is weighed,
    /// and nothing is taken.
    ///
    /// - Parameter request: without the flavor, whose demands the host has met.
    public func refusal(toRebuild request: PlacementRequest, on name: HostName) -> PlacementRefusal? {
        guard let host = host(named: name) else {
            return Self.refusal("RequestedDestination", Rejection(reason: "not known to the scheduler"))
        }
        let reading = RequestReading()
        for filter in filters where filter.runsOnRebuild && !filter.isNeutral(for: request) {
            if let rejection = filter.prepared(for: request, sharing: reading).reject(host, for: request) {
                return Self.refusal(filter.name, rejection)
            }
        }
        return nil
    }

    private static func refusal(_ filter: String, _ rejection: Rejection) -> PlacementRefusal {
        var tally = RefusalTally()
        tally.add(filter, rejection)
        return PlacementRefusal(hostsConsidered: 1, reasons: tally.reasons)
    }
}
