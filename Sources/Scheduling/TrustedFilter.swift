public import Model

/// Passes hosts that the attestation service holds for as trusted as the flavor's `trust:trusted_host` says.
///
/// A level that is not known is none of those that can be asked for but `unknown`, which is what the service calls it.
public struct TrustedFilter: HostFilter {
    public let name = "TrustedFilter"
    public let runsOncePerRequest = true
    private static let spec = "trust:trusted_host"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.flavor?.extraSpecs[Self.spec] == nil
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let wanted = request.flavor?.extraSpecs[Self.spec] else { return nil }
        return (host.trustLevel ?? "unknown") == wanted ? nil : Rejection(reason: "not attested as \(wanted)")
    }
}
