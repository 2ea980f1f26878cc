public import GuestHardware
public import Model

/// Why a guest's topology finds no place on a host: what each is short of, at the cell that comes nearest.
public struct TopologyShortage: Error, Sendable, Hashable {
    public struct Item: Sendable, Hashable {
        /// `dedicated_cpus`, `shared_cpus`, `cell_memory_mib`, `pages_2048_kib`, `cells`, `thread_siblings`.
        public var resource: String
        public var requested: Int
        public var free: Int
        public var total: Int

        public init(resource: String, requested: Int, free: Int, total: Int) {
            (self.resource, self.requested, self.free, self.total) = (resource, requested, free, total)
        }
    }
    public var items: [Item]

    public init(_ items: [Item]) { self.items = items }
}

extension HostTopology {
    /// The place of a guest's topology beside what others have taken. The same arguments give the same place.
    ///
    /// - Parameters:
    ///   - favourites: cells that come before the others, because something that the guest wants is there.
    ///   - ratios: how far the cells' shared processors and memory are promised beyond what is there.
    /// - Throws: what is short, with the figures of the cell that lacks least.
    public func place(
        _ request: TopologyRequest, beside usage: TopologyUsage, ratios: AllocationRatios,
        preferring favourites: Set<Int> = []
    ) throws(TopologyShortage) -> TopologyPlacement {
        guard request.cells.count <= cells.count else {
            throw TopologyShortage([
                .init(resource: "cells", requested: request.cells.count, free: cells.count, total: cells.count)
            ])
        }
        let order = ordered(for: request, usage, favourites)
        var candidates: [[TopologyPlacement.Cell?]] = []
        for index in request.cells.indices {
            var (row, nearest): ([TopologyPlacement.Cell?], TopologyShortage?) = ([], nil)
            for host in order {
                do throws(TopologyShortage) {
                    row.append(try place(cell: index, of: request, on: host, usage[host.id], ratios))
                } catch {
                    row.append(nil)
                    if nearest.map({ error.distance < $0.distance }) ?? true { nearest = error }
                }
            }
            if let nearest, row.allSatisfy({ $0 == nil }) { throw nearest }
            candidates.append(row)
        }
        guard let chosen = Self.firstMatching(candidates.map { $0.map { $0 != nil } }) else {
            let free = (0..<order.count).count { host in candidates.contains { $0[host] != nil } }
            throw TopologyShortage([
                .init(resource: "cells", requested: request.cells.count, free: free, total: cells.count)
            ])
        }
        let placed = zip(candidates, chosen).compactMap { $0[$1] }
        return TopologyPlacement(
            cells: placed, emulatorCPUs: emulatorCPUs(request, placed), isMemoryLocked: request.isMemoryLocked)
    }

    private func emulatorCPUs(_ request: TopologyRequest, _ placed: [TopologyPlacement.Cell]) -> CPUSet? {
        switch request.emulatorPolicy {
        case .isolate: placed.first?.emulatorCPUs
        case .share: shared.isEmpty ? nil : shared
        case nil: nil
        }
    }

    /// Host cells with the most free memory first; among equals those with the most free processors of the wanted kind.
    private func ordered(
        for request: TopologyRequest, _ usage: TopologyUsage, _ favourites: Set<Int>
    ) -> [HostCell] {
        cells.enumerated().sorted { left, right in
            func rank(_ cell: HostCell) -> (Int, Int, Int) {
                let taken = usage[cell.id]
                let free =
                    request.dedicated.isEmpty
                    ? -taken.sharedVCPUs
                    : dedicated.numbers.intersection(cell.cpus.numbers).subtracting(taken.dedicated).count
                return (favourites.contains(cell.id) ? 1 : 0, cell.memoryMiB - taken.memoryMiB, free)
            }
            let (one, other) = (rank(left.element), rank(right.element))
            return one == other ? left.offset < right.offset : one > other
        }.map(\.element)
    }

    private func place(
        cell index: Int, of request: TopologyRequest, on host: HostCell, _ usage: TopologyUsage.Cell,
        _ ratios: AllocationRatios
    ) throws(TopologyShortage) -> TopologyPlacement.Cell {
        let guest = request.cells[index]
        var items: [TopologyShortage.Item] = []
        let page = pageSize(request, guest, host, usage, ratios, &items)
        let sharedHere = shared.numbers.intersection(host.cpus.numbers)
        let pinned = guest.vcpus.filter(request.dedicated.contains)
        let sharing = guest.vcpus.count - pinned.count
        if sharing > 0 {
            let limit = Int(min(Double(sharedHere.count) * ratios.cpu, 1e9))
            // However far they are promised, a guest cannot have more than there are.
            if sharing > sharedHere.count {
                items.append(
                    .init(
                        resource: "shared_cpus", requested: sharing, free: sharedHere.count, total: sharedHere.count))
            } else if usage.sharedVCPUs + sharing > limit {
                items.append(
                    .init(
                        resource: "shared_cpus", requested: sharing, free: max(0, limit - usage.sharedVCPUs),
                        total: limit))
            }
        }
        let dedicatedHere = dedicated.numbers.intersection(host.cpus.numbers)
        let free = dedicatedHere.subtracting(usage.dedicated)
        let spare = request.emulatorPolicy == .isolate && index == 0 ? 1 : 0
        var packing = CorePacking(cores: host.cores, dedicated: dedicatedHere, free: free)
        var taken: CorePacking.Taken?
        if pinned.count + spare > 0 {
            if pinned.count + spare > free.count {
                items.append(
                    .init(
                        resource: "dedicated_cpus", requested: pinned.count + spare, free: free.count,
                        total: dedicatedHere.count))
            } else {
                taken = packing.take(pinned.count, spare: spare, policy: request.threadPolicy ?? .prefer)
                if taken == nil {
                    items.append(
                        .init(
                            resource: "thread_siblings", requested: pinned.count + spare,
                            free: packing.usable(request.threadPolicy ?? .prefer), total: dedicatedHere.count))
                }
            }
        }
        guard items.isEmpty else { throw TopologyShortage(items) }
        return TopologyPlacement.Cell(
            hostCell: host.id, vcpus: CPUSet(Set(guest.vcpus)), memoryMiB: guest.memoryMiB, pageSizeKiB: page,
            pins: zip(pinned, taken?.cpus ?? []).map { TopologyPlacement.Pin(vcpu: $0, cpu: $1) },
            sharedCPUs: CPUSet(sharing > 0 ? sharedHere : []), emulatorCPUs: CPUSet(taken?.spare ?? []),
            silentCPUs: CPUSet(taken?.silent ?? []))
    }

