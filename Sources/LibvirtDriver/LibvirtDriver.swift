public import Compute
public import Configuration
internal import GuestHardware
internal import Libvirt
internal import Model
internal import Processes
internal import Synchronization
internal import Telemetry

/// Drives guests through libvirt.
///
/// Instances' files are in `instances_path`, a folder for each; images' bases in `_base` beside them. Guests that
/// libvirt has and Apus did not make are reported and never touched.
public final class LibvirtDriver: VirtDriver {
    /// What `start` found out about the host, and needs no second look.
    struct Surroundings: Sendable {
        var settings: DomainSettings
        var qemuImg: QemuImg
        var configDrive: ConfigDrive
        var cache: ImageCache
        var diskSettings: DiskSettings
    }

    public let events: AsyncStream<GuestEvent>
    let host: LibvirtHost
    let configuration: Configuration
    /// Where the folders of the instances are.
    let instancesPath: String
    /// Of the records of addresses.
    let networksFolder: Mutex<String>
    let binding: NetworkBinding
    let files = BlockingExecutor(name: "driver-files", threads: 4)
    let directory = DomainDirectory()
    let stops = StopSignals()
    let removals = RemovalSignals()
    let jobs = JobWatch()
    let reservations = DiskReservations()
    let serialPorts = SerialPortBook()
    let emulatorDevices = EmulatorDevices()
    let diskMeter: DiskMeter
    let processorMeter = Mutex(ProcessorMeter())
    let knownTraits = Mutex<(key: ObjectIdentifier, names: [String])?>(nil)
    let books = Mutex<[String: AddressBook]>([:])
    /// When a guest of another host was last about to come.
    let lastArrival = Mutex<ContinuousClock.Instant?>(nil)
    let upkeepRequests: AsyncStream<Void>
    let upkeepSink: AsyncStream<Void>.Continuation
    let clock: any Clock<Duration>
    let log = Logger("libvirt-driver")
    private let domainType: String?
    private let patience: Duration
    private let soleRole: LibvirtHost.Role?
    private let eventSink: AsyncStream<GuestEvent>.Continuation
    private let surroundings = Mutex<Surroundings?>(nil)
    private let services = Mutex<[Task<Void, Never>]>([])

    /// Reads the options of `LibvirtDriverOptions` and does nothing else; see `start()`.
    public convenience init(configuration: Configuration) {
        let uri = configuration[LibvirtDriverOptions.connectionURI]
        // libvirt's own hypervisor of nothing but memory, for tests and benches.
        let isPlayed = uri.hasPrefix("test://")
        self.init(
            configuration: configuration, host: LibvirtHost(uri: uri), domainType: isPlayed ? "test" : nil,
            clock: AlarmClock(), soleRole: isPlayed ? .control : nil)
    }

