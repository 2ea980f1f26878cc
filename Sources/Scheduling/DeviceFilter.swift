internal import GuestHardware
internal import HostTopology
public import Model

/// Passes hosts with enough free devices of each alias that the flavor names, near enough to the guest's cells, of which
/// none shuts another out. Which devices they are is decided by the host's claim.
public struct PciPassthroughFilter: HardwareFilter {
    public let name = "PciPassthroughFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.flavor?.extraSpecs["pci_passthrough:alias"] == nil
    }

    func prepared(_ demand: HardwareDemand) -> any HostFilter { PreparedDevices(demand) }
}

struct PreparedDevices: HostFilter {
    let name = "PciPassthroughFilter"
    let demand: HardwareDemand

    init(_ demand: HardwareDemand) { self.demand = demand }

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        if let fault = demand.fault { return Rejection(reason: "asked for what cannot be read: \(fault)") }
        guard !demand.devices.isEmpty else { return nil }
        guard let pools = host.pciPools, !pools.isEmpty else {
            return Rejection(reason: "without devices for guests")
        }
        // An agent that does not tell its aliases decides by its claim alone.
        guard pools.contains(where: { $0.aliases != nil }) else { return nil }
        do throws(DeviceShortage) {
            _ = try choose(pools, on: host)
            return nil
        } catch {
            return error.rejection
        }
    }

    func consume(
        _ host: inout HostState, chosenAs before: borrowing HostState, for request: borrowing PlacementRequest
    ) {
        // A host that was forced may have none: its own claim says so.
        guard let pools = before.pciPools, let taken = try? choose(pools, on: before) else { return }
        host.pciPools?.take(taken)
    }

    private func choose(_ pools: [PCIPool], on host: borrowing HostState) throws(DeviceShortage) -> [Int] {
        let placement = (try? demand.place(on: host)).flatMap { $0 }
        let cells = placement.map { Set($0.cells.map(\.hostCell)) }
        var choice = DeviceChoice(
            pools, near: cells, sockets: host.cells ?? [], policy: demand.policy)
        return try choice.run(demand.devices.map { ($0.alias, $0.count) })
    }
}
