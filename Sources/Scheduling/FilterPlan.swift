internal import Model

/// The configured filters, parted into those that read a column and the others.
struct FilterPlan: Sendable {
    private var asksUse = false
    private var asksZone = false
    private var asksCores = false
    private var asksMemory = false
    private var asksDisk = false
    /// In the order of the configuration.
    private(set) var others: [any HostFilter] = []

    init(_ filters: [any HostFilter]) {
        for filter in filters {
            switch filter.name {
            case "ComputeFilter": asksUse = true
            case "AvailabilityZoneFilter": asksZone = true
            case "CoreFilter": asksCores = true
            case "RamFilter": asksMemory = true
            case "DiskFilter": asksDisk = true
            default: others.append(filter)
            }
        }
    }

    /// A filter that a request does not leave neutral, with what it has read of it.
    struct Asking {
        var prepared: any HostFilter
        var runsOncePerRequest: Bool
        var key: VerdictKey?
    }

    func asking(_ request: PlacementRequest) -> [Asking] {
        var found: [Asking] = []
        let reading = RequestReading()
        for filter in others where !filter.isNeutral(for: request) {
            found.append(
                Asking(
                    prepared: filter.prepared(for: request, sharing: reading),
                    runsOncePerRequest: filter.runsOncePerRequest,
                    key: filter.verdictKey(for: request)))
        }
        return found
    }

    /// The hosts that the columns' filters let pass.
    ///
    /// - Parameter positions: those that come into question; `nil`: all.
    func scan(_ columns: HostColumns, _ positions: [Int]?, _ request: PlacementRequest) -> [Int] {
        let vcpus = asksCores ? Int64(request.resources.vcpus) : .min
        let memory = asksMemory ? Int64(request.resources.memoryMiB) : .min
        let disk = asksDisk ? Int64(request.resources.diskGiB) : .min
        var zone: Int32?
        if asksZone, let name = request.availabilityZone {
            guard let number = columns.zone(name) else { return [] }
            zone = number
        }
        let asksUse = asksUse
        return columns.isUsable.withUnsafeBufferPointer { usable in
            columns.vcpus.withUnsafeBufferPointer { cores in
                columns.memory.withUnsafeBufferPointer { free in
                    columns.disk.withUnsafeBufferPointer { space in
                        columns.zones.withUnsafeBufferPointer { zones in
                            func passes(_ place: Int) -> Bool {
                                (usable[place] || !asksUse) && cores[place] >= vcpus && free[place] >= memory
                                    && space[place] >= disk && (zone == nil || zones[place] == zone)
                            }
                            if let positions { return positions.filter(passes) }
                            return [Int](unsafeUninitializedCapacity: usable.count) { buffer, count in
                                for place in 0..<usable.count {
                                    // Written always, kept where it passes: no branch to foretell.
                                    buffer[count] = place
                                    count += passes(place) ? 1 : 0
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The hosts that come into question before any filter is asked.
struct Preselection {
    /// What a request says of which hosts it wants, read once.
    struct Rule {
        private let ignored: Set<String>
        private let forcedHost: String?
        private let forcedNode: String?
        private let requestedHost: HostName?
        private let requestedNode: String?

        init(_ request: PlacementRequest) {
            ignored = Set(request.ignoredHosts.map { $0.rawValue.lowercased() })
            (forcedHost, forcedNode) = (request.forcedHost?.rawValue.lowercased(), request.forcedNode)
            (requestedHost, requestedNode) = (request.requestedHost, request.requestedNode)
        }

        /// Whether it says nothing.
        var isNeutral: Bool {
            ignored.isEmpty && forcedHost == nil && forcedNode == nil && requestedHost == nil && requestedNode == nil
        }

        func reject(_ host: borrowing HostState) -> (filter: String, rejection: Rejection)? {
            let name = host.name
            if !ignored.isEmpty, ignored.contains(name.rawValue.lowercased()) {
                return ("IgnoredHosts", Rejection(reason: "excluded by the request"))
            }
            if let requestedHost, requestedHost != name { return Self.other("RequestedDestination") }
            if let requestedNode, requestedNode != host.node { return Self.other("RequestedDestination") }
            if let forcedHost, forcedHost != name.rawValue.lowercased() { return Self.other("ForcedHost") }
            if let forcedNode, forcedNode != host.node { return Self.other("ForcedHost") }
            return nil
        }

        private static func other(_ name: String) -> (filter: String, rejection: Rejection) {
            (name, Rejection(reason: "not the one that was asked for"))
        }
    }

    /// `nil`: all.
    var positions: [Int]?
    var tally = RefusalTally()
    /// Chosen by an administrator: no filter is asked.
    let isForced: Bool

    init(_ hosts: [HostState], _ request: PlacementRequest) {
        isForced = request.forcedHost != nil || request.forcedNode != nil
        let rule = Rule(request)
        guard !rule.isNeutral else { return }
        var found: [Int] = []
        for (position, host) in hosts.enumerated() {
            if let (filter, rejection) = rule.reject(host) {
                tally.add(filter, rejection)
            } else {
                found.append(position)
            }
        }
        positions = found
    }
}

/// Counts rejections by filter and reason, and keeps the nearest miss of each.
struct RefusalTally {
    private struct Key: Hashable {
        var filter: String
        var reason: String
    }
    private var counts: [Key: (hosts: Int, nearest: Int?, unit: String)] = [:]

    mutating func add(_ filter: String, _ rejection: Rejection) {
        var entry = counts[Key(filter: filter, reason: rejection.reason)] ?? (0, nil, rejection.unit)
        entry.hosts += 1
        if let shortage = rejection.shortage { entry.nearest = min(entry.nearest ?? shortage, shortage) }
        counts[Key(filter: filter, reason: rejection.reason)] = entry
    }

    var reasons: [PlacementRefusal.Reason] {
        counts.map { key, entry in
            PlacementRefusal.Reason(
                filter: key.filter, reason: key.reason, hosts: entry.hosts,
                nearestMiss: entry.nearest.map { "\($0) \(entry.unit)" })
        }.sorted { ($1.hosts, $0.filter, $0.reason) < ($0.hosts, $1.filter, $1.reason) }
    }
}
