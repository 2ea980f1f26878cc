public import Model

/// One compute host as the scheduler sees it: its last report, whether it may be used, what aggregates it is in, and what
/// this scheduler has placed on it since.
public struct HostState: Sendable, Hashable {
    public var name: HostName
    /// `hypervisor_hostname`
    public var node: String
    public var availabilityZone: String
    public var total: Resources
    public var reserved: Resources
    public var used: Resources
    public var ratios: AllocationRatios
    /// Free GiB that the file system really has, less what sparse disks may grow; `nil` if unknown.
    public var diskAvailableLeastGiB: Int?
    /// MiB that each guest takes beside its flavor's memory.
    public var guestOverheadMiB = 0
    public var isDisabled: Bool
    public var isUp: Bool
    /// When the report was measured.
    public var measuredAt: Timestamp
    public var instanceCount = 0
    /// Instances being built, copied or moved.
    public var ioOperations = 0
    public var failedBuilds = 0
    public var hypervisorType = ""
    /// major × 1,000,000 + minor × 1,000 + micro.
    public var hypervisorVersion = 0
    public var address = ""
    public var architecture = ""
    public var cpuModel: String?
    public var cpuVendor: String?
    public var cpuFeatures: [String] = []
    public var cpuTopology = CPUTopology()
    public var traits: [String] = []
    /// By Nova's names.
    public var metrics: [String: Double] = [:]
    public var cells: [HostCellReport]?
    public var pciPools: [PCIPool]?
    public var aggregates: [AggregateFacts] = []
    /// What the attestation service says of it; `nil` where nothing is known, or not for sure any more.
    public var trustLevel: String?

    public init(
        name: HostName, availabilityZone: String = "nova", total: Resources, reserved: Resources = .zero,
        used: Resources = .zero, ratios: AllocationRatios = AllocationRatios(), diskAvailableLeastGiB: Int? = nil,
        isDisabled: Bool = false, isUp: Bool = true, measuredAt: Timestamp = Timestamp(microseconds: 0)
    ) {
        self.name = name
        node = name.rawValue
        self.availabilityZone = availabilityZone
        self.total = total
        self.reserved = reserved
        self.used = used
        self.ratios = ratios
        self.diskAvailableLeastGiB = diskAvailableLeastGiB
        self.isDisabled = isDisabled
        self.isUp = isUp
        self.measuredAt = measuredAt
    }

    public init(report: HostReport, availabilityZone: String = "nova", isDisabled: Bool, isUp: Bool) {
        self.init(
            name: report.host, availabilityZone: availabilityZone, total: report.total, reserved: report.reserved,
            used: report.used, ratios: report.ratios, diskAvailableLeastGiB: report.diskAvailableLeastGiB,
            isDisabled: isDisabled, isUp: isUp, measuredAt: report.measuredAt)
        node = report.hypervisorHostname
        guestOverheadMiB = report.guestOverheadMiB ?? 0
        (instanceCount, ioOperations) = (report.runningInstances, report.ioWorkload ?? 0)
        failedBuilds = report.failedBuilds ?? 0
        (hypervisorType, hypervisorVersion) = (report.hypervisorType, report.hypervisorVersion)
        (address, architecture) = (report.hostAddress, report.architecture)
        (cpuModel, cpuVendor, cpuFeatures) = (report.cpuModel, report.cpuVendor, report.cpuFeatures)
        (cpuTopology, traits) = (report.cpuTopology, report.traits ?? [])
        metrics = Dictionary((report.metrics ?? []).map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
        (cells, pciPools) = (report.cells, report.pciPools)
    }

    /// What may still be promised: total × ratio less what is used. A report's `used` holds what the host keeps for
    /// itself, which the ratio does not stretch: (total − reserved) × ratio − (used − reserved). May be negative.
    public var free: Resources { free(ratios) }

    /// The same with other ratios.
    func free(_ ratios: AllocationRatios) -> Resources {
        Resources(
            vcpus: Self.free(total.vcpus, reserved.vcpus, used.vcpus, ratios.cpu),
            memoryMiB: Self.free(total.memoryMiB, reserved.memoryMiB, used.memoryMiB, ratios.memory),
            diskGiB: Self.free(total.diskGiB, reserved.diskGiB, used.diskGiB, ratios.disk))
    }

    private static func free(_ total: Int, _ reserved: Int, _ used: Int, _ ratio: Double) -> Int {
        let limit = min(max((Double(total - reserved) * ratio).rounded(.down), -1e15), 1e15)
        return Int(limit) - (used - reserved)
    }

    /// Takes `request` in this scheduler's memory, until the host's next report.
    public mutating func consume(_ request: Resources) {
        used = used + request + Resources(vcpus: 0, memoryMiB: guestOverheadMiB, diskGiB: 0)
        (instanceCount, ioOperations) = (instanceCount + 1, ioOperations + 1)
    }
}
