public import Model

/// Orders the hosts that passed. Pure, like the filters.
public protocol HostWeigher: Sendable {
    var name: String { get }
    /// Scales this weigher against the others; negative stacks instead of spreading.
    var multiplier: Double { get }
    /// More is better; brought to 0…1 over the hosts of one decision before it is multiplied.
    func weigh(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Double
}

/// Prefers the host with most free memory (`[filter_scheduler] ram_weight_multiplier`).
public struct RAMWeigher: HostWeigher {
    public let name = "RAMWeigher"
    public let multiplier: Double

    public init(multiplier: Double = 1) { self.multiplier = multiplier }

    public func weigh(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Double {
        Double(host.free.memoryMiB)
    }
}
