public import Model

extension HostTopology {
    /// The topology that a host has reported.
    public init(_ report: [HostCellReport]) {
        self.init(
            cells: report.map { cell in
                HostCell(
                    id: cell.id, memoryMiB: cell.memoryMiB,
                    cpus: CPUSet(cell.sharedCPUs.numbers.union(cell.dedicatedCPUs.numbers)), cores: cell.cores,
                    pages: cell.pages.map {
                        HostCell.Pages(sizeKiB: $0.sizeKiB, total: $0.total, reserved: $0.reserved)
                    }, socket: cell.socket)
            },
            shared: CPUSet(report.reduce(into: []) { $0.formUnion($1.sharedCPUs.numbers) }),
            dedicated: CPUSet(report.reduce(into: []) { $0.formUnion($1.dedicatedCPUs.numbers) }))
    }
}

extension TopologyUsage {
    /// What is taken of a host's cells by its report.
    public init(_ report: [HostCellReport]) {
        self.init()
        for cell in report {
            var taken = Cell()
            (taken.memoryMiB, taken.sharedVCPUs) = (cell.memoryUsedMiB, cell.sharedVCPUs)
            taken.dedicated = cell.takenCPUs.numbers
            for pages in cell.pages { taken.pages[pages.sizeKiB] = pages.used }
            set(taken, of: cell.id)
        }
    }
}

extension HostCellReport {
    /// The same cell with this usage.
    public func with(_ usage: TopologyUsage.Cell) -> HostCellReport {
        var cell = self
        (cell.memoryUsedMiB, cell.sharedVCPUs) = (usage.memoryMiB, usage.sharedVCPUs)
        cell.takenCPUs = CPUSet(usage.dedicated)
        for index in cell.pages.indices {
            cell.pages[index].used = usage.pages[cell.pages[index].sizeKiB, default: 0]
        }
        return cell
    }
}
