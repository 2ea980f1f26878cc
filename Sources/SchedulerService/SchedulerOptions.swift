public import Configuration
internal import Model
public import Scheduling

/// The scheduler's options, under Nova's names wherever Nova has the option.
public enum SchedulerOptions {
    public static let listen = Option<String>(
        "scheduler", "listen", default: "127.0.0.1:8782",
        help: "Address and port of the scheduler's RPC service.")
    public static let advertisedURL = Option<String>(
        "scheduler", "advertised_url", default: "",
        help: "URL under which conductors reach this scheduler; empty: made from `listen`.")
    public static let conductorURLs = Option<[String]>(
        "scheduler", "conductor_urls", default: ["http://127.0.0.1:8781"],
        help: "URLs of the conductors, to which heartbeats go.")
    public static let hostSubsetSize = Option<Int>(
        "filter_scheduler", "host_subset_size", default: 1,
        help: "Among how many of the best hosts one is drawn by chance.",
        check: { $0 >= 1 ? nil : "a number from 1" })
    public static let ramWeightMultiplier = Option<Double>(
        "filter_scheduler", "ram_weight_multiplier", default: 1,
        help: "How much free memory counts; negative fills hosts up one after the other.")
    public static let driver = Option<String>(
        "scheduler", "driver", default: SchedulerDriver.filter.rawValue,
        help: "How hosts are chosen: " + SchedulerDriver.allCases.map(\.rawValue).joined(separator: ", ") + ".",
        check: { SchedulerDriver(rawValue: $0) == nil ? "one of these" : nil })
    public static let refreshInterval = Option<Duration>(
        "scheduler", "periodic_task_interval", default: .seconds(60),
        help: "Time after which the caching driver reads the hosts anew.",
        check: { $0 >= .seconds(1) && $0 <= .seconds(86_400) ? nil : "1 s to 86400 s" })
    public static let enabledFilters = Option<[String]>(
        "filter_scheduler", "enabled_filters", default: FilterCatalog.defaults,
        help: "The filters that a host must pass, in their order.")
    public static let shuffleBest = Option<Bool>(
        "filter_scheduler", "shuffle_best_same_weighed_hosts", default: false,
        help: "Whether chance orders the best hosts where several weigh the same.")
    public static let maxInstancesPerHost = Option<Int>(
        "filter_scheduler", "max_instances_per_host", default: 50,
        help: "How many instances a host may have (NumInstancesFilter).", check: { $0 >= 1 ? nil : "a number from 1" })
    public static let maxIoOpsPerHost = Option<Int>(
        "filter_scheduler", "max_io_ops_per_host", default: 8,
        help: "How many instances may be built, copied or moved on a host at once (IoOpsFilter).",
        check: { $0 >= 0 ? nil : "a number from 0" })
    public static let isolatedImages = Option<[String]>(
        "filter_scheduler", "isolated_images", default: [], help: "Images for isolated hosts alone.")
    public static let isolatedHosts = Option<[String]>(
        "filter_scheduler", "isolated_hosts", default: [], help: "Hosts for isolated images.")
    public static let restrictIsolatedHosts = Option<Bool>(
        "filter_scheduler", "restrict_isolated_hosts_to_isolated_images", default: true,
        help: "Whether isolated hosts are for isolated images alone.")
    public static let defaultArchitecture = Option<String>(
        "filter_scheduler", "image_properties_default_architecture", default: "",
        help: "The architecture of images that name none; empty: any.")
    public static let isolationNamespace = Option<String>(
        "filter_scheduler", "aggregate_image_properties_isolation_namespace", default: "",
        help: "Of which aggregate metadata AggregateImagePropertiesIsolation reads; empty: of all.")
    public static let isolationSeparator = Option<String>(
        "filter_scheduler", "aggregate_image_properties_isolation_separator", default: ".",
        help: "What stands between that namespace and the property.")
    private static func weight(_ name: String, _ value: Double, _ help: String) -> Option<Double> {
        Option<Double>(
            "filter_scheduler", name, default: value, help: help,
            check: { $0.isFinite && abs($0) <= 1e12 ? nil : "a number up to 1e12" })
    }
    public static let cpuWeight = weight("cpu_weight_multiplier", 1, "How much free vCPUs count.")
    public static let diskWeight = weight("disk_weight_multiplier", 1, "How much free disk counts.")
    public static let ioOpsWeight = weight("io_ops_weight_multiplier", -1, "How much busy disks count.")
    public static let pciWeight = weight("pci_weight_multiplier", 1, "How much a lack of free devices counts.")
    public static let softAffinityWeight = weight(
        "soft_affinity_weight_multiplier", 1, "How much members of the group count (soft-affinity).")
    public static let softAntiAffinityWeight = weight(
        "soft_anti_affinity_weight_multiplier", 1, "How much their absence counts (soft-anti-affinity).")
    public static let buildFailureWeight = weight(
        "build_failure_weight_multiplier", 1_000_000, "How much failed builds count against a host.")
    public static let hypervisorVersionWeight = weight(
        "hypervisor_version_weight_multiplier", 1, "How much a newer hypervisor counts.")
    public static let numInstancesWeight = weight(
        "num_instances_weight_multiplier", 0, "How much the number of instances counts; positive packs.")
    public static let imagePropertiesWeight = weight(
        "image_props_weight_multiplier", 0, "How much instances of images with the same properties count.")
    public static let imagePropertyWeights = Option<[String]>(
        "filter_scheduler", "image_props_weight_setting", default: [],
        help: "How much each property counts (os_distro=2,hw_machine_type=0); empty: each 1.",
        check: { ratios($0) == nil ? "names with numbers: a=1,b=-0.5" : nil })
    public static let metricsWeight = Option<Double>(
        "metrics", "weight_multiplier", default: 1, help: "How much the host's metrics count.",
        check: { $0.isFinite && abs($0) <= 1e12 ? nil : "a number up to 1e12" })
    public static let metricRatios = Option<[String]>(
        "metrics", "weight_setting", default: [],
        help: "Which metrics are weighed, and how much each counts (cpu.user.percent=-1).",
        check: { ratios($0) == nil ? "names with numbers: a=1,b=-0.5" : nil })
    public static let weightOfUnavailable = Option<Double>(
        "metrics", "weight_of_unavailable", default: -10_000, help: "The weight of a host that lacks one of them.",
        check: { $0.isFinite ? nil : "a number" })
    public static let requiresMetrics = Option<Bool>(
        "metrics", "required", default: true,
        help: "Whether a host that lacks a weighed metric is refused; else it has weight_of_unavailable.")
    public static let attestationServer = Option<String>(
        "trusted_computing", "attestation_server", default: "",
        help: "Name or address of the attestation service that TrustedFilter needs.")
    public static let attestationPort = Option<Int>(
        "trusted_computing", "attestation_port", default: 8_443, help: "Its HTTPS port.",
        check: { (1...65_535).contains($0) ? nil : "1 to 65535" })
    public static let attestationAPI = Option<String>(
        "trusted_computing", "attestation_api_url", default: "/OpenAttestationWebServices/V1.0",
        help: "The path before its commands.", check: { $0.isEmpty || $0.hasPrefix("/") ? nil : "a path from /" })
    public static let attestationAuthority = Option<String>(
        "trusted_computing", "attestation_server_ca_file", default: "",
        help: "File with the certificates (PEM) that are believed of it; empty: the system's.")
    public static let attestationInsecure = Option<Bool>(
        "trusted_computing", "attestation_insecure_ssl", default: false,
        help: "Believe it whatever its certificate: whoever answers then says what hosts are trusted.")
    public static let attestationBlob = Option<String>(
        "trusted_computing", "attestation_auth_blob", default: "", help: "What it is shown as the asker's proof.",
        isSecret: true)
    public static let attestationValidity = Option<Duration>(
        "trusted_computing", "attestation_auth_timeout", default: .seconds(60),
        help: "How long an answer is believed; it is asked three times as often.",
        check: { $0 >= .seconds(3) && $0 <= .seconds(86_400) ? nil : "3 s to 86400 s" })
    public static let defaultAvailabilityZone = Option<String>(
        "DEFAULT", "default_availability_zone", default: "nova",
        help: "The zone of hosts that are in no aggregate with a zone.")

