internal import GuestHardware
internal import HostTopology
internal import Model
internal import Synchronization

/// What a request's flavor and image demand of cells and devices: read once for all hosts and all filters that ask, and
/// with the place on each host that has been looked for.
final class HardwareDemand: Sendable {
    let topology: TopologyRequest?
    let devices: [PassthroughHardware.Request]
    /// In place of the aliases' own.
    let policy: String?
    /// What is wrong with the demand; no host has it then.
    let fault: String?

    /// A place and all that it was found by: a host that has changed since is looked at again.
    private struct Known {
        var cells: [HostCellReport]
        var pools: [PCIPool]
        var ratios: AllocationRatios
        var found: Result<TopologyPlacement, TopologyShortage>
    }
    private let places = Mutex<[HostName: Known]>([:])

    init(_ request: borrowing PlacementRequest) {
        var (topology, fault): (TopologyRequest?, String?)
        var (devices, policy): ([PassthroughHardware.Request], String?) = ([], nil)
        if let flavor = request.flavor {
            do throws(HardwareError) {
                let hardware = try GuestHardware(flavor: flavor, imageProperties: request.imageProperties ?? [:])
                (topology, devices) = (hardware.topology, hardware.passthrough.requests)
                policy = hardware.passthrough.policy?.rawValue
            } catch {
                fault = "\(error)"
            }
        }
        (self.topology, self.devices, self.policy, self.fault) = (topology, devices, policy, fault)
    }

    static func key(_ filter: String, _ request: borrowing PlacementRequest) -> VerdictKey {
        VerdictKey(
            filter, specs: request.flavor?.extraSpecs ?? [:], properties: request.imageProperties ?? [:],
            amounts: [request.flavor?.vcpus ?? 0, request.flavor?.memoryMiB ?? 0])
    }

    private static let names = ["numa_", "cpu_", "mem_page_size", "emulator_threads_policy", "locked_memory"]

    /// Whether there is anything that could be a demand of cells: most requests have none.
    static func mayAsk(_ request: borrowing PlacementRequest) -> Bool {
        guard let flavor = request.flavor else { return false }
        let specs = flavor.extraSpecs.keys.lazy.filter { $0.hasPrefix("hw:") }.map { $0.dropFirst(3) }
        if specs.contains(where: isOne) { return true }
        let properties = request.imageProperties?.keys.lazy.filter { $0.hasPrefix("hw_") }.map { $0.dropFirst(3) }
        return properties?.contains(where: isOne) ?? false
    }

    private static func isOne(_ name: Substring) -> Bool { names.contains { name.hasPrefix($0) } }

    /// Where the guest's cells come on `host`, preferring cells with its devices, as the host's own claim does.
    func place(on host: borrowing HostState) throws(TopologyShortage) -> TopologyPlacement? {
        guard let topology else { return nil }
        let (cells, pools, ratios) = (host.cells ?? [], host.pciPools ?? [], host.ratios)
        let name = host.name
        // Of an array that nobody has written to since only its address is compared.
        if let known = places.withLock({ $0[name] }), known.cells == cells, known.pools == pools, known.ratios == ratios
        {
            return try known.found.get()
        }
        let found = place(topology, on: cells, pools, ratios)
        places.withLock { $0[name] = Known(cells: cells, pools: pools, ratios: ratios, found: found) }
        return try found.get()
    }

    private func place(
        _ topology: TopologyRequest, on cells: [HostCellReport], _ pools: [PCIPool], _ ratios: AllocationRatios
    ) -> Result<TopologyPlacement, TopologyShortage> {
        let favourites = Set(
            pools.filter { pool in pool.free > 0 && devices.contains { pool.serves($0.alias) } }
                .compactMap(\.numaNode))
        do throws(TopologyShortage) {
            return .success(
                try HostTopology(cells).place(
                    topology, beside: TopologyUsage(cells), ratios: ratios, preferring: favourites))
        } catch {
            return .failure(error)
        }
    }

    /// The hosts on which a place has been looked for.
    var placedHosts: Set<HostName> { places.withLock { Set($0.keys) } }
}

/// What filters read of one request, read once for all of them that want it.
public final class RequestReading: Sendable {
    private let demand = Mutex<HardwareDemand?>(nil)

    public init() {}

    /// - Parameter request: the same each time.
    func hardware(of request: borrowing PlacementRequest) -> HardwareDemand {
        if let known = demand.withLock({ $0 }) { return known }
        let made = HardwareDemand(request)
        return demand.withLock { known in
            known = known ?? made
            return known ?? made
        }
    }
}