    /// The size of a cell's pages, `nil` for ordinary memory; what is short goes to `items`.
    private func pageSize(
        _ request: TopologyRequest, _ guest: TopologyRequest.Cell, _ host: HostCell, _ usage: TopologyUsage.Cell,
        _ ratios: AllocationRatios, _ items: inout [TopologyShortage.Item]
    ) -> Int? {
        let smallest = host.pages.first?.sizeKiB
        let possible: [HostCell.Pages]
        switch request.pageSize {
        case nil:
            let (memory, taken) = ordinaryMemory(of: host, usage)
            let limit = Int(min(Double(memory) * ratios.memory, 1e12))
            // Memory that is shared out may be promised twice; that of a guest with processors of its own is there.
            let total = request.dedicated.isEmpty ? limit : memory
            if guest.memoryMiB > memory || taken + guest.memoryMiB > total {
                items.append(
                    .init(
                        resource: "cell_memory_mib", requested: guest.memoryMiB,
                        free: max(0, min(memory, total - taken)), total: total))
            }
            return nil
        case .small: possible = host.pages.prefix(1).map(\.self)
        case .large: possible = host.pages.dropFirst().reversed()
        case .any: possible = host.pages.reversed()
        case .exactly(let size): possible = host.pages.filter { $0.sizeKiB == size }
        }
        var nearest: TopologyShortage.Item?
        for pages in possible {
            let free = pages.total - pages.reserved - usage.pages[pages.sizeKiB, default: 0]
            let wanted = (guest.memoryMiB * 1_024 + pages.sizeKiB - 1) / pages.sizeKiB
            if guest.memoryMiB * 1_024 % pages.sizeKiB == 0, wanted <= free {
                return pages.sizeKiB == smallest && request.pageSize == .any ? nil : pages.sizeKiB
            }
            let item = TopologyShortage.Item(
                resource: "pages_\(pages.sizeKiB)_kib", requested: wanted, free: max(0, free), total: pages.total)
            if nearest.map({ item.requested - item.free < $0.requested - $0.free }) ?? true { nearest = item }
        }
        if case .exactly(let size)? = request.pageSize, nearest == nil {
            nearest = .init(
                resource: "pages_\(size)_kib", requested: guest.memoryMiB * 1_024 / max(1, size), free: 0, total: 0)
        }
        items.append(
            nearest ?? .init(resource: "huge_pages", requested: guest.memoryMiB, free: 0, total: 0))
        return nil
    }

    /// MiB of a cell that no huge page has, and how much of that guests have. Where a host does not tell its pages it is all
    /// of the memory.
    private func ordinaryMemory(of host: HostCell, _ usage: TopologyUsage.Cell) -> (total: Int, taken: Int) {
        guard let pages = host.pages.first else { return (host.memoryMiB, usage.memoryMiB) }
        let total = max(0, pages.total - pages.reserved) * pages.sizeKiB / 1_024
        return (min(host.memoryMiB, total), usage.pages[pages.sizeKiB, default: 0] * pages.sizeKiB / 1_024)
    }

    /// For each row another column that it allows; the first such choice in the order of the columns.
    static func firstMatching(_ allowed: [[Bool]]) -> [Int]? {
        var chosen: [Int] = []
        for row in allowed.indices {
            let column = allowed[row].indices.first { column in
                allowed[row][column] && !chosen.contains(column)
                    && canMatch(allowed[(row + 1)...], without: Set(chosen + [column]))
            }
            guard let column else { return nil }
            chosen.append(column)
        }
        return chosen
    }

    /// Whether each of the rows can have a column of its own, by augmenting paths.
    private static func canMatch(_ rows: ArraySlice<[Bool]>, without taken: Set<Int>) -> Bool {
        var owner: [Int: Int] = [:]
        func augment(_ row: Int, _ seen: inout Set<Int>) -> Bool {
            for column in rows[row].indices where rows[row][column] && !taken.contains(column) {
                guard seen.insert(column).inserted else { continue }
                if owner[column] == nil || augment(owner[column] ?? row, &seen) {
                    owner[column] = row
                    return true
                }
            }
            return false
        }
        for row in rows.indices {
            var seen: Set<Int> = []
            guard augment(row, &seen) else { return false }
        }
        return true
    }
}

extension TopologyShortage {
    /// Which parts of what is asked for are lacking, to find the nearest miss; among equals the cell that has most says
    /// most.
    fileprivate var distance: (Double, Int) {
        let lacking = items.reduce(0) { $0 + Double($1.requested - $1.free) / Double(max(1, $1.requested)) }
        return (lacking, -items.reduce(0) { $0 + $1.total })
    }
}
