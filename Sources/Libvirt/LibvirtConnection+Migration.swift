internal import CLibvirt

/// How a domain is to be carried to another host, peer to peer: the daemon here talks to the one there.
public struct DomainMigration: Sendable, Hashable {
    /// Of the daemon there, as the daemon here reaches it.
    public var destinationURI: String
    /// Where the memory goes: `unix:///PATH`, where QEMU listens there and connects here; `nil` as libvirt chooses.
    public var memoryURI: String?
    /// The same for the disks.
    public var disksURI: String?
    /// The domain as it is to be there; `nil` for one that differs in nothing.
    public var xml: String?
    /// Disks whose content goes along, by their targets (`vda`): what they hold beyond their backing files.
    public var disks: [String] = []
    /// MiB a second; 0 for no limit.
    public var bandwidthMiB: UInt64 = 0
    /// The name in the certificate of the hypervisor there, when the hypervisors themselves are to talk by TLS.
    public var certificateName: String?
    /// Whether the guest runs while its memory is carried; else it stands still from the first page to the last.
    public var isLive = true
    public var options: Options = []

    public struct Options: OptionSet, Sendable, Hashable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// The domain does not run there until it is resumed.
        public static let paused = Options(rawValue: VIR_MIGRATE_PAUSED.rawValue)
        /// A guest that changes its memory faster than it can be sent is slowed down.
        public static let autoConverge = Options(rawValue: VIR_MIGRATE_AUTO_CONVERGE.rawValue)
        /// `startPostCopy` may be called.
        public static let postCopy = Options(rawValue: VIR_MIGRATE_POSTCOPY.rawValue)
        public static let compressed = Options(rawValue: VIR_MIGRATE_COMPRESSED.rawValue)
        /// The caller knows that the disks are the same there, and what is cached of them here, too.
        public static let unsafe = Options(rawValue: VIR_MIGRATE_UNSAFE.rawValue)
    }

    public init(destinationURI: String) { self.destinationURI = destinationURI }
}

/// How far a migration is.
public struct MigrationJob: Sendable, Hashable {
    public var memoryTotal: UInt64
    public var memoryProcessed: UInt64
    public var memoryRemaining: UInt64
    public var diskTotal: UInt64
    public var diskProcessed: UInt64
    public var diskRemaining: UInt64
    /// How often the whole memory has been gone through.
    public var iteration: UInt64?

    init(_ values: [String: TypedValue]) {
        func value(_ name: String) -> UInt64 { values[name]?.unsignedValue ?? 0 }
        memoryTotal = value(VIR_DOMAIN_JOB_MEMORY_TOTAL)
        memoryProcessed = value(VIR_DOMAIN_JOB_MEMORY_PROCESSED)
        memoryRemaining = value(VIR_DOMAIN_JOB_MEMORY_REMAINING)
        diskTotal = value(VIR_DOMAIN_JOB_DISK_TOTAL)
        diskProcessed = value(VIR_DOMAIN_JOB_DISK_PROCESSED)
        diskRemaining = value(VIR_DOMAIN_JOB_DISK_REMAINING)
        iteration = values[VIR_DOMAIN_JOB_MEMORY_ITERATION]?.unsignedValue
    }
}

extension LibvirtConnection {
    /// Carries a running domain over; it is defined there, and nowhere here, afterwards. Returns when that is done, which
    /// takes as long as memory and disks take: `deadline`.
    ///
    /// After an error the domain may be here, there, or halted on both: look at its status. Does not end with the
    /// connection, but with `abortJob`.
    /// - Throws: `.operationAborted` after `abortJob`.
    public func migrate(
        _ reference: DomainReference, _ migration: DomainMigration, deadline: Duration
    ) async throws(LibvirtError) {
        let name = "virDomainMigrateToURI3"
        try await call(name, deadline: deadline) { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            var parameters = MigrationParameters()
            try parameters.add(VIR_MIGRATE_PARAM_URI, migration.memoryURI)
            try parameters.add(VIR_MIGRATE_PARAM_DEST_XML, migration.xml)
            try parameters.add(VIR_MIGRATE_PARAM_PERSIST_XML, migration.xml)
            var flags =
                VIR_MIGRATE_PEER2PEER.rawValue | VIR_MIGRATE_PERSIST_DEST.rawValue
                | VIR_MIGRATE_UNDEFINE_SOURCE.rawValue | migration.options.rawValue
            if migration.isLive { flags |= VIR_MIGRATE_LIVE.rawValue }
            if let name = migration.certificateName {
                flags |= VIR_MIGRATE_TLS.rawValue
                try parameters.add(VIR_MIGRATE_PARAM_TLS_DESTINATION, name)
            }
            if !migration.disks.isEmpty {
                flags |= VIR_MIGRATE_NON_SHARED_INC.rawValue
                try parameters.add(VIR_MIGRATE_PARAM_DISKS_URI, migration.disksURI)
                for disk in migration.disks { try parameters.add(VIR_MIGRATE_PARAM_MIGRATE_DISKS, disk) }
            }
            if migration.bandwidthMiB > 0 { try parameters.add(VIR_MIGRATE_PARAM_BANDWIDTH, migration.bandwidthMiB) }
            try refuseZero(in: migration.destinationURI, name)
            let code = parameters.use {
                virDomainMigrateToURI3(domain.pointer, migration.destinationURI, $0, $1, flags)
            }
            guard code == 0 else { throw .last(name) }
        }
    }

