public import Configuration
public import Model
internal import PCIDevices

/// What the compute API takes from the configuration.
public struct APISettings: Sendable, Hashable {
    /// What the configuration says; the database's limits come before them.
    public var quotas: QuotaLimits
    /// Whether usage is counted again in the transaction that adds servers.
    public var isQuotaRechecked: Bool
    public var maxLimit: Int
    public var isPasswordShown: Bool
    /// A service that was not heard of for so long is down.
    public var serviceDownTime: Duration
    /// The zone of hosts that are in no other.
    public var availabilityZone: String
    /// How long a deleted server can be restored; zero: not at all.
    public var reclaimInterval: Duration
    /// How long an answer that tells the end of an operation is waited for.
    public var operationPatience: Duration
    /// Of images made of servers.
    public var snapshotFormat: DiskFormat
    /// What such images do not inherit.
    public var nonInheritableProperties: Set<String>
    /// What servers are rescued with when nobody says; `nil` for their own image.
    public var rescueImage: ImageID?
    /// How many disks on the host one creation may ask for; -1 for any number.
    public var maxLocalBlockDevices: Int
    /// What a proxy signs requests for guests' metadata with; empty: nobody may ask.
    public var metadataSecret = ""
    /// The names by which flavors ask for PCI devices; `nil` where none is configured here, and hosts decide.
    public var pciAliases: Set<String>?
    /// Appended to guests' hostnames; empty for none.
    public var guestDomain = ""
    /// Whether a resize may keep a server on its host.
    public var mayResizeToSameHost = false
    /// For which the usage of servers is told.
    public var auditPeriod = AuditPeriod.monthly

    public init(
        quotas: QuotaLimits = QuotaLimits(), isQuotaRechecked: Bool = true, maxLimit: Int = 1_000,
        isPasswordShown: Bool = true,
        serviceDownTime: Duration = .seconds(25), availabilityZone: String = "nova",
        reclaimInterval: Duration = .zero, operationPatience: Duration = .seconds(30),
        snapshotFormat: DiskFormat = .qcow2, nonInheritableProperties: Set<String> = [],
        rescueImage: ImageID? = nil, maxLocalBlockDevices: Int = 3
    ) {
        (self.quotas, self.isQuotaRechecked) = (quotas, isQuotaRechecked)
        (self.maxLimit, self.isPasswordShown) = (maxLimit, isPasswordShown)
        (self.serviceDownTime, self.availabilityZone) = (serviceDownTime, availabilityZone)
        (self.snapshotFormat, self.nonInheritableProperties) = (snapshotFormat, nonInheritableProperties)
        (self.reclaimInterval, self.operationPatience) = (reclaimInterval, operationPatience)
        (self.rescueImage, self.maxLocalBlockDevices) = (rescueImage, maxLocalBlockDevices)
    }

    /// - Parameters:
    ///   - serviceDownTime: `[DEFAULT] service_down_time`.
    ///   - availabilityZone: `[DEFAULT] default_availability_zone`.
    ///   - reclaimInterval: `[DEFAULT] reclaim_instance_interval`.
    public init(
        _ configuration: Configuration, serviceDownTime: Duration, availabilityZone: String, reclaimInterval: Duration
    ) {
        let rescue = configuration[APIOptions.rescueImageID]
        self.init(
            quotas: QuotaLimits(
                instances: configuration[APIOptions.instances], cores: configuration[APIOptions.cores],
                memoryMiB: configuration[APIOptions.ram], metadataItems: configuration[APIOptions.metadataItems],
                injectedFiles: configuration[APIOptions.injectedFiles],
                injectedFileContentBytes: configuration[APIOptions.injectedFileContentBytes],
                injectedFilePathBytes: configuration[APIOptions.injectedFilePathLength],
                keyPairs: configuration[APIOptions.keyPairs], serverGroups: configuration[APIOptions.serverGroups],
                serverGroupMembers: configuration[APIOptions.serverGroupMembers]),
            isQuotaRechecked: configuration[APIOptions.isQuotaRechecked],
            maxLimit: configuration[APIOptions.maxLimit],
            isPasswordShown: configuration[APIOptions.isInstancePasswordEnabled], serviceDownTime: serviceDownTime,
            availabilityZone: availabilityZone, reclaimInterval: reclaimInterval,
            snapshotFormat: configuration[APIOptions.snapshotFormat] == .raw ? .raw : .qcow2,
            nonInheritableProperties: Set(configuration[APIOptions.nonInheritableProperties]),
            rescueImage: rescue.isEmpty ? nil : ImageID(rescue.lowercased()),
            maxLocalBlockDevices: configuration[APIOptions.maxLocalBlockDevices])
        metadataSecret = configuration[APIOptions.metadataSecret]
        guestDomain = configuration[APIOptions.guestDomain]
        mayResizeToSameHost = configuration[APIOptions.allowResizeToSameHost]
        // Read once already, when it was checked.
        let aliases = (try? PCIAlias.list(parsing: configuration[APIOptions.pciAlias])) ?? []
        pciAliases = aliases.isEmpty ? nil : Set(aliases.map(\.name))
    }
}
