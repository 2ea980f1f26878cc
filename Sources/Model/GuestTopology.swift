/// Where a guest's cells are on its host: what `servers/{id}/topology` tells.
public struct GuestTopology: Sendable, Hashable, Codable {
    public struct Cell: Sendable, Hashable, Codable {
        public var hostCell: Int
        public var memoryMiB: Int
        /// The numbers of its vCPUs, ascending.
        public var vcpus: [Int]
        /// The host's processor of each vCPU that has one of its own.
        public var pins: [Int: Int]
        /// The vCPUs that are threads of one core, core by core; empty where cores have one thread.
        public var siblings: [[Int]]

        public init(hostCell: Int, memoryMiB: Int, vcpus: [Int], pins: [Int: Int], siblings: [[Int]] = []) {
            (self.hostCell, self.memoryMiB, self.vcpus) = (hostCell, memoryMiB, vcpus)
            (self.pins, self.siblings) = (pins, siblings)
        }
    }

    /// In the guest's numbering; empty for a guest that takes processors and memory as they come.
    public var cells: [Cell]
    /// The size of the pages of its memory; `nil` for ordinary memory.
    public var pageSizeKiB: Int?

    public init(cells: [Cell], pageSizeKiB: Int?) { (self.cells, self.pageSizeKiB) = (cells, pageSizeKiB) }
}
