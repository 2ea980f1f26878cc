internal import Configuration
internal import HostTopology
internal import Model

/// Whom the configuration gives the host's processors and pages.
struct TopologySettings: Sendable {
    private let shared: CPUSet?
    private let dedicated: CPUSet?
    private let reserves: [HugePageReserve]

    init(_ configuration: Configuration) {
        shared = CPUSet(parsing: configuration[ComputeOptions.cpuSharedSet])
        dedicated = CPUSet(parsing: configuration[ComputeOptions.cpuDedicatedSet])
        reserves = configuration[ComputeOptions.reservedHugePages].split(separator: ";").compactMap {
            HugePageReserve(parsing: String($0))
        }
    }

    /// What the host has for guests. Without known cells there is nothing to choose among, and what is configured for
    /// them is an error.
    func apply(to capacity: HostCapacity) throws(Failure) -> (total: Resources, topology: HostTopology?) {
        guard !capacity.cells.isEmpty else {
            guard shared == nil, dedicated == nil, reserves.isEmpty else {
                throw Failure(
                    .invalidParameters,
                    "[compute] cpu_shared_set, cpu_dedicated_set and reserved_huge_pages need a hypervisor that tells "
                        + "the host's cells")
            }
            return (capacity.total, nil)
        }
        var topology = HostTopology(cells: capacity.cells, shared: shared, dedicated: dedicated)
        try topology.reserve(reserves)
        var total = capacity.total
        if shared != nil || dedicated != nil { total.vcpus = topology.shared.count }
        return (total, topology)
    }

    /// Refuses what is not so at the start; a processor that goes offline later is merely not used.
    func check(_ capacity: HostCapacity) throws(Failure) {
        let online = HostTopology(cells: capacity.cells).online.numbers
        for (name, set) in [("cpu_shared_set", shared), ("cpu_dedicated_set", dedicated)] {
            let absent = CPUSet((set?.numbers ?? []).subtracting(online))
            guard absent.isEmpty || capacity.cells.isEmpty else {
                throw Failure(
                    .invalidParameters, "[compute] \(name): the host has no CPUs \(absent), or they are offline")
            }
        }
        let both = CPUSet((shared?.numbers ?? []).intersection(dedicated?.numbers ?? []))
        guard both.isEmpty else {
            throw Failure(
                .invalidParameters, "[compute] cpu_shared_set and cpu_dedicated_set: both have the CPUs \(both)")
        }
    }
}
