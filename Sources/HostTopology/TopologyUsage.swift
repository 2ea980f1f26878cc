/// What guests have taken of a host's cells.
public struct TopologyUsage: Sendable, Hashable {
    public struct Cell: Sendable, Hashable {
        public var memoryMiB = 0
        /// vCPUs on shared processors.
        public var sharedVCPUs = 0
        /// Processors that are somebody's alone.
        public var dedicated: Set<Int> = []
        /// Pages, by their size in KiB.
        public var pages: [Int: Int] = [:]

        public init() {}
    }

    /// By the host's cell.
    public private(set) var cells: [Int: Cell] = [:]

    public init() {}

    /// The sum of `placements` on `host`.
    public init(_ placements: some Sequence<TopologyPlacement>, on host: HostTopology) {
        for placement in placements { add(placement, on: host) }
    }

    public mutating func add(_ placement: TopologyPlacement, on host: HostTopology) {
        for cell in placement.cells {
            var usage = cells[cell.hostCell] ?? Cell()
            usage.memoryMiB += cell.memoryMiB
            usage.sharedVCPUs += cell.sharedCount
            usage.dedicated.formUnion(cell.taken)
            let smallest = host.cells.first { $0.id == cell.hostCell }?.pages.first?.sizeKiB
            if let size = cell.pageSizeKiB ?? smallest, size > 0 {
                usage.pages[size, default: 0] += cell.memoryMiB * 1_024 / size
            }
            cells[cell.hostCell] = usage
        }
    }

    mutating func set(_ usage: Cell, of cell: Int) { cells[cell] = usage }

    public subscript(cell: Int) -> Cell { cells[cell] ?? Cell() }
}
