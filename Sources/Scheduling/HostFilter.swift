public import Model

/// Why a filter refused a host.
public struct Rejection: Sendable, Hashable {
    /// Reads after a count: "2 short of memory".
    public var reason: String
    /// How much was missing, in `unit`; `nil` where the reason has no amount.
    public var shortage: Int?
    public var unit: String

    public init(reason: String, shortage: Int? = nil, unit: String = "") {
        (self.reason, self.shortage, self.unit) = (reason, shortage, unit)
    }
}

/// One scheduling rule. Pure: same host and request, same answer; no I/O, no clock.
public protocol HostFilter: Sendable {
    /// The name in `[filter_scheduler] enabled_filters`.
    var name: String { get }
    /// Whether its verdict of the first instance of a request holds for the others, too.
    var runsOncePerRequest: Bool { get }
    /// Whether it is asked when an instance is to be made afresh on its own host, from another image.
    var runsOnRebuild: Bool { get }
    /// Whether it lets every host pass, for what this request asks: it is not asked about any then.
    func isNeutral(for request: borrowing PlacementRequest) -> Bool
    /// A filter with the same verdicts for this request, which has read what the request says once and for all hosts.
    func prepared(for request: borrowing PlacementRequest) -> any HostFilter
    /// The same, where what the filter reads may have been read for another one already.
    ///
    /// - Parameter reading: of this request.
    func prepared(for request: borrowing PlacementRequest, sharing reading: RequestReading) -> any HostFilter
    /// `nil` lets the host pass.
    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection?
    /// What of the request its verdicts depend on beside the host; `nil` for a filter that is as quickly asked, or whose
    /// verdicts depend on more.
    func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey?
    /// Takes in `host` what the filter counts and one instance of the request has now.
    ///
    /// - Parameter before: the host as it was chosen: another filter may have taken its share of `host` already, and both
    ///   must mean the same place on it.
    func consume(_ host: inout HostState, chosenAs before: borrowing HostState, for request: borrowing PlacementRequest)
}

extension HostFilter {
    public var runsOncePerRequest: Bool { false }
    public var runsOnRebuild: Bool { false }

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool { false }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter { self }

    public func prepared(
        for request: borrowing PlacementRequest, sharing reading: RequestReading
    ) -> any HostFilter { prepared(for: request) }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? { nil }

    public func consume(
        _ host: inout HostState, chosenAs before: borrowing HostState, for request: borrowing PlacementRequest
    ) {}
}

/// A filter that reads the request first: what it says of a host is what its prepared form says.
protocol PreparingFilter: HostFilter {}

extension PreparingFilter {
    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        prepared(for: request).reject(host, for: request)
    }

    public func consume(
        _ host: inout HostState, chosenAs before: borrowing HostState, for request: borrowing PlacementRequest
    ) {
        prepared(for: request).consume(&host, chosenAs: before, for: request)
    }
}

/// A filter that reads what the request asks of the host's hardware, which is read once for all such filters.
protocol HardwareFilter: PreparingFilter {
    func prepared(_ demand: HardwareDemand) -> any HostFilter
}

extension HardwareFilter {
    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        prepared(for: request, sharing: RequestReading())
    }

    public func prepared(
        for request: borrowing PlacementRequest, sharing reading: RequestReading
    ) -> any HostFilter {
        prepared(reading.hardware(of: request))
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        HardwareDemand.key(name, request)
    }
}

/// Passes every host.
public struct AllHostsFilter: HostFilter {
    public let name = "AllHostsFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        true
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? { nil }
}

/// Passes hosts whose service is enabled and alive.
public struct ComputeFilter: HostFilter {
    public let name = "ComputeFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        if host.isDisabled { return Rejection(reason: "disabled") }
        return host.isUp ? nil : Rejection(reason: "down")
    }
}

/// Passes hosts of the zone that was asked for.
public struct AvailabilityZoneFilter: HostFilter {
    public let name = "AvailabilityZoneFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.availabilityZone == nil
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let zone = request.availabilityZone, zone != host.availabilityZone else { return nil }
        return Rejection(reason: "outside the availability zone \(zone)")
    }
}

/// Passes hosts on which it has not been tried.
public struct RetryFilter: HostFilter {
    public let name = "RetryFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.triedHosts?.isEmpty ?? true
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        request.triedHosts?.contains(host.name) == true ? Rejection(reason: "tried already") : nil
    }
}