    public static let all: [AnyOption] = [
        listen.erased, advertisedURL.erased, conductorURLs.erased, driver.erased, refreshInterval.erased,
        hostSubsetSize.erased,
        ramWeightMultiplier.erased, defaultAvailabilityZone.erased, enabledFilters.erased, shuffleBest.erased,
        maxInstancesPerHost.erased, maxIoOpsPerHost.erased, isolatedImages.erased, isolatedHosts.erased,
        restrictIsolatedHosts.erased, defaultArchitecture.erased, isolationNamespace.erased, isolationSeparator.erased,
        cpuWeight.erased, diskWeight.erased, ioOpsWeight.erased, pciWeight.erased, softAffinityWeight.erased,
        softAntiAffinityWeight.erased, buildFailureWeight.erased, hypervisorVersionWeight.erased,
        numInstancesWeight.erased, imagePropertiesWeight.erased, imagePropertyWeights.erased, metricsWeight.erased,
        metricRatios.erased, weightOfUnavailable.erased, requiresMetrics.erased, attestationServer.erased,
        attestationPort.erased, attestationAPI.erased, attestationAuthority.erased, attestationInsecure.erased,
        attestationBlob.erased, attestationValidity.erased,
    ]

    /// Those that decide where an instance comes.
    static let deciding = all.filter { ["filter_scheduler", "metrics"].contains($0.section) }

