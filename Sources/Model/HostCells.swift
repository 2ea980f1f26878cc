/// What a NUMA cell of a host has, and what of it guests hold: for those who look, and for the scheduler.
public struct HostCellReport: Sendable, Hashable, Codable {
    public struct Pages: Sendable, Hashable, Codable {
        public var sizeKiB: Int
        public var total: Int
        public var reserved: Int
        public var used: Int

        public init(sizeKiB: Int, total: Int, reserved: Int, used: Int) {
            (self.sizeKiB, self.total, self.reserved, self.used) = (sizeKiB, total, reserved, used)
        }
    }

    public var id: Int
    public var memoryMiB: Int
    /// Memory of guests with a topology; others are on no certain cell.
    public var memoryUsedMiB: Int
    public var sharedCPUs: CPUSet
    public var sharedVCPUs: Int
    public var dedicatedCPUs: CPUSet
    /// Those of the dedicated ones that are somebody's.
    public var takenCPUs: CPUSet
    /// The threads of each core.
    public var cores: [CPUSet]
    public var pages: [Pages]
    /// The number of the processor package; `nil` where the host does not say, and from an agent that does not tell.
    public var socket: Int?

    public init(
        id: Int, memoryMiB: Int, memoryUsedMiB: Int, sharedCPUs: CPUSet, sharedVCPUs: Int, dedicatedCPUs: CPUSet,
        takenCPUs: CPUSet, cores: [CPUSet], pages: [Pages], socket: Int? = nil
    ) {
        (self.id, self.memoryMiB, self.memoryUsedMiB) = (id, memoryMiB, memoryUsedMiB)
        (self.sharedCPUs, self.sharedVCPUs) = (sharedCPUs, sharedVCPUs)
        (self.dedicatedCPUs, self.takenCPUs) = (dedicatedCPUs, takenCPUs)
        (self.cores, self.pages, self.socket) = (cores, pages, socket)
    }

    /// Whether every figure is one that a host can have.
    var isPossible: Bool {
        let figures =
            [id, memoryMiB, memoryUsedMiB, sharedVCPUs, socket ?? 0]
            + pages.flatMap { [$0.sizeKiB, $0.total, $0.reserved, $0.used] }
        return figures.allSatisfy { (0...(1 << 40)).contains($0) } && pages.count <= 16 && cores.count <= 8_192
    }
}
