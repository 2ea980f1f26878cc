public import Model

/// Passes hosts with enough unpromised vCPUs; one instance never gets more vCPUs than the host has. The form with
/// aggregates takes the least `cpu_allocation_ratio` of the host's aggregates, where there is one.
public struct CoreFilter: HostFilter {
    public let name: String
    private let readsAggregates: Bool

    public init(readsAggregates: Bool = false) {
        self.readsAggregates = readsAggregates
        name = readsAggregates ? "AggregateCoreFilter" : "CoreFilter"
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let available = available(host)
        guard request.resources.vcpus > available else { return nil }
        return Rejection(reason: "short of vCPUs", shortage: request.resources.vcpus - available, unit: "vCPU")
    }

    /// The most that one guest may ask for.
    func available(_ host: borrowing HostState) -> Int {
        var ratios = host.ratios
        if readsAggregates { ratios.cpu = host.least("cpu_allocation_ratio") ?? ratios.cpu }
        return min(host.free(ratios).vcpus, host.total.vcpus)
    }
}

/// Passes hosts with enough unpromised memory; with aggregates by their `ram_allocation_ratio`.
public struct RamFilter: HostFilter {
    public let name: String
    private let readsAggregates: Bool

    public init(readsAggregates: Bool = false) {
        self.readsAggregates = readsAggregates
        name = readsAggregates ? "AggregateRamFilter" : "RamFilter"
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let available = available(host)
        guard request.resources.memoryMiB > available else { return nil }
        return Rejection(reason: "short of memory", shortage: request.resources.memoryMiB - available, unit: "MiB")
    }

    /// The most that one guest may ask for.
    func available(_ host: borrowing HostState) -> Int {
        var ratios = host.ratios
        if readsAggregates { ratios.memory = host.least("ram_allocation_ratio") ?? ratios.memory }
        // What QEMU itself takes on the host is part of the claim there.
        return min(host.free(ratios).memoryMiB, host.total.memoryMiB) - host.guestOverheadMiB
    }
}

/// Passes hosts with enough unpromised disk that the file system can really give; with aggregates by their
/// `disk_allocation_ratio`.
public struct DiskFilter: HostFilter {
    public let name: String
    private let readsAggregates: Bool

    public init(readsAggregates: Bool = false) {
        self.readsAggregates = readsAggregates
        name = readsAggregates ? "AggregateDiskFilter" : "DiskFilter"
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let available = available(host)
        guard request.resources.diskGiB > available else { return nil }
        return Rejection(reason: "short of disk", shortage: request.resources.diskGiB - available, unit: "GiB")
    }

    /// The most that one guest may ask for.
    func available(_ host: borrowing HostState) -> Int {
        var ratios = host.ratios
        if readsAggregates { ratios.disk = host.least("disk_allocation_ratio") ?? ratios.disk }
        // What the ratio adds is added to what the file system can give, which is negative where sparse disks have been
        // promised more than that: multiplied, a host with a large ratio would refuse everything from then on.
        let added = Int(min(max((Double(host.total.diskGiB) * (ratios.disk - 1)).rounded(.down), -1e15), 1e15))
        return min(host.free(ratios).diskGiB, host.diskAvailableLeastGiB.map { $0 + added } ?? .max)
    }
}

/// Passes hosts that have exactly as much free as is asked for.
public struct ExactFilter: HostFilter {
    public enum Resource: String, Sendable, CaseIterable {
        case cores = "ExactCoreFilter", memory = "ExactRamFilter", disk = "ExactDiskFilter"
    }
    private let resource: Resource
    public var name: String { resource.rawValue }

    public init(_ resource: Resource) { self.resource = resource }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let (asked, free, unit): (Int, Int, String) =
            switch resource {
            case .cores: (request.resources.vcpus, host.total.vcpus - host.used.vcpus, "vCPU")
            case .memory: (request.resources.memoryMiB, host.total.memoryMiB - host.used.memoryMiB, "MiB")
            case .disk: (request.resources.diskGiB, host.freeDiskMiB / 1_024, "GiB")
            }
        guard asked == free, resource != .cores || host.total.vcpus > 0 else {
            return Rejection(reason: "not of exactly that size", shortage: abs(asked - free), unit: unit)
        }
        return nil
    }
}

/// Passes hosts with fewer instances than they may have; with aggregates the least `max_instances_per_host` of theirs.
public struct NumInstancesFilter: HostFilter {
    public let name: String
    private let limit: Int
    private let readsAggregates: Bool

    /// - Parameter limit: `[filter_scheduler] max_instances_per_host`.
    public init(limit: Int, readsAggregates: Bool = false) {
        (self.limit, self.readsAggregates) = (limit, readsAggregates)
        name = readsAggregates ? "AggregateNumInstancesFilter" : "NumInstancesFilter"
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let own = readsAggregates ? host.least("max_instances_per_host") : nil
        guard Double(host.instanceCount) >= own ?? Double(limit) else { return nil }
        return Rejection(reason: "with as many instances as they may have")
    }
}

/// Passes hosts that are not busy with building, copying or moving; with aggregates by their `max_io_ops_per_host`.
public struct IoOpsFilter: HostFilter {
    public let name: String
    private let limit: Int
    private let readsAggregates: Bool

    /// - Parameter limit: `[filter_scheduler] max_io_ops_per_host`.
    public init(limit: Int, readsAggregates: Bool = false) {
        (self.limit, self.readsAggregates) = (limit, readsAggregates)
        name = readsAggregates ? "AggregateIoOpsFilter" : "IoOpsFilter"
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let own = readsAggregates ? host.least("max_io_ops_per_host") : nil
        guard Double(host.ioOperations) >= own ?? Double(limit) else { return nil }
        return Rejection(reason: "busy with as many disks as they may be")
    }
}

/// Passes hosts that report every metric that is weighed.
public struct MetricsFilter: HostFilter {
    public let name = "MetricsFilter"
    private let wanted: [String]

    /// - Parameter wanted: the names of `[metrics] weight_setting`.
    public init(_ wanted: [String]) { self.wanted = wanted }

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        wanted.isEmpty
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let metrics = host.metrics
        guard let missing = wanted.first(where: { metrics[$0] == nil }) else { return nil }
        return Rejection(reason: "without the metric \(missing)")
    }
}
