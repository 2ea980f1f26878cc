internal import Model

/// A resource of which hosts are more or less full.
public enum LoadResource: String, Sendable, Hashable, CaseIterable {
    case vcpus
    case memory
    case disk

    /// The weigher that looks at how much of it is free.
    public var weigher: String {
        switch self {
        case .vcpus: "CPUWeigher"
        case .memory: "RAMWeigher"
        case .disk: "DiskWeigher"
        }
    }

    fileprivate var lane: Int {
        switch self {
        case .vcpus: 0
        case .memory: 1
        case .disk: 2
        }
    }
}

/// How unlike hosts are in how full they are.
public struct LoadSpread: Sendable, Hashable {
    /// Of one resource, over the hosts that have any of it: shares of what may be promised to guests, 1 being all.
    public struct Figures: Sendable, Hashable {
        /// The standard deviation.
        public var deviation = 0.0
        public var least = 0.0
        public var mean = 0.0
        public var most = 0.0
    }

    /// The standard deviation over the resources that count: the root of the mean of their squares, each counted as
    /// often as its weigher's multiplier says.
    public var overall: Double
    public var figures: [LoadResource: Figures]
}

/// How full each host of a table is. A share is what guests have of what may be promised to them: of (total − reserved) ×
/// ratio.
struct FleetLoad {
    /// A lane a resource; the fourth is not used.
    typealias Lanes = SIMD4<Double>

    private(set) var names: [HostName] = []
    private(set) var shares: [Lanes] = []
    private(set) var places: [HostName: Int] = [:]
    /// Of one unit; 0 where there is nothing to promise.
    private var scales: [Lanes] = []
    private var overheads: [Int] = []
    /// How much each resource counts, 1 in all.
    private let weights: Lanes
    /// 1 by how many hosts have any.
    private var inverseCounts = Lanes.zero
    private var sums = Lanes.zero
    private var squares = Lanes.zero

    /// - Parameter weights: how much each resource counts, against the others.
    init(_ hosts: [HostState], weights: [LoadResource: Double]) {
        var given = Lanes.zero
        for (resource, weight) in weights { given[resource.lane] = weight }
        self.weights = given.sum() > 0 ? given / given.sum() : .zero
        var counts = Lanes.zero
        for host in hosts.sorted(by: { $0.name < $1.name }) {
            places[host.name] = names.count
            names.append(host.name)
            overheads.append(host.guestOverheadMiB)
            let room = Self.room(of: host)
            let scale = Lanes.zero.replacing(with: 1 / room, where: room .> 0)
            scales.append(scale)
            counts += Lanes.zero.replacing(with: 1, where: room .> 0)
            let share = Self.taken(of: host) * scale
            shares.append(share)
            sums += share
            squares += share * share
        }
        inverseCounts = Lanes.zero.replacing(with: 1 / counts, where: counts .> 0)
    }

    private static func room(of host: HostState) -> Lanes {
        let (total, ratios) = (host.total - host.reserved, host.ratios)
        return Lanes(
            Double(total.vcpus) * ratios.cpu, Double(total.memoryMiB) * ratios.memory,
            Double(total.diskGiB) * ratios.disk, 0)
    }

    private static func taken(of host: HostState) -> Lanes { lanes(host.used - host.reserved) }

    private static func lanes(_ resources: Resources) -> Lanes {
        Lanes(Double(resources.vcpus), Double(resources.memoryMiB), Double(resources.diskGiB), 0)
    }

    private var variance: Double { variance(sums, squares) }

    private func variance(_ sums: Lanes, _ squares: Lanes) -> Double {
        let means = sums * inverseCounts
        return max(0, (weights * (squares * inverseCounts - means * means)).sum())
    }

    /// As `LoadSpread.overall`.
    var spread: Double { variance.squareRoot() }

    /// How full a host is in all, of the resources that count.
    func level(_ place: Int) -> Double { (weights * shares[place]).sum() }

    static func share(of resource: LoadResource, in shares: Lanes) -> Double { shares[resource.lane] }

    /// Takes a host's new amounts.
    mutating func update(_ host: HostState) {
        guard let place = places[host.name] else { return }
        sums -= shares[place]
        squares -= shares[place] * shares[place]
        shares[place] = Self.taken(of: host) * scales[place]
        sums += shares[place]
        squares += shares[place] * shares[place]
    }

    /// What a move does.
    struct Effect {
        /// By how much the sum of the squared deviations falls.
        var gain: Double
        /// How far the hosts lie apart, in the middle of the move: of hosts that are alike, the mean of the differences
        /// before and after it, negative where it changes the sides of more than there was.
        var gap: Double
    }

    /// The effect of moving a guest of so much from one host to another.
    func effect(of guest: Resources, from: Int, to: Int) -> Effect {
        var amount = Self.lanes(guest)
        amount[1] += Double(overheads[from])
        let left = amount * scales[from]
        amount[1] += Double(overheads[to] - overheads[from])
        let right = amount * scales[to]
        let (one, other) = (shares[from], shares[to])
        let (less, more) = (one - left, other + right)
        let after = variance(sums - left + right, squares - one * one - other * other + less * less + more * more)
        let gain = (variance - after) * Double(names.count)
        let size = ((weights * left * left).sum().squareRoot() + (weights * right * right).sum().squareRoot()) / 2
        return Effect(gain: gain, gap: size > 0 ? gain / (2 * size) : 0)
    }

    /// The most that moving such a guest could gain, wherever it went.
    func mostGain(of guest: Resources, from: Int, leastGap: Double) -> Double {
        var most = 0.0
        for place in names.indices where place != from {
            let effect = effect(of: guest, from: from, to: place)
            if effect.gap >= leastGap, effect.gain > most { most = effect.gain }
        }
        return most
    }

    var summary: LoadSpread {
        var figures: [LoadResource: LoadSpread.Figures] = [:]
        for resource in LoadResource.allCases {
            let lane = resource.lane
            let found = shares.indices.filter { scales[$0][lane] > 0 }.map { shares[$0][lane] }
            guard let least = found.min(), let most = found.max() else { continue }
            let mean = found.reduce(0, +) / Double(found.count)
            let variance = found.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(found.count)
            figures[resource] = .init(deviation: variance.squareRoot(), least: least, mean: mean, most: most)
        }
        return LoadSpread(overall: spread, figures: figures)
    }
}
