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

    /// What a host has for guests.
    struct Outcome: Sendable, Hashable {
        var total: Resources
        /// `nil` where the host's cells are not known.
        var topology: HostTopology?
        /// What is configured and the host does not have.
        var misfits: [String] = []
    }

    /// What the host has for guests now. What is configured of it and is not there, no guest is promised.
    func apply(to capacity: HostCapacity) -> Outcome {
        let hasSets = shared != nil || dedicated != nil
        var outcome = Outcome(total: capacity.total)
        guard !capacity.cells.isEmpty else {
            // Nobody knows which processors the sets leave to guests.
            if hasSets { outcome.total.vcpus = 0 }
            if hasSets || !reserves.isEmpty {
                outcome.misfits.append(
                    "[compute] cpu_shared_set, cpu_dedicated_set and reserved_huge_pages need a hypervisor that tells "
                        + "the host's cells")
            }
            return outcome
        }
        var topology = HostTopology(cells: capacity.cells, shared: shared, dedicated: dedicated)
        let online = topology.online.numbers
        for (name, set) in [("cpu_shared_set", shared), ("cpu_dedicated_set", dedicated)] {
            let absent = CPUSet((set?.numbers ?? []).subtracting(online))
            guard !absent.isEmpty else { continue }
            outcome.misfits.append("[compute] \(name): the host has no CPUs \(absent), or they are offline")
        }
        for reserve in reserves {
            do {
                try topology.reserve([reserve])
            } catch {
                outcome.misfits.append(error.message)
            }
        }
        if hasSets { outcome.total.vcpus = topology.shared.count }
        outcome.topology = topology
        return outcome
    }

    /// Refuses what does not fit the host at the start. What vanishes later is merely not used.
    func check(_ capacity: HostCapacity) throws(Failure) {
        if let misfit = apply(to: capacity).misfits.first { throw Failure(.invalidParameters, misfit) }
        let both = CPUSet((shared?.numbers ?? []).intersection(dedicated?.numbers ?? []))
        guard both.isEmpty else {
            throw Failure(
                .invalidParameters, "[compute] cpu_shared_set and cpu_dedicated_set: both have the CPUs \(both)")
        }
    }
}