    /// How long the guest may stand still at the end of its migration, from now on.
    /// - Throws: `.operationInvalid` when none is under way.
    public func setMaximumDowntime(_ reference: DomainReference, _ limit: Duration) async throws(LibvirtError) {
        let milliseconds = UInt64(
            max(1, limit.components.seconds * 1_000 + limit.components.attoseconds / 1_000_000_000_000_000))
        try await act(on: reference, "virDomainMigrateSetMaxDowntime") {
            virDomainMigrateSetMaxDowntime($0, milliseconds, 0)
        }
    }

    /// Has the guest go on at the destination at once, whose memory comes after it.
    /// - Throws: `.operationInvalid` for a migration that was not begun with `.postCopy`.
    public func startPostCopy(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainMigrateStartPostCopy") { virDomainMigrateStartPostCopy($0, 0) }
    }

    /// How far the domain's migration is; `nil` while no job holds the domain.
    public func migrationJob(_ reference: DomainReference) async throws(LibvirtError) -> MigrationJob? {
        try await call("virDomainGetJobStats") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            var type: Int32 = 0
            var parameters: virTypedParameterPtr?
            var count: Int32 = 0
            guard virDomainGetJobStats(domain.pointer, &type, &parameters, &count, 0) == 0 else {
                throw .last("virDomainGetJobStats")
            }
            defer { virTypedParamsFree(parameters, count) }
            guard type != Int32(VIR_DOMAIN_JOB_NONE.rawValue) else { return nil }
            return MigrationJob(decodeParameters(parameters, count: Int(count)))
        }
    }

    /// Whether a guest with the CPU that `description` (a `<cpu>` element) tells can run on this host.
    /// - Throws: `.cpuIncompatible` with the reason where it cannot.
    public func compareCPU(
        _ description: String, emulator: String?, architecture: String?, machine: String?, type: String?
    ) async throws(LibvirtError) {
        try await call("virConnectCompareHypervisorCPU") { (connection) throws(LibvirtError) in
            try refuseZero(in: description, "virConnectCompareHypervisorCPU")
            let result = virConnectCompareHypervisorCPU(
                connection, emulator, architecture, machine, type, description,
                UInt32(VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE.rawValue))
            guard result != VIR_CPU_COMPARE_ERROR.rawValue else { throw .last("virConnectCompareHypervisorCPU") }
            guard result != VIR_CPU_COMPARE_INCOMPATIBLE.rawValue else {
                throw LibvirtError(
                    .cpuIncompatible, call: "virConnectCompareHypervisorCPU",
                    message: "the host's CPU lacks what the guest's has")
            }
        }
    }
}

/// A list of typed parameters that is built up.
private struct MigrationParameters: ~Copyable {
    private var list: virTypedParameterPtr?
    private var count: Int32 = 0
    private var capacity: Int32 = 0

    deinit { virTypedParamsFree(list, count) }

    /// Nothing for `nil`.
    mutating func add(_ name: String, _ value: String?) throws(LibvirtError) {
        guard let value else { return }
        try refuseZero(in: value, "virTypedParamsAddString")
        guard virTypedParamsAddString(&list, &count, &capacity, name, value) == 0 else {
            throw .last("virTypedParamsAddString")
        }
    }

    mutating func add(_ name: String, _ value: UInt64) throws(LibvirtError) {
        guard virTypedParamsAddULLong(&list, &count, &capacity, name, value) == 0 else {
            throw .last("virTypedParamsAddULLong")
        }
    }

    borrowing func use<T>(_ body: (virTypedParameterPtr?, UInt32) -> T) -> T { body(list, UInt32(count)) }
}
