public import Model

/// One line of a trace.
public enum TraceEvent: Sendable {
    case request(PlacementRequest)
    /// An instance that was placed is deleted.
    case delete(InstanceID)

    /// Reads `{"request": {…}}` or `{"delete": "ID"}`.
    ///
    /// - Parameter place: stands in front of what is wrong: `line 3`.
    public init(_ json: JSON, at place: String) throws(DocumentError) {
        guard let members = json.members, members.count == 1, let (kind, value) = members.first else {
            throw DocumentError(place, "an object with one member is wanted: request or delete")
        }
        switch kind {
        case "request": self = .request(try PlacementRequest(document: value, at: place))
        case "delete":
            guard let id = value.text else { throw DocumentError(place, "delete: an instance's id is wanted") }
            self = .delete(InstanceID(id))
        default: throw DocumentError(place, "\(kind): request or delete is wanted")
        }
    }
}

/// Runs a trace against a fleet and counts what came of it. Builds end at once: no host is busy with one when the next
/// request comes.
public struct Replay: Sendable {
    private struct Holding {
        var host: HostName
        var before: HostState
        var after: HostState
    }

    public private(set) var scheduler: FilterScheduler
    /// Requests, whatever came of them.
    public private(set) var requests = 0
    public private(set) var refusedRequests = 0
    public private(set) var placedInstances = 0
    public private(set) var deletedInstances = 0
    /// Deletions of what is not there, because its request was refused or there was none.
    public private(set) var missedDeletions = 0
    /// Hosts refused by filter and reason, over all refused requests.
    public private(set) var refusals: [PlacementRefusal.Reason: Int] = [:]
    private var holdings: [InstanceID: [Holding]] = [:]
    private var groups: [ServerGroupID: [InstanceID: HostName]] = [:]
    private var groupOf: [InstanceID: ServerGroupID] = [:]

    /// The devices of each host before the first request.
    private let pools: [HostName: [PCIPool]]

    public init(_ scheduler: FilterScheduler) {
        self.scheduler = scheduler
        pools = Dictionary(
            scheduler.hosts.compactMap { host in host.pciPools.map { (host.name, $0) } }, uniquingKeysWith: { $1 })
    }

    /// What a request came to, for the caller to time.
    @discardableResult
    public mutating func run(_ event: TraceEvent, using generator: inout some RandomNumberGenerator)
        -> PlacementDecision?
    {
        switch event {
        case .request(let request): return place(request, using: &generator)
        case .delete(let id):
            delete(id)
            return nil
        }
    }

    private mutating func place(
        _ asked: PlacementRequest, using generator: inout some RandomNumberGenerator
    ) -> PlacementDecision {
        var request = asked
        requests += 1
        if let id = request.group?.id {
            // What the trace says of the group, and what it has placed of it itself.
            for host in (groups[id] ?? [:]).values { request.group?.members[host, default: 0] += 1 }
        }
        let (decision, picks) = scheduler.picks(
            request, now: Timestamp(microseconds: Int64(requests)), using: &generator)
        switch decision {
        case .refused(let refusal):
            refusedRequests += 1
            for reason in refusal.reasons {
                let key = PlacementRefusal.Reason(
                    filter: reason.filter, reason: reason.reason, hosts: 0, nearestMiss: nil)
                refusals[key, default: 0] += reason.hosts
            }
        case .placed(let lists):
            placedInstances += lists.count
            for ((id, hosts), pick) in zip(zip(request.instances, lists), picks) {
                guard let host = hosts.first else { continue }
                scheduler.endBuild(on: host)
                holdings[id, default: []].append(Holding(host: host, before: pick.before, after: pick.after))
                if let group = request.group?.id {
                    groups[group, default: [:]][id] = host
                    groupOf[id] = group
                }
            }
        }
        return decision
    }

    private mutating func delete(_ id: InstanceID) {
        guard let holding = holdings[id]?.popLast() else {
            missedDeletions += 1
            return
        }
        if holdings[id]?.isEmpty == true { holdings[id] = nil }
        if let group = groupOf.removeValue(forKey: id) { groups[group]?[id] = nil }
        deletedInstances += 1
        scheduler.release(
            what: holding.after, hadMoreThan: holding.before, from: holding.host,
            startingWith: pools[holding.host] ?? [])
    }
}

/// How full a fleet is, of one resource.
public struct Packing: Sendable, Hashable {
    /// Shares of what may be promised (with the ratios), over the hosts that have any.
    public var least: Double
    public var mean: Double
    public var most: Double

    /// `nil` for a fleet without any.
    public init?(_ hosts: [HostState], _ figure: KeyPath<Resources, Int>, _ ratio: KeyPath<AllocationRatios, Double>) {
        let shares = hosts.compactMap { host -> Double? in
            let most = Double(host.total[keyPath: figure]) * host.ratios[keyPath: ratio]
            return most > 0 ? Double(host.used[keyPath: figure]) / most : nil
        }
        guard let least = shares.min(), let most = shares.max() else { return nil }
        (self.least, self.most, mean) = (least, most, shares.reduce(0, +) / Double(shares.count))
    }
}

extension FilterScheduler {
    /// A host before and after it was picked.
    struct Pick {
        var before: HostState
        var after: HostState
    }

    /// As `select`, with what each pick took.
    mutating func picks(
        _ asked: PlacementRequest, now: Timestamp, using generator: inout some RandomNumberGenerator
    ) -> (PlacementDecision, [Pick]) {
        var taken: [Pick] = []
        let decision = select(asked, now: now, using: &generator) { taken.append(Pick(before: $0, after: $1)) }
        return (decision, taken)
    }

    mutating func endBuild(on name: HostName) { change(name) { $0.ioOperations -= 1 } }

    /// Gives back what a host had more of after a pick than before it.
    ///
    /// - Parameter pools: the host's devices before anybody took one.
    mutating func release(
        what after: HostState, hadMoreThan before: HostState, from name: HostName, startingWith pools: [PCIPool]
    ) {
        change(name) { host in
            host.used = host.used - (after.used - before.used)
            host.instanceCount -= after.instanceCount - before.instanceCount
            for index in host.cells?.indices ?? 0..<0 {
                guard let one = before.cells?[index], let other = after.cells?[index] else { continue }
                host.cells?[index].memoryUsedMiB -= other.memoryUsedMiB - one.memoryUsedMiB
                host.cells?[index].sharedVCPUs -= other.sharedVCPUs - one.sharedVCPUs
                host.cells?[index].takenCPUs.numbers.subtract(
                    other.takenCPUs.numbers.subtracting(one.takenCPUs.numbers))
                for page in one.pages.indices {
                    host.cells?[index].pages[page].used -= other.pages[page].used - one.pages[page].used
                }
            }
            host.pciPools?.giveBack(from: before.pciPools ?? [], to: after.pciPools ?? [], start: pools)
        }
    }
}
