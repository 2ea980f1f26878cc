internal import Model

/// What the cheap filters and the weighers read of every host, one array a figure: a decision over thousands of hosts goes
/// through these, and through the hosts themselves only where a request asks for more.
struct HostColumns {
    /// Up, and not disabled.
    private(set) var isUsable: [Bool] = []
    private(set) var zones: [Int32] = []
    /// The most that one guest may ask for; what is beyond 64 bits of MiB is not told apart.
    private(set) var vcpus: [Int64] = []
    private(set) var memory: [Int64] = []
    private(set) var disk: [Int64] = []
    /// A column a weigher that reads the host alone; empty for one that reads the request, too.
    private(set) var figures: [[Double]]
    /// Of each weigher the figure that every host has had so far; `nil` once two have differed.
    private var common: [Double?]
    private var isCommonKnown = false
    /// A column a weigher for which some aggregate has another multiplier.
    private(set) var multipliers: [[Double]?]
    private var zoneNumbers: [String: Int32] = [:]
    private let weighers: [any HostWeigher]

    init(_ weighers: [any HostWeigher]) {
        self.weighers = weighers
        figures = weighers.map { _ in [] }
        multipliers = weighers.map { _ in nil }
        common = weighers.map { _ in nil }
    }

    /// Whether a weigher that reads the host alone gives every host nothing: all have the same figure, and none counts by
    /// itself.
    func isLevel(_ index: Int) -> Bool {
        guard let common = common[index] else { return false }
        return weighers[index].minimum.map { common <= $0 } ?? true
    }

    var count: Int { isUsable.count }

    /// `nil` for a zone that no host is in.
    func zone(_ name: String) -> Int32? { zoneNumbers[name] }

    mutating func append(_ host: HostState) {
        isUsable.append(false)
        zones.append(0)
        vcpus.append(0)
        memory.append(0)
        disk.append(0)
        for index in weighers.indices {
            figures[index].append(0)
            multipliers[index]?.append(weighers[index].effectiveMultiplier)
        }
        write(host, at: count - 1)
    }

    mutating func write(_ host: HostState, at position: Int) {
        writeStatus(host, at: position)
        writeAmounts(host, at: position)
        zones[position] = number(of: host.availabilityZone)
        for index in weighers.indices { writeMultiplier(host, index, at: position) }
    }

    mutating func writeStatus(_ host: HostState, at position: Int) {
        isUsable[position] = host.isUp && !host.isDisabled
    }

    /// What changes when a guest is placed.
    mutating func writeAmounts(_ host: HostState, at position: Int) {
        vcpus[position] = Int64(CoreFilter().available(host))
        memory[position] = Int64(RamFilter().available(host))
        disk[position] = Int64(DiskFilter().available(host))
        for index in weighers.indices where weighers[index].readsHostAlone {
            let figure = weighers[index].weigh(host, for: .none)
            figures[index][position] = figure
            if !isCommonKnown { common[index] = figure } else if common[index] != figure { common[index] = nil }
        }
        isCommonKnown = true
    }

    private mutating func writeMultiplier(_ host: HostState, _ index: Int, at position: Int) {
        let own = weighers[index].ownMultiplier(of: host)
        if multipliers[index] == nil {
            guard own != nil else { return }
            multipliers[index] = Array(repeating: weighers[index].effectiveMultiplier, count: count)
        }
        multipliers[index]?[position] = own ?? weighers[index].effectiveMultiplier
    }

    private mutating func number(of zone: String) -> Int32 {
        if let known = zoneNumbers[zone] { return known }
        let next = Int32(zoneNumbers.count + 1)
        zoneNumbers[zone] = next
        return next
    }

    /// Moves the last host to `position`, and forgets the last place.
    mutating func moveLast(to position: Int) {
        isUsable.moveLast(to: position)
        zones.moveLast(to: position)
        vcpus.moveLast(to: position)
        memory.moveLast(to: position)
        disk.moveLast(to: position)
        for index in weighers.indices {
            figures[index].moveLast(to: position)
            multipliers[index]?.moveLast(to: position)
        }
    }
}

extension Array {
    fileprivate mutating func moveLast(to position: Int) {
        swapAt(position, count - 1)
        removeLast()
    }
}

extension PlacementRequest {
    /// What weighers that read the host alone are given.
    static let none = PlacementRequest(
        instances: [], resources: .zero, projectID: ProjectID(""), alternates: 0)
}
