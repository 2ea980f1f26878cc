/// Counters of a running guest: the standard shape of Compute API 2.48. `nil` where the hypervisor does not say.
public struct GuestDiagnostics: Sendable, Hashable, Codable {
    public struct Processor: Sendable, Hashable, Codable {
        public var id: Int
        /// Nanoseconds of processor time.
        public var timeNanoseconds: Int64?

        public init(id: Int, timeNanoseconds: Int64?) { (self.id, self.timeNanoseconds) = (id, timeNanoseconds) }
    }

    public struct Interface: Sendable, Hashable, Codable {
        public var macAddress: String?
        public var receivedBytes: Int64?
        public var receivedPackets: Int64?
        public var receivedErrors: Int64?
        public var receivedDrops: Int64?
        public var sentBytes: Int64?
        public var sentPackets: Int64?
        public var sentErrors: Int64?
        public var sentDrops: Int64?

        public init(macAddress: String?) { self.macAddress = macAddress }
    }

    public struct Disk: Sendable, Hashable, Codable {
        /// The target's name, `vda`: keys of the older shape begin with it.
        public var device: String
        public var readBytes: Int64?
        public var readRequests: Int64?
        public var writtenBytes: Int64?
        public var writeRequests: Int64?
        public var errors: Int64?

        public init(device: String) { self.device = device }
    }

    public var powerState: PowerState
    /// "kvm" or "qemu".
    public var hypervisor: String
    public var uptimeSeconds: Int64?
    public var hasConfigDrive: Bool
    public var processors: [Processor]
    public var interfaces: [Interface]
    public var disks: [Disk]
    public var memoryMaximumMiB: Int64
    public var memoryUsedMiB: Int64?

    public init(
        powerState: PowerState, hypervisor: String, uptimeSeconds: Int64?, hasConfigDrive: Bool,
        processors: [Processor], interfaces: [Interface], disks: [Disk], memoryMaximumMiB: Int64,
        memoryUsedMiB: Int64?
    ) {
        (self.powerState, self.hypervisor, self.uptimeSeconds) = (powerState, hypervisor, uptimeSeconds)
        (self.hasConfigDrive, self.processors, self.interfaces) = (hasConfigDrive, processors, interfaces)
        (self.disks, self.memoryMaximumMiB, self.memoryUsedMiB) = (disks, memoryMaximumMiB, memoryUsedMiB)
    }
}
