public import Model

/// Orders the hosts that passed. Pure, like the filters.
public protocol HostWeigher: Sendable {
    var name: String { get }
    /// Scales this weigher against the others; negative turns it round.
    var multiplier: Double { get }
    /// Whether the multiplier counts against a host: more is worse with a positive one.
    var isNegated: Bool { get }
    /// The key by which an aggregate gives its hosts another multiplier.
    var multiplierKey: String { get }
    /// What the least value counts as at least: with 0 a value is weighed against nothing, not against the worst host.
    var minimum: Double? { get }
    /// Whether its figure is the same whatever is asked for.
    var readsHostAlone: Bool { get }
    /// Whether it gives every host the same, for what this request asks.
    func isNeutral(for request: borrowing PlacementRequest) -> Bool
    /// More is better; brought to 0…1 over the hosts of one decision before it is multiplied.
    func weigh(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Double
}

extension HostWeigher {
    public var minimum: Double? { nil }
    public var readsHostAlone: Bool { false }

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool { false }

    public var isNegated: Bool { false }

    /// What the host's figure is multiplied with: the least of the multipliers of its aggregates, or the configured one.
    func multiplier(of host: HostState) -> Double {
        ownMultiplier(of: host) ?? effectiveMultiplier
    }

    /// That of the host's aggregates; `nil` when none has one.
    func ownMultiplier(of host: HostState) -> Double? {
        host.aggregates.isEmpty ? nil : host.least(multiplierKey).map { isNegated ? -$0 : $0 }
    }

    var effectiveMultiplier: Double { isNegated ? -multiplier : multiplier }
}

/// A weigher that reads one figure.
public struct FigureWeigher: HostWeigher {
    public let name: String
    public let multiplier: Double
    public let multiplierKey: String
    public let minimum: Double?
    public let readsHostAlone: Bool
    public let isNegated: Bool
    private let neutrality: @Sendable (PlacementRequest) -> Bool
    private let figure: @Sendable (HostState, PlacementRequest) -> Double

    init(
        _ name: String, _ multiplier: Double, key: String, minimum: Double? = nil, readsHostAlone: Bool = true,
        isNegated: Bool = false,
        neutral: @escaping @Sendable (PlacementRequest) -> Bool = { _ in false },
        figure: @escaping @Sendable (HostState, PlacementRequest) -> Double
    ) {
        (self.name, self.multiplier, multiplierKey) = (name, multiplier, key)
        (self.minimum, self.readsHostAlone, self.figure) = (minimum, readsHostAlone, figure)
        neutrality = neutral
        self.isNegated = isNegated
    }

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool { neutrality(copy request) }

    public func weigh(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Double {
        figure(copy host, copy request)
    }
}

extension FigureWeigher {
    /// Prefers the host with most free memory.
    public static func memory(_ multiplier: Double = 1) -> FigureWeigher {
        FigureWeigher("RAMWeigher", multiplier, key: "ram_weight_multiplier", minimum: 0) { host, _ in
            Double(host.total.memoryMiB - host.used.memoryMiB)
        }
    }

    /// Prefers the host with most free vCPUs.
    public static func processors(_ multiplier: Double = 1) -> FigureWeigher {
        FigureWeigher("CPUWeigher", multiplier, key: "cpu_weight_multiplier", minimum: 0) { host, _ in
            Double(host.total.vcpus) * host.ratios.cpu - Double(host.used.vcpus)
        }
    }

    /// Prefers the host with most free disk.
    public static func disk(_ multiplier: Double = 1) -> FigureWeigher {
        FigureWeigher("DiskWeigher", multiplier, key: "disk_weight_multiplier", minimum: 0) { host, _ in
            Double(host.freeDiskMiB)
        }
    }

    /// Prefers, with its negative multiplier, the host whose disks are least busy.
    public static func ioOperations(_ multiplier: Double = -1) -> FigureWeigher {
        FigureWeigher("IoOpsWeigher", multiplier, key: "io_ops_weight_multiplier", minimum: 0) { host, _ in
            Double(host.ioOperations)
        }
    }

    /// Leaves hosts with devices to those who ask for some: the fewer free devices, the better.
    public static func pci(_ multiplier: Double = 1) -> FigureWeigher {
        FigureWeigher("PCIWeigher", multiplier, key: "pci_weight_multiplier") { host, _ in
            let free = (host.pciPools ?? []).reduce(0) { $0 &+ min($1.free, 1 << 20) }
            return Double(100 - min(max(0, free), 99))
        }
    }

