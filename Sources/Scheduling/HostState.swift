public import Model

/// One compute host as the scheduler sees it: its last report, whether it may be used, and what this scheduler has
/// placed on it since.
public struct HostState: Sendable, Hashable {
    public var name: HostName
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

    public init(
        name: HostName, availabilityZone: String = "nova", total: Resources, reserved: Resources = .zero,
        used: Resources = .zero, ratios: AllocationRatios = AllocationRatios(), diskAvailableLeastGiB: Int? = nil,
        isDisabled: Bool = false, isUp: Bool = true, measuredAt: Timestamp = Timestamp(microseconds: 0)
    ) {
        self.name = name
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
        guestOverheadMiB = report.guestOverheadMiB ?? 0
    }

    /// What may still be promised: total × ratio less what is used. A report's `used` holds what the host keeps for
    /// itself, which the ratio does not stretch: (total − reserved) × ratio − (used − reserved). May be negative.
    public var free: Resources {
        Resources(
            vcpus: Self.free(total.vcpus, reserved.vcpus, used.vcpus, ratios.cpu),
            memoryMiB: Self.free(total.memoryMiB, reserved.memoryMiB, used.memoryMiB, ratios.memory),
            diskGiB: Self.free(total.diskGiB, reserved.diskGiB, used.diskGiB, ratios.disk))
    }

    private static func free(_ total: Int, _ reserved: Int, _ used: Int, _ ratio: Double) -> Int {
        Int((Double(total - reserved) * ratio).rounded(.down)) - (used - reserved)
    }

    /// Takes `request` in this scheduler's memory, until the host's next report.
    public mutating func consume(_ request: Resources) {
        used = used + request + Resources(vcpus: 0, memoryMiB: guestOverheadMiB, diskGiB: 0)
    }
}
