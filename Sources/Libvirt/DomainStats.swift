/// Which figures are asked for; each costs the hypervisor a query or more per domain.
public struct StatisticsOptions: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let state = StatisticsOptions(rawValue: 1 << 0)
    public static let cpu = StatisticsOptions(rawValue: 1 << 1)
    public static let balloon = StatisticsOptions(rawValue: 1 << 2)
    public static let vcpus = StatisticsOptions(rawValue: 1 << 3)
    public static let interfaces = StatisticsOptions(rawValue: 1 << 4)
    public static let blocks = StatisticsOptions(rawValue: 1 << 5)
}

/// One domain's figures. What was not asked for, or what the driver or a busy domain did not give, is `nil` or empty.
public struct DomainStats: Sendable, Hashable {
    public struct VCPU: Sendable, Hashable {
        public let number: Int
        public let time: Duration?
    }

    public struct Interface: Sendable, Hashable {
        /// The device on the host, `vnet0`.
        public let name: String?
        public let receivedBytes: UInt64?
        public let transmittedBytes: UInt64?
    }

    public struct Block: Sendable, Hashable {
        /// The device in the guest, `vda`.
        public let name: String?
        public let path: String?
        public let readBytes: UInt64?
        public let writtenBytes: UInt64?
        /// Bytes that the file or volume takes on the host.
        public let allocatedBytes: UInt64?
        /// Bytes that the guest sees.
        public let capacityBytes: UInt64?
    }

    public let identity: DomainIdentity
    public let status: DomainStatus?
    /// CPU time used since it started.
    public let cpuTime: Duration?
    /// Memory the guest has now, and may have.
    public let memoryKiB: UInt64?
    public let maximumMemoryKiB: UInt64?
    /// Memory of the hypervisor's process.
    public let residentKiB: UInt64?
    public let currentVCPUs: Int?
    public let vcpus: [VCPU]
    public let interfaces: [Interface]
    public let blocks: [Block]
    /// Everything that came, by libvirt's own names.
    public let values: [String: TypedValue]

    init(identity: DomainIdentity, values: [String: TypedValue]) {
        self.identity = identity
        self.values = values
        func unsigned(_ name: String) -> UInt64? { values[name]?.unsignedValue }
        func time(_ name: String) -> Duration? { unsigned(name).map { .nanoseconds(Int64(clamping: $0)) } }
        func text(_ name: String) -> String? { values[name]?.textValue }
        status = values["state.state"]?.integerValue.map { state in
            DomainStatus(
                state: Int32(truncatingIfNeeded: state),
                reason: Int32(truncatingIfNeeded: values["state.reason"]?.integerValue ?? 0))
        }
        cpuTime = time("cpu.time")
        memoryKiB = unsigned("balloon.current")
        maximumMemoryKiB = unsigned("balloon.maximum")
        residentKiB = unsigned("balloon.rss")
        currentVCPUs = unsigned("vcpu.current").map { Int(clamping: $0) }
        // CPUs that are offline leave gaps, so there may be more numbers than CPUs.
        vcpus = Self.indices(unsigned("vcpu.maximum"), values).filter { values["vcpu.\($0).state"] != nil }.map {
            VCPU(number: $0, time: time("vcpu.\($0).time"))
        }
        interfaces = Self.indices(unsigned("net.count"), values).map {
            Interface(
                name: text("net.\($0).name"), receivedBytes: unsigned("net.\($0).rx.bytes"),
                transmittedBytes: unsigned("net.\($0).tx.bytes"))
        }
        blocks = Self.indices(unsigned("block.count"), values).map {
            Block(
                name: text("block.\($0).name"), path: text("block.\($0).path"),
                readBytes: unsigned("block.\($0).rd.bytes"), writtenBytes: unsigned("block.\($0).wr.bytes"),
                allocatedBytes: unsigned("block.\($0).allocation"), capacityBytes: unsigned("block.\($0).capacity"))
        }
    }

    /// A count that came from outside is believed only as far as there are values for it.
    private static func indices(_ count: UInt64?, _ values: [String: TypedValue]) -> Range<Int> {
        0..<min(Int(clamping: count ?? 0), values.count)
    }
}
