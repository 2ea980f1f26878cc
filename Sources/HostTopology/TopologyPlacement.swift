public import Model

/// Where a guest's cells, processors and pages are on its host.
public struct TopologyPlacement: Sendable, Hashable, Codable {
    public struct Pin: Sendable, Hashable, Codable {
        public var vcpu: Int
        public var cpu: Int

        public init(vcpu: Int, cpu: Int) { (self.vcpu, self.cpu) = (vcpu, cpu) }
    }

    /// One cell of the guest on one of the host.
    public struct Cell: Sendable, Hashable, Codable {
        public var hostCell: Int
        /// All of the cell's vCPUs.
        public var vcpus: CPUSet
        public var memoryMiB: Int
        /// The size of the pages of its memory; `nil` for ordinary memory.
        public var pageSizeKiB: Int?
        /// The vCPUs with a processor of their own.
        public var pins: [Pin]
        /// What the other vCPUs share with other guests.
        public var sharedCPUs: CPUSet
        /// Processors that are for nobody else beside the pins: for the emulator, or as the silent siblings of a core.
        public var emulatorCPUs: CPUSet
        public var silentCPUs: CPUSet

        public init(
            hostCell: Int, vcpus: CPUSet, memoryMiB: Int, pageSizeKiB: Int?, pins: [Pin], sharedCPUs: CPUSet,
            emulatorCPUs: CPUSet = CPUSet(), silentCPUs: CPUSet = CPUSet()
        ) {
            (self.hostCell, self.vcpus, self.memoryMiB) = (hostCell, vcpus, memoryMiB)
            (self.pageSizeKiB, self.pins, self.sharedCPUs) = (pageSizeKiB, pins, sharedCPUs)
            (self.emulatorCPUs, self.silentCPUs) = (emulatorCPUs, silentCPUs)
        }

        /// Every processor that the cell keeps from others.
        public var taken: Set<Int> {
            Set(pins.map(\.cpu)).union(emulatorCPUs.numbers).union(silentCPUs.numbers)
        }

        /// vCPUs that share.
        public var sharedCount: Int { vcpus.count - pins.count }
    }

    /// In the guest's numbering.
    public var cells: [Cell]
    /// Where the emulator's threads run: on processors of their own, or on the shared ones; `nil` leaves it to the pins.
    public var emulatorCPUs: CPUSet?
    public var isMemoryLocked: Bool

    public init(cells: [Cell], emulatorCPUs: CPUSet?, isMemoryLocked: Bool) {
        (self.cells, self.emulatorCPUs, self.isMemoryLocked) = (cells, emulatorCPUs, isMemoryLocked)
    }

    /// Every processor that is for this guest alone.
    public var dedicatedCPUs: CPUSet { CPUSet(cells.reduce(into: []) { $0.formUnion($1.taken) }) }

    /// For a person: `cell 0: CPUs 2,3; 512 MiB in pages of 2048 KiB`.
    public var summary: String {
        cells.map { cell in
            var text = "cell \(cell.hostCell)"
            if !cell.taken.isEmpty { text += ", CPUs \(CPUSet(cell.taken))" }
            if let size = cell.pageSizeKiB { text += ", \(cell.memoryMiB) MiB in pages of \(size) KiB" }
            return text
        }.joined(separator: "; ")
    }
}
