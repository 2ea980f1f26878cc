/// Amounts of what a host gives to instances.
public struct Resources: Sendable, Hashable, Codable {
    public var vcpus: Int
    public var memoryMiB: Int
    public var diskGiB: Int

    public init(vcpus: Int, memoryMiB: Int, diskGiB: Int) {
        (self.vcpus, self.memoryMiB, self.diskGiB) = (vcpus, memoryMiB, diskGiB)
    }

    /// What a flavor takes: swap is rounded up to whole GiB (rule of Nova's resource request).
    public init(_ flavor: Flavor) {
        self.init(
            vcpus: flavor.vcpus, memoryMiB: flavor.memoryMiB,
            diskGiB: flavor.rootGiB + flavor.ephemeralGiB + (flavor.swapMiB + 1_023) / 1_024)
    }

    public static let zero = Resources(vcpus: 0, memoryMiB: 0, diskGiB: 0)

    public static func + (left: Resources, right: Resources) -> Resources {
        Resources(
            vcpus: left.vcpus + right.vcpus, memoryMiB: left.memoryMiB + right.memoryMiB,
            diskGiB: left.diskGiB + right.diskGiB)
    }

    public static func - (left: Resources, right: Resources) -> Resources {
        Resources(
            vcpus: left.vcpus - right.vcpus, memoryMiB: left.memoryMiB - right.memoryMiB,
            diskGiB: left.diskGiB - right.diskGiB)
    }
}

/// How far each resource may be promised beyond what is there.
public struct AllocationRatios: Sendable, Hashable, Codable {
    public var cpu: Double
    public var memory: Double
    public var disk: Double

    public init(cpu: Double = 4.0, memory: Double = 1.0, disk: Double = 1.0) {
        (self.cpu, self.memory, self.disk) = (cpu, memory, disk)
    }
}

/// What a host has, keeps for itself, and has promised: the periodic report of an agent.
public struct HostReport: Sendable, Hashable, Codable {
    public var host: HostName
    /// Persistent uuid of the host; never changes.
    public var uuid: String
    public var hypervisorHostname: String
    public var hypervisorType: String
    /// major × 1,000,000 + minor × 1,000 + micro.
    public var hypervisorVersion: Int
    /// The host's management address, shown as `host_ip`.
    public var hostAddress: String
    public var total: Resources
    public var reserved: Resources
    /// Sum of the claims, of what guests take that are in no record, and of what is reserved.
    public var used: Resources
    public var ratios: AllocationRatios
    /// Free bytes of the instances' file system less what sparse disks may still grow, in GiB; `nil` if unknown.
    public var diskAvailableLeastGiB: Int?
    public var runningInstances: Int
    /// Instances with an operation under way.
    public var workload: Int
    public var cpuModel: String?
    public var cpuVendor: String?
    public var architecture: String
    public var cpuTopology: CPUTopology
    public var cpuFeatures: [String]
    /// Seconds since the host booted.
    public var uptimeSeconds: Int64?
    /// Rises with each report of the same agent, so that a late one is recognised.
    public var sequence: Int64
    public var measuredAt: Timestamp
    /// What the agent cannot place; `nil` when all fits.
    public var strays: HostStrays?
    /// What guests can have here, by the names of the `os-traits` list, sorted; `nil` from an agent that does not know.
    public var traits: [String]?
    /// Instances being built, copied or moved; `nil` from an agent that does not count them.
    public var ioWorkload: Int?
    /// Builds that failed here since the last one that succeeded, in this life of the agent.
    public var failedBuilds: Int?
    /// What `compute_monitors` measure; `nil` where none is on.
    public var metrics: [HostMetric]?
    /// The file system of the instances' folder, where other hosts may use it too; `nil` for a local one.
    public var sharedStorage: String?
    /// The NUMA cells; `nil` from an agent that does not tell them.
    public var cells: [HostCellReport]?
    /// The PCI devices that guests may have; `nil` for none.
    public var pciPools: [PCIPool]?
    /// The physical devices whose mediated devices guests may have; `nil` for none.
    public var mediatedDevicePools: [MediatedDevicePool]?
    /// MiB that each guest takes beside its flavor's memory; `nil` from an agent that does not count it.
    public var guestOverheadMiB: Int?

    public init(
        host: HostName, uuid: String, hypervisorHostname: String, hypervisorType: String, hypervisorVersion: Int,
        hostAddress: String, total: Resources, reserved: Resources, used: Resources, ratios: AllocationRatios,
        diskAvailableLeastGiB: Int?, runningInstances: Int, workload: Int, cpuModel: String?, cpuVendor: String?,
        architecture: String, cpuTopology: CPUTopology, cpuFeatures: [String], uptimeSeconds: Int64?, sequence: Int64,
        measuredAt: Timestamp
    ) {
        self.host = host
        self.uuid = uuid
        self.hypervisorHostname = hypervisorHostname
        self.hypervisorType = hypervisorType
        self.hypervisorVersion = hypervisorVersion
        self.hostAddress = hostAddress
        self.total = total
        self.reserved = reserved
        self.used = used
        self.ratios = ratios
        self.diskAvailableLeastGiB = diskAvailableLeastGiB
        self.runningInstances = runningInstances
        self.workload = workload
        self.cpuModel = cpuModel
        self.cpuVendor = cpuVendor
        self.architecture = architecture
        self.cpuTopology = cpuTopology
        self.cpuFeatures = cpuFeatures
        self.uptimeSeconds = uptimeSeconds
        self.sequence = sequence
        self.measuredAt = measuredAt
    }
}

/// A host processor's layout, as libvirt's capabilities give it.
public struct CPUTopology: Sendable, Hashable, Codable {
    public var cells: Int
    public var sockets: Int
    public var cores: Int
    public var threads: Int

    public init(cells: Int = 1, sockets: Int = 1, cores: Int = 1, threads: Int = 1) {
        (self.cells, self.sockets, self.cores, self.threads) = (cells, sockets, cores, threads)
    }
}