    /// Prefers the host with most members of a group of soft affinity.
    public static func softAffinity(_ multiplier: Double = 1) -> FigureWeigher {
        FigureWeigher(
            "ServerGroupSoftAffinityWeigher", multiplier, key: "soft_affinity_weight_multiplier", readsHostAlone: false,
            neutral: { $0.group?.policy != .softAffinity }
        ) {
            host, request in
            guard let group = request.group, group.policy == .softAffinity else { return 0 }
            return Double(group.members[host.name, default: 0])
        }
    }

    /// Prefers the host with fewest members of a group of soft anti-affinity.
    public static func softAntiAffinity(_ multiplier: Double = 1) -> FigureWeigher {
        FigureWeigher(
            "ServerGroupSoftAntiAffinityWeigher", multiplier, key: "soft_anti_affinity_weight_multiplier",
            readsHostAlone: false,
            neutral: { $0.group?.policy != .softAntiAffinity }
        ) {
            host, request in
            guard let group = request.group, group.policy == .softAntiAffinity else { return 0 }
            return -Double(group.members[host.name, default: 0])
        }
    }

    /// Avoids hosts on which builds failed.
    public static func buildFailures(_ multiplier: Double = 1_000_000) -> FigureWeigher {
        FigureWeigher("BuildFailureWeigher", multiplier, key: "build_failure_weight_multiplier", isNegated: true) {
            host, _ in Double(host.failedBuilds)
        }
    }

    /// Prefers the newest hypervisor.
    public static func hypervisorVersion(_ multiplier: Double = 1) -> FigureWeigher {
        FigureWeigher("HypervisorVersionWeigher", multiplier, key: "hypervisor_version_weight_multiplier") { host, _ in
            Double(host.hypervisorVersion)
        }
    }

    /// With a positive multiplier packs instances together.
    public static func instances(_ multiplier: Double = 0) -> FigureWeigher {
        FigureWeigher("NumInstancesWeigher", multiplier, key: "num_instances_weight_multiplier") { host, _ in
            Double(host.instanceCount)
        }
    }

    /// There is one cell only: every host is in it.
    public static func crossCell(_ multiplier: Double = 1_000_000) -> FigureWeigher {
        FigureWeigher("CrossCellWeigher", multiplier, key: "cross_cell_move_weight_multiplier") { _, _ in 0 }
    }

    /// Brings instances of images with the same properties together.
    ///
    /// - Parameter weights: `[filter_scheduler] image_props_weight_setting`; empty: each property counts 1.
    public static func imageProperties(_ multiplier: Double = 0, weights: [String: Double] = [:]) -> FigureWeigher {
        FigureWeigher(
            "ImagePropertiesWeigher", multiplier, key: "image_props_weight_multiplier", readsHostAlone: false,
            neutral: { $0.imagePropertyCounts?.isEmpty ?? true }
        ) { host, request in
            guard let counts = request.imagePropertyCounts?[host.name], !counts.isEmpty else { return 0 }
            return (request.imageProperties ?? [:]).reduce(0) { sum, property in
                let weight = weights.isEmpty ? 1 : weights[property.key, default: 0]
                return sum + weight
                    * Double(counts[PlacementRequest.countKey(property.key, property.value), default: 0])
            }
        }
    }

    /// Sums what is measured of a host, each figure times its ratio.
    ///
    /// - Parameters:
    ///   - ratios: `[metrics] weight_setting`.
    ///   - unavailable: `[metrics] weight_of_unavailable`, for a host that lacks one of them.
    public static func metrics(
        _ multiplier: Double = 1, ratios: [String: Double] = [:], unavailable: Double = -10_000
    ) -> FigureWeigher {
        let ratios = ratios.sorted { $0.key < $1.key }
        return FigureWeigher("MetricsWeigher", multiplier, key: "metrics_weight_multiplier") { host, _ in
            var sum = 0.0
            for (name, ratio) in ratios {
                guard let value = host.metrics[name] else { return unavailable }
                // Percentages count as Nova's do: whole ones.
                sum += ratio * (name.hasSuffix(".percent") ? (value * 100).rounded(.towardZero) : value)
            }
            return sum
        }
    }
}
