public import Model

/// How hosts are chosen: `[scheduler] driver`.
public enum SchedulerDriver: String, Sendable, CaseIterable {
    /// Filters and weighs what the hosts reported last.
    case filter = "filter_scheduler"
    /// Likewise, over hosts that are read anew only now and then.
    case caching = "caching_scheduler"
    /// Draws one that is up.
    case chance = "chance_scheduler"
    /// Chooses none: for tests.
    case fake = "fake_scheduler"
}

/// What filters and weighers are configured with; names and defaults are Nova's.
public struct SchedulingOptions: Sendable {
    public var driver = SchedulerDriver.filter
    /// After which the caching driver reads the hosts anew.
    public var refreshInterval = Duration.seconds(60)
    public var enabledFilters = FilterCatalog.defaults
    public var hostSubsetSize = 1
    public var shufflesEqualHosts = false
    public var maxInstancesPerHost = 50
    public var maxIoOpsPerHost = 8
    public var isolatedImages: Set<String> = []
    public var isolatedHosts: Set<HostName> = []
    public var restrictsIsolatedHosts = true
    public var defaultArchitecture: String?
    public var imageIsolationNamespace: String?
    public var imageIsolationSeparator = "."
    public var ramWeight = 1.0
    public var cpuWeight = 1.0
    public var diskWeight = 1.0
    public var ioOpsWeight = -1.0
    public var pciWeight = 1.0
    public var softAffinityWeight = 1.0
    public var softAntiAffinityWeight = 1.0
    public var buildFailureWeight = 1_000_000.0
    public var hypervisorVersionWeight = 1.0
    public var numInstancesWeight = 0.0
    public var imagePropertiesWeight = 0.0
    public var imagePropertyWeights: [String: Double] = [:]
    public var metricsWeight = 1.0
    public var metricRatios: [String: Double] = [:]
    public var weightOfUnavailable = -10_000.0
    /// Whether a host must have every metric that is weighed.
    public var requiresMetrics = true

    public init() {}
}

/// A filter that there is not, with those that there are.
public struct UnknownFilter: Error, Sendable, Hashable, CustomStringConvertible {
    public var name: String
    public var description: String {
        "there is no filter \(name); there are " + FilterCatalog.names.joined(separator: ", ")
    }
}

/// The filters by the names that the configuration uses.
public enum FilterCatalog {
    /// Nova's default, and those that stand in for its claims in Placement.
    public static let defaults = [
        "ComputeFilter", "AvailabilityZoneFilter", "CoreFilter", "RamFilter", "DiskFilter", "ComputeCapabilitiesFilter",
        "ImagePropertiesFilter", "NUMATopologyFilter", "PciPassthroughFilter", "ServerGroupAntiAffinityFilter",
        "ServerGroupAffinityFilter",
    ]
    /// Asked after those of the configuration, whatever it names: what a request demands by a trait (in Nova Placement's
    /// affair) or by a hint is never passed over in silence. They cost nothing where nothing is demanded.
    public static let always = ["TraitsFilter", "SameHostFilter", "DifferentHostFilter"]