    /// - Parameters:
    ///   - domainType: instead of what `virt_type` says; `test` for libvirt's test driver.
    ///   - patience: how long `start()`, and whatever is to be done after a loss, waits for a connection.
    ///   - soleRole: the only connection to use. Each connection to libvirt's test driver has a world of its own.
    ///   - fileSystemNumber: what the kernel calls the file system of a path.
    init(
        configuration: Configuration, host: LibvirtHost, domainType: String?, clock: any Clock<Duration>,
        patience: Duration = .seconds(15), soleRole: LibvirtHost.Role? = nil,
        fileSystemNumber: @escaping FileSystemNumber = Files.fileSystemNumber
    ) {
        self.configuration = configuration
        self.host = host
        self.domainType = domainType
        self.clock = clock
        self.patience = patience
        self.soleRole = soleRole
        let instancesPath = LibvirtDriverOptions.resolvedInstancesPath(configuration)
        self.instancesPath = instancesPath
        networksFolder = Mutex(instancesPath + "/" + NetworksFolder.name)
        diskMeter = DiskMeter(files: files, clock: clock) { () throws(Failure) in
            try Self.diskSpace(at: instancesPath, number: fileSystemNumber)
        }
        binding = NetworkBinding(configuration[LibvirtDriverOptions.network]) ?? .libvirt("default")
        (upkeepRequests, upkeepSink) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (events, eventSink) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(4_096))
    }

    /// What `start()` found.
    func ready() throws(Failure) -> Surroundings {
        guard let found = surroundings.withLock({ $0 }) else {
            throw Failure(.hypervisor, "the libvirt driver has not been started", isRetriable: true)
        }
        return found
    }

    // MARK: - Life

    public func start() async throws {
        guard surroundings.withLock({ $0 == nil }) else { return }
        guard let qemuImg = QemuImg(limits: QemuImg.Limits(configuration)) else {
            throw Failure(.hypervisor, "qemu-img is not installed (package qemu-utils)")
        }
        guard let configDrive = ConfigDrive(files: files) else {
            throw Failure(.hypervisor, "neither genisoimage nor xorriso is installed; one of them writes config drives")
        }
        let cache = ImageCache(
            folder: instancesPath + "/" + configuration[LibvirtDriverOptions.imageCacheFolder], qemuImg: qemuImg,
            files: files)
        try await files.run { () throws(Failure) in try Files.makeFolder(instancesPath, mode: 0o711) }
        try await letQEMUPass()
        let networks = try await files.run { () throws(Failure) in
            try NetworksFolder.own(in: instancesPath, host: hostName)
        }
        networksFolder.withLock { $0 = networks }
        try await cache.open()
        let host = host
        // Goes on after a failure, so that another `start()` finds what it has reached meanwhile.
        services.withLock { services in
            if services.isEmpty { services.append(Task { await host.run() }) }
        }
        try await translated("connecting to \(host.uri)") { try await host.waitUntilConnected(timeout: patience) }
        let settings = try await settings()
        surroundings.withLock {
            $0 = Surroundings(
                settings: settings, qemuImg: qemuImg, configDrive: configDrive, cache: cache,
                diskSettings: DiskSettings(configuration))
        }
        services.withLock {
            $0.append(Task { await self.deliver(host.events()) })
            $0.append(Task { await self.keepAddresses() })
        }
        requestUpkeep()
    }

    public func stop() async {
        let running = services.withLock { services in
            defer { services = [] }
            return services
        }
        for service in running { service.cancel() }
        for service in running { await service.value }
        eventSink.finish()
    }

    // MARK: - Events

    private func deliver(_ source: HostEvents) async {
        for await event in source {
            switch event {
            case .lifecycle(let change): deliver(change)
            case .reboot(let uuid, _): send(.changed(InstanceID(uuid)))
            case .deviceRemoval(let removal): removals.signal(removal)
            case .jobEnded(let end): jobs.tell(InstanceID(end.uuid), .ended(end))
            case .connectionLost:
                directory.forgetAll()
                send(.disconnected)
                stops.signalAll()
                jobs.lose()
            case .connected: break
            case .resync:
                directory.forgetAll()
                for book in books.withLock({ Array($0.values) }) { book.forget() }
                send(.resynchronise)
                stops.signalAll()
                jobs.lose()
            }
        }
    }

    private func deliver(_ change: DomainEvent) {
        let id = InstanceID(change.uuid)
        switch change.kind {
        case .defined: directory.definitionChanged(id)
        case .undefined: directory.forget(id)
        case .stopped, .crashed:
            stops.signal(id)
            jobs.tell(id, .stopped)
        default: break
        }
        send(.changed(id))
    }

    private func send(_ event: GuestEvent) {
        guard case .dropped = eventSink.yield(event) else { return }
        // The oldest went; a comparison of everything makes up for it.
        eventSink.yield(.resynchronise)
    }

    // MARK: - Surroundings

    private func settings() async throws -> DomainSettings {
        let connection = try await connection(.work)
        let capabilities = try await hostCapabilities(connection)
        let virtType = await chosenVirtType(capabilities.architecture)
        let folder = instancesPath
        let cacheMode = LibvirtDriverOptions.cacheMode(configuration)
        let canBypassCache = await files.run { Files.supportsDirectIO(in: folder) }
        let machine = LibvirtDriverOptions.machine(configuration, for: capabilities.architecture)
        var settings = DomainSettings(
            virtType: virtType, architecture: capabilities.architecture, machineType: machine,
            cpu: try await cpuSettings(
                architecture: capabilities.architecture, virtType: virtType, machine: machine),
            diskCache: cacheMode ?? (canBypassCache ? "none" : "writeback"),
            diskDiscard: configuration[LibvirtDriverOptions.diskDiscard]?.rawValue,
            randomDevice: configuration[LibvirtDriverOptions.randomDevice],
            memoryStatisticsPeriod: max(0, configuration[LibvirtDriverOptions.memoryStatisticsPeriod]),
            network: binding, version: Self.version)
        settings.sharedCPUs = CPUSet(parsing: configuration[ComputeOptions.cpuSharedSet])
        settings.nics = NICSettings(
            receiveQueueSize: configuration[LibvirtDriverOptions.receiveQueueSize],
            transmitQueueSize: configuration[LibvirtDriverOptions.transmitQueueSize],
            queueLimit: configuration[LibvirtDriverOptions.maximumQueues] ?? 256)
        settings.vncAddress =
            configuration[LibvirtDriverOptions.isVNCEnabled] ? configuration[LibvirtDriverOptions.vncListen] : nil
        settings.pointer = configuration[LibvirtDriverOptions.pointer] == .usbtablet ? .usbTablet : .ps2Mouse
        settings.isTPMEnabled = configuration[LibvirtDriverOptions.isTPMEnabled]
        settings.pciePorts = configuration[LibvirtDriverOptions.pciePorts]
        settings.serial = try await systemSerial(hostUUID: capabilities.hostUUID)
        settings.serialConsole = SerialConsole(configuration)
        settings.translationCacheMiB = configuration[LibvirtDriverOptions.translationCache]
        return settings
    }

    /// - Throws: where the configuration names a source that this host does not have.
    private func systemSerial(hostUUID: String?) async throws -> SystemSerial {
        let source = configuration[LibvirtDriverOptions.systemSerial]
        var machineID: String?
        if source == .os || source == .auto {
            machineID = try await files.run { () throws(Failure) in try Self.machineID() }
        }
        switch source {
        case .unique: return .instance
        case .none: return .none
        case .os:
            guard let machineID else {
                throw Failure(.invalidParameters, "[libvirt] sysinfo_serial is os, and the host has no /etc/machine-id")
            }
            return .host(machineID)
        case .hardware, .auto:
            guard let serial = machineID ?? hostUUID else {
                throw Failure(
                    .invalidParameters,
                    "[libvirt] sysinfo_serial is \(source.rawValue), and libvirt tells no uuid of the host")
            }
            return .host(serial)
        }
    }

    /// systemd's name of this installation, written as a uuid; `nil` where there is none.
    private static func machineID() throws(Failure) -> String? {
        guard let bytes = try Files.read("/etc/machine-id", limit: 256) else { return nil }
        return SystemSerial.uuid(machineID: String(decoding: bytes, as: UTF8.self))
    }

    private func chosenVirtType(_ architecture: String) async -> String {
        if let domainType { return domainType }
        switch configuration[LibvirtDriverOptions.virtType] {
        case .kvm: return "kvm"
        case .qemu: return "qemu"
        case .auto:
            switch await KVMProbe.result(architecture: architecture) {
            case .works: return "kvm"
            case .unusable(let reason):
                log.notice("guests are emulated, since KVM cannot run them", ["reason": reason])
                return "qemu"
            }
        }
    }

    /// QEMU runs as a user of its own, which must be able to pass every folder above a disk. Those of ours are opened
    /// for passing, not for reading; of others the log tells.
    private func letQEMUPass() async throws {
        let (path, own) = (instancesPath, configuration[CommonOptions.statePath])
        let closed = try await files.run { () throws(Failure) -> String? in
            try Files.letPass(from: own, to: path)
            return Files.closedFolder(above: path)
        }
        if let closed {
            log.warning("QEMU's user may be kept out by a folder above the instances", ["folder": closed])
        }
    }

    /// Shown to guests and in their metadata.
    static let version = "0.1.0"

    /// The connection for a kind of call. After a loss what is to be done waits for the next one, as long as a daemon
    /// takes to start anew; statistics and lists do not.
    func connection(_ role: LibvirtHost.Role) async throws(Failure) -> LibvirtConnection {
        do {
            if role != .statistics { try await host.waitUntilConnected(timeout: patience) }
            return try await host.connection(soleRole ?? role)
        } catch {
            throw Failure(error, "libvirt at \(host.uri)")
        }
    }
}
