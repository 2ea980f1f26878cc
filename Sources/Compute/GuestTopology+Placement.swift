internal import HostTopology
internal import Model

extension GuestTopology {
    /// What a claim has placed; a guest without placement has no cells.
    init(_ placement: TopologyPlacement?) {
        let cells = placement?.cells ?? []
        self.init(
            cells: cells.map { cell in
                Cell(
                    hostCell: cell.hostCell, memoryMiB: cell.memoryMiB, vcpus: cell.vcpus.numbers.sorted(),
                    pins: Dictionary(cell.pins.map { ($0.vcpu, $0.cpu) }) { first, _ in first })
            }, pageSizeKiB: cells.compactMap(\.pageSizeKiB).first)
    }
}