    private static let makers: [(String, @Sendable (SchedulingOptions) -> any HostFilter)] = [
        ("AllHostsFilter", { _ in AllHostsFilter() }), ("ComputeFilter", { _ in ComputeFilter() }),
        ("AvailabilityZoneFilter", { _ in AvailabilityZoneFilter() }),
        ("CoreFilter", { _ in CoreFilter() }), ("RamFilter", { _ in RamFilter() }),
        ("DiskFilter", { _ in DiskFilter() }),
        ("AggregateCoreFilter", { _ in CoreFilter(readsAggregates: true) }),
        ("AggregateRamFilter", { _ in RamFilter(readsAggregates: true) }),
        ("AggregateDiskFilter", { _ in DiskFilter(readsAggregates: true) }),
        ("ExactCoreFilter", { _ in ExactFilter(.cores) }), ("ExactRamFilter", { _ in ExactFilter(.memory) }),
        ("ExactDiskFilter", { _ in ExactFilter(.disk) }),
        ("NumInstancesFilter", { NumInstancesFilter(limit: $0.maxInstancesPerHost) }),
        (
            "AggregateNumInstancesFilter",
            { NumInstancesFilter(limit: $0.maxInstancesPerHost, readsAggregates: true) }
        ),
        ("IoOpsFilter", { IoOpsFilter(limit: $0.maxIoOpsPerHost) }),
        ("AggregateIoOpsFilter", { IoOpsFilter(limit: $0.maxIoOpsPerHost, readsAggregates: true) }),
        ("ImagePropertiesFilter", { ImagePropertiesFilter(defaultArchitecture: $0.defaultArchitecture) }),
        ("ComputeCapabilitiesFilter", { _ in ComputeCapabilitiesFilter() }), ("TraitsFilter", { _ in TraitsFilter() }),
        ("AggregateInstanceExtraSpecsFilter", { _ in AggregateInstanceExtraSpecsFilter() }),
        (
            "AggregateImagePropertiesIsolation",
            {
                AggregateImagePropertiesIsolation(
                    namespace: $0.imageIsolationNamespace, separator: $0.imageIsolationSeparator)
            }
        ),
        ("AggregateMultiTenancyIsolation", { _ in AggregateMultiTenancyIsolation() }),
        ("AggregateTypeAffinityFilter", { _ in AggregateTypeAffinityFilter() }),
        ("TypeAffinityFilter", { _ in TypeAffinityFilter() }),
        (
            "IsolatedHostsFilter",
            {
                IsolatedHostsFilter(
                    images: $0.isolatedImages, hosts: $0.isolatedHosts, isRestricting: $0.restrictsIsolatedHosts)
            }
        ),
        ("JsonFilter", { _ in JsonFilter() }), ("DifferentHostFilter", { _ in DifferentHostFilter() }),
        ("SameHostFilter", { _ in SameHostFilter() }),
        ("SimpleCIDRAffinityFilter", { _ in SimpleCIDRAffinityFilter() }), ("RetryFilter", { _ in RetryFilter() }),
        ("ServerGroupAntiAffinityFilter", { _ in ServerGroupAntiAffinityFilter() }),
        ("ServerGroupAffinityFilter", { _ in ServerGroupAffinityFilter() }),
        ("NUMATopologyFilter", { _ in NUMATopologyFilter() }),
        ("PciPassthroughFilter", { _ in PciPassthroughFilter() }),
        ("TrustedFilter", { _ in TrustedFilter() }),
        ("MetricsFilter", { MetricsFilter($0.metricRatios.keys.sorted()) }),
    ]

    public static let names = makers.map(\.0)

    /// The enabled filters in the order of the configuration, then those that are always asked.
    public static func filters(_ options: SchedulingOptions) throws(UnknownFilter) -> [any HostFilter] {
        var filters: [any HostFilter] = []
        // Where a metric is required its absence is an error in Nova; here it refuses the host that lacks it.
        let added = always + (options.requiresMetrics && !options.metricRatios.isEmpty ? ["MetricsFilter"] : [])
        for name in options.enabledFilters + added.filter({ !options.enabledFilters.contains($0) }) {
            guard let maker = makers.first(where: { $0.0 == name }) else { throw UnknownFilter(name: name) }
            filters.append(maker.1(options))
        }
        return filters
    }

    /// All weighers, as Nova's default is.
    public static func weighers(_ options: SchedulingOptions) -> [any HostWeigher] {
        let weighers: [FigureWeigher] = [
            .memory(options.ramWeight), .processors(options.cpuWeight), .disk(options.diskWeight),
            .ioOperations(options.ioOpsWeight), .pci(options.pciWeight), .softAffinity(options.softAffinityWeight),
            .softAntiAffinity(options.softAntiAffinityWeight), .buildFailures(options.buildFailureWeight),
            .crossCell(), .hypervisorVersion(options.hypervisorVersionWeight),
            .instances(options.numInstancesWeight),
            .imageProperties(options.imagePropertiesWeight, weights: options.imagePropertyWeights),
            .metrics(options.metricsWeight, ratios: options.metricRatios, unavailable: options.weightOfUnavailable),
        ]
        return weighers
    }
}
