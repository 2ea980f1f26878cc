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
    /// `nil` lets the host pass.
    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection?
}

/// Passes hosts whose service is enabled and alive.
public struct ComputeFilter: HostFilter {
    public let name = "ComputeFilter"

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        if host.isDisabled { return Rejection(reason: "disabled") }
        return host.isUp ? nil : Rejection(reason: "down")
    }
}

/// Passes hosts of the zone that was asked for.
public struct AvailabilityZoneFilter: HostFilter {
    public let name = "AvailabilityZoneFilter"

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let zone = request.availabilityZone, zone != host.availabilityZone else { return nil }
        return Rejection(reason: "outside the availability zone \(zone)")
    }
}

/// Passes hosts with enough unpromised vCPUs; one instance never gets more vCPUs than the host has.
public struct CoreFilter: HostFilter {
    public let name = "CoreFilter"

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let available = min(host.free.vcpus, host.total.vcpus)
        guard request.resources.vcpus > available else { return nil }
        return Rejection(reason: "short of vCPUs", shortage: request.resources.vcpus - available, unit: "vCPU")
    }
}

/// Passes hosts with enough unpromised memory.
public struct RamFilter: HostFilter {
    public let name = "RamFilter"

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        // What QEMU itself takes on the host is part of the claim there.
        let available = min(host.free.memoryMiB, host.total.memoryMiB) - host.guestOverheadMiB
        guard request.resources.memoryMiB > available else { return nil }
        return Rejection(reason: "short of memory", shortage: request.resources.memoryMiB - available, unit: "MiB")
    }
}

/// Passes hosts with enough unpromised disk that the file system can really give.
public struct DiskFilter: HostFilter {
    public let name = "DiskFilter"

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        // What the ratio adds is added to what the file system can give, which is negative where sparse disks have been
        // promised more than that: multiplied, a host with a large ratio would refuse everything from then on.
        let added = Int((Double(host.total.diskGiB) * (host.ratios.disk - 1)).rounded(.down))
        let available = min(host.free.diskGiB, host.diskAvailableLeastGiB.map { $0 + added } ?? .max)
        guard request.resources.diskGiB > available else { return nil }
        return Rejection(reason: "short of disk", shortage: request.resources.diskGiB - available, unit: "GiB")
    }
}
