/// Which domain a call is about.
public enum DomainReference: Sendable, Hashable {
    case uuid(String)
    case name(String)
}

/// A domain as libvirt names it.
public struct DomainIdentity: Sendable, Hashable {
    /// Lower case, with hyphens.
    public let uuid: String
    public let name: String
    /// The hypervisor's number of the running domain; `nil` when it does not run.
    public let id: Int?

    public init(uuid: String, name: String, id: Int?) {
        self.uuid = uuid
        self.name = name
        self.id = id
    }
}

/// What `LibvirtConnection.info` reads of a domain in one go.
public struct DomainInfo: Sendable, Hashable {
    public let identity: DomainIdentity
    public let status: DomainStatus
    /// Whether a definition stays when the domain stops.
    public let isPersistent: Bool
    public let isActive: Bool
    /// Whether it starts with the daemon.
    public let isAutostarted: Bool
    public let maximumMemoryKiB: UInt64
    public let memoryKiB: UInt64
    public let vcpus: Int
    /// CPU time used since it started.
    public let cpuTime: Duration
}

/// How a domain is to be started.
public struct StartOptions: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Its CPUs stand still until it is resumed.
    public static let paused = StartOptions(rawValue: 1 << 0)
    /// It is destroyed when the connection that started it closes.
    public static let autodestroy = StartOptions(rawValue: 1 << 1)
    /// The XML is checked against libvirt's schema; only where XML is given.
    public static let validate = StartOptions(rawValue: 1 << 4)
}

/// Which description of a domain is asked for.
public struct XMLOptions: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// With passwords; refused on a read-only connection.
    public static let secure = XMLOptions(rawValue: 1 << 0)
    /// The definition that the next start will use, not that of the running domain.
    public static let inactive = XMLOptions(rawValue: 1 << 1)
    /// In the form that another libvirt accepts as the target of a migration.
    public static let migratable = XMLOptions(rawValue: 1 << 3)
}

/// Which domains a list holds; none means all, several of one kind mean any of them.
public struct DomainFilter: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let active = DomainFilter(rawValue: 1 << 0)
    public static let inactive = DomainFilter(rawValue: 1 << 1)
    public static let persistent = DomainFilter(rawValue: 1 << 2)
    public static let transient = DomainFilter(rawValue: 1 << 3)
    public static let running = DomainFilter(rawValue: 1 << 4)
    public static let paused = DomainFilter(rawValue: 1 << 5)
    public static let shutOff = DomainFilter(rawValue: 1 << 6)
}

/// What stays of a domain when its definition goes.
public struct UndefineKeep: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// UEFI variables.
    public static let nvram = UndefineKeep(rawValue: 1 << 0)
    /// The state of an emulated TPM.
    public static let tpm = UndefineKeep(rawValue: 1 << 1)
}
