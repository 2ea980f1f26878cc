public import Model

/// A NUMA cell of a host: processors and the memory that is near them.
public struct HostCell: Sendable, Hashable, Codable {
    /// Memory in pages of one size.
    public struct Pages: Sendable, Hashable, Codable {
        public var sizeKiB: Int
        public var total: Int
        /// Kept from guests by `reserved_huge_pages`.
        public var reserved: Int

        public init(sizeKiB: Int, total: Int, reserved: Int = 0) {
            (self.sizeKiB, self.total, self.reserved) = (sizeKiB, total, reserved)
        }
    }

    public var id: Int
    public var memoryMiB: Int
    /// The processors that are online.
    public var cpus: CPUSet
    /// The processors of each core; a core with one thread has one.
    public var cores: [CPUSet]
    /// From the smallest size to the largest; empty where the host does not say.
    public var pages: [Pages]
    /// The number of the processor package; `nil` where the host does not say.
    public var socket: Int?

    public init(id: Int, memoryMiB: Int, cpus: CPUSet, cores: [CPUSet], pages: [Pages], socket: Int? = nil) {
        (self.id, self.memoryMiB, self.cpus, self.socket) = (id, memoryMiB, cpus, socket)
        self.cores = cores
        self.pages = pages.sorted { $0.sizeKiB < $1.sizeKiB }
    }
}

/// A host's cells, and whom their processors are for.
public struct HostTopology: Sendable, Hashable {
    public var cells: [HostCell]
    /// `[compute] cpu_shared_set`, or all processors that are not dedicated.
    public var shared: CPUSet
    /// `[compute] cpu_dedicated_set`.
    public var dedicated: CPUSet

    /// - Parameters: what is configured; `nil` where nothing is. Without either all processors are shared; with dedicated
    ///   ones alone none is (Nova's rule).
    public init(cells: [HostCell], shared: CPUSet? = nil, dedicated: CPUSet? = nil) {
        self.cells = cells
        let online = cells.reduce(into: Set<Int>()) { $0.formUnion($1.cpus.numbers) }
        self.dedicated = CPUSet((dedicated?.numbers ?? []).intersection(online))
        self.shared = CPUSet((shared?.numbers ?? (dedicated == nil ? online : [])).intersection(online))
    }

    /// The processors of `cells` that are online.
    public var online: CPUSet { CPUSet(cells.reduce(into: []) { $0.formUnion($1.cpus.numbers) }) }

    /// The socket of each cell, where the host tells it.
    public var sockets: [Int: Int] {
        Dictionary(
            cells.compactMap { cell in cell.socket.map { (cell.id, $0) } }, uniquingKeysWith: { first, _ in first })
    }

    /// Sets pages of each cell aside. What is no cell's page size is an error of the configuration.
    public mutating func reserve(_ reserves: [HugePageReserve]) throws(Failure) {
        for reserve in reserves {
            guard let cell = cells.firstIndex(where: { $0.id == reserve.cell }),
                let size = cells[cell].pages.firstIndex(where: { $0.sizeKiB == reserve.sizeKiB })
            else {
                throw Failure(
                    .invalidParameters,
                    "[DEFAULT] reserved_huge_pages: cell \(reserve.cell) has no pages of \(reserve.sizeKiB) KiB")
            }
            cells[cell].pages[size].reserved = reserve.count
        }
    }
}

/// `node:0,size:2048,count:64`: so many pages are not for guests.
public struct HugePageReserve: Sendable, Hashable {
    public var cell: Int
    public var sizeKiB: Int
    public var count: Int

    /// `nil` when the text is not of that form. A size is a number of KiB, or one with a unit (2MB, 1GB).
    public init?(parsing text: String) {
        var values: [String: String] = [:]
        for part in text.split(separator: ",") {
            guard let colon = part.firstIndex(of: ":") else { return nil }
            values[part[..<colon].filter { $0 != " " }] = part[part.index(after: colon)...].filter { $0 != " " }
        }
        guard values.count == 3, let cell = values["node"].flatMap({ Int($0) }), let size = values["size"],
            let count = values["count"].flatMap({ Int($0) }), cell >= 0, (0...(1 << 40)).contains(count)
        else { return nil }
        let digits = size.prefix { ("0"..."9").contains($0) }
        let factors = ["": 1, "k": 1, "kb": 1, "m": 1_024, "mb": 1_024, "g": 1_048_576, "gb": 1_048_576]
        guard let number = Int(digits), (1...67_108_864).contains(number),
            let factor = factors[size.dropFirst(digits.count).lowercased()], number * factor <= 67_108_864
        else { return nil }
        (self.cell, sizeKiB, self.count) = (cell, number * factor, count)
    }
}