    /// `name=number` for each; `nil` where one is not.
    @Sendable static func ratios(_ settings: [String]) -> [String: Double]? {
        var found: [String: Double] = [:]
        for setting in settings {
            let parts = setting.split(separator: "=", omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty, let number = Double(parts[1]), number.isFinite else {
                return nil
            }
            found[String(parts[0])] = number
        }
        return found
    }
}

extension Configuration {
    /// What decides where an instance comes, by `section.option`, as a file has it: defaults, too, so that it stays what it
    /// is when a later version has others.
    public func decidingOptions() -> [String: String] {
        Dictionary(
            SchedulerOptions.deciding.map { ($0.key, text(of: $0)) }, uniquingKeysWith: { first, _ in first })
    }

    /// What the filters and weighers read.
    public func schedulingOptions() -> SchedulingOptions {
        var options = SchedulingOptions()
        options.driver = SchedulerDriver(rawValue: self[SchedulerOptions.driver]) ?? .filter
        options.refreshInterval = self[SchedulerOptions.refreshInterval]
        options.enabledFilters = self[SchedulerOptions.enabledFilters]
        options.hostSubsetSize = self[SchedulerOptions.hostSubsetSize]
        options.shufflesEqualHosts = self[SchedulerOptions.shuffleBest]
        options.maxInstancesPerHost = self[SchedulerOptions.maxInstancesPerHost]
        options.maxIoOpsPerHost = self[SchedulerOptions.maxIoOpsPerHost]
        options.isolatedImages = Set(self[SchedulerOptions.isolatedImages])
        options.isolatedHosts = Set(self[SchedulerOptions.isolatedHosts].map { HostName($0) })
        options.restrictsIsolatedHosts = self[SchedulerOptions.restrictIsolatedHosts]
        options.defaultArchitecture = self[SchedulerOptions.defaultArchitecture]
        options.imageIsolationNamespace = self[SchedulerOptions.isolationNamespace]
        options.imageIsolationSeparator = self[SchedulerOptions.isolationSeparator]
        options.ramWeight = self[SchedulerOptions.ramWeightMultiplier]
        options.cpuWeight = self[SchedulerOptions.cpuWeight]
        options.diskWeight = self[SchedulerOptions.diskWeight]
        options.ioOpsWeight = self[SchedulerOptions.ioOpsWeight]
        options.pciWeight = self[SchedulerOptions.pciWeight]
        options.softAffinityWeight = self[SchedulerOptions.softAffinityWeight]
        options.softAntiAffinityWeight = self[SchedulerOptions.softAntiAffinityWeight]
        options.buildFailureWeight = self[SchedulerOptions.buildFailureWeight]
        options.hypervisorVersionWeight = self[SchedulerOptions.hypervisorVersionWeight]
        options.numInstancesWeight = self[SchedulerOptions.numInstancesWeight]
        options.imagePropertiesWeight = self[SchedulerOptions.imagePropertiesWeight]
        options.imagePropertyWeights = SchedulerOptions.ratios(self[SchedulerOptions.imagePropertyWeights]) ?? [:]
        options.metricsWeight = self[SchedulerOptions.metricsWeight]
        options.metricRatios = SchedulerOptions.ratios(self[SchedulerOptions.metricRatios]) ?? [:]
        options.requiresMetrics = self[SchedulerOptions.requiresMetrics]
        options.weightOfUnavailable = self[SchedulerOptions.weightOfUnavailable]
        return options
    }
}
