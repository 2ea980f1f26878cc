internal import Configuration
internal import HTTP
internal import Model
internal import PCIDevices
internal import RPC
internal import SQL
internal import SQLite
internal import TaskStore
internal import Tasks
internal import Telemetry

/// The parts of a running agent, wired.
struct AgentCore: Sendable {
    let configuration: Configuration
    let identity: AgentIdentity
    let hostUUID: String
    let listen: ListenAddress
    let lock: FolderLock
    let driver: any VirtDriver
    let journal: Journal
    let tracker: ResourceTracker
    let http: HTTPClient
    let client: RPCClient
    let engine: TaskEngine
    let dispatcher: Dispatcher
    let outbox: Outbox
    let watcher: GuestWatcher
    let reporter: HostReporter
    let comparison: Comparison
    let recovery: Recovery
    let evacuations: Evacuations
    let prefetch: ImagePrefetch
    let gates: LiveGates
    let sequence: SequenceCounter

    private static let log = Logger("agent")

    /// Opens the journal and the hypervisor and wires everything; nothing runs yet. What was opened is closed again
    /// when a later part cannot be.
    static func make(
        configuration: Configuration, driver: any VirtDriver, conductors: [String], undoAttempts: Int,
        now: @escaping Now
    ) async throws -> AgentCore {
        let statePath = configuration[CommonOptions.statePath]
        let host = HostName(configuration[CommonOptions.host])
        guard let identity = try AgentIdentity.load(statePath: statePath) else {
            throw Failure(.unauthenticated, "host \(host) has not joined: apus-compute --join URL --token-file FILE")
        }
        guard identity.host == host else {
            throw Failure(
                .conflict, "this host joined as \(identity.host), the configuration names it \(host): never rename it")
        }
        let listen = try ListenAddress(configuration[ComputeOptions.listen])
        let lock = try FolderLock(folder: statePath)
        let journal = try await Journal.open(.file(statePath + "/agent.db"), now: now)
        do {
            return try await wire(
                configuration, identity, listen, lock, driver, journal, conductors: conductors, host: host,
                undoAttempts: undoAttempts, now: now)
        } catch {
            await driver.stop()
            await journal.database.close()
            throw error
        }
    }

    private static func wire(
        _ configuration: Configuration, _ identity: AgentIdentity, _ listen: ListenAddress, _ lock: FolderLock,
        _ driver: any VirtDriver, _ journal: Journal, conductors: [String], host: HostName, undoAttempts: Int,
        now: @escaping Now
    ) async throws -> AgentCore {
        let storage = SQLTaskStorage(database: journal.database)
        try await journal.database.migrate(SQLTaskStorage.migrations, component: SQLTaskStorage.component)
        try await journal.database.migrate(
            SQLIdempotencyStore.migrations, component: SQLIdempotencyStore.component)
        let uuid = try await journal.hostUUID()
        let sequence = SequenceCounter(first: try await journal.firstSequence())
        try await driver.start()
        let capacity = try await driver.capacity()
        let topologySettings = TopologySettings(configuration)
        try topologySettings.check(capacity)
        let found = topologySettings.apply(to: capacity)
        let deviceSettings = try DeviceSettings(configuration)
        let pci = PCIInventory(
            devices: try await deviceSettings.devices(of: driver), aliases: deviceSettings.aliases)
        let mediated = try await deviceSettings.mediatedDevices(of: driver)
        let triggers = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let tracker = ResourceTracker(
            ResourceLedger(
                total: found.total, reserved: configuration.reservedResources,
                ratios: try await AllocationRatios.chosen(configuration, journal), topology: found.topology,
                pci: pci, mediated: mediated, guestOverheadMiB: configuration[ComputeOptions.memoryOverheadMiB],
                claims: try await journal.claims())
        ) { triggers.continuation.yield() }
        let tls = ClientTLS(
            caPEM: identity.authorityPEM, clientCertificatePEM: identity.certificatePEM,
            clientKeyPEM: identity.privateKeyPEM)
        let http = HTTPClient(tls: tls)
        let peers = configuration.peers(conductors, identity)
        try RPCOptions.checkConfidentiality(of: peers.map(\.url), configuration, Logger("agent"))
        let client = RPCClient(
            http: http, peers: peers,
            isPlaintextAllowed: configuration[RPCOptions.allowPlaintext])
        let outbox = Outbox(journal: journal, client: client, host: host, sequence: { sequence.next() })
        let strays = StrayList { triggers.continuation.yield() }
        let watcher = GuestWatcher(
            driver: driver, journal: journal, tracker: tracker, host: host, strays: strays,
            sequence: { sequence.next() },
            wakeOutbox: { outbox.wake() })
        let engine = TaskEngine(
            storage: storage, owner: "agent:\(host)",
            limits: [
                OperationKind.send.rawValue: configuration[ComputeOptions.maxConcurrentLiveMigrations],
                OperationKind.build.rawValue: configuration[ComputeOptions.maxConcurrentBuilds],
                OperationKind.snapshot.rawValue: configuration[ComputeOptions.maxConcurrentSnapshots],
                OperationKind.shelve.rawValue: configuration[ComputeOptions.maxConcurrentSnapshots],
            ],
            undoAttempts: undoAttempts, now: now)
        let dispatcher = Dispatcher(
            journal: journal, tracker: tracker, engine: engine, rows: OperationRows(host: host),
            wakeOutbox: { outbox.wake() }, now: now)
        let open = try await journal.database.read { try $0.openOperations() }
        let recovery = Recovery(open: Set(open.map(\.id)))
        let evacuations = Evacuations(
            host: host, journal: journal, driver: driver, client: client, dispatcher: dispatcher)
        let builds = BuildCount()
        let reporter = HostReporter(
            .init(host: host, uuid: uuid, address: configuration.hostAddress(listen)), capacity: capacity,
            driver: driver, journal: journal, tracker: tracker, client: client, triggers: triggers,
            sequence: { sequence.next() }, strays: strays, builds: builds,
            measuresProcessors: !configuration[ComputeOptions.computeMonitors].isEmpty,
            topologySettings: topologySettings,
            deviceSettings: deviceSettings)
        let comparison = Comparison(
            host: host, journal: journal, client: client, strays: strays, sequence: { sequence.next() },
            wakeOutbox: { outbox.wake() })
        let ending = OperationEnding(
            driver: driver, journal: journal, tracker: tracker, host: host, outbox: outbox, watcher: watcher,
            builds: builds, sequence: { sequence.next() },
            next: { try await dispatcher.next(of: $0) },
            ended: { id in
                await recovery.ended(id)
                evacuations.ended()
                reporter.trigger()
            })
        let images = ImageFetcher(
            host: host, client: client, http: http, allowsPlaintext: configuration[RPCOptions.allowPlaintext])
        let prefetch = ImagePrefetch { order in
            try await driver.cacheImage(order.image) { offset, write in
                try await images.fetch(order.image, for: .cache(order.task), from: offset, write)
            }
        }
        let gates = LiveGates()
        let outgoing = BlockingExecutor(
            name: "live-out", threads: 16 + 16 * configuration[ComputeOptions.maxConcurrentLiveMigrations])
        let tools = OperationTools(
            driver: driver, images: images,
            uploads: ImageUploader(
                host: host, client: client, http: http, allowsPlaintext: configuration[RPCOptions.allowPlaintext]),
            now: now, shutdownGrace: configuration[ComputeOptions.shutdownTimeout],
            rebootGrace: configuration[ComputeOptions.waitSoftReboot],
            progress: { await outbox.note($0, $1) },
            share: { await outbox.note($0, $1, progress: $2) }, guest: { try await journal.guest($0) },
            changeGuest: { try await journal.changeGuest($0, $1) },
            claimsAreReported: { await reporter.reported() },
            moved: { source, migration, instance in
                AgentMovedFiles(
                    source: source, migration: migration, instance: instance, host: host, http: http,
                    allowsPlaintext: configuration[RPCOptions.allowPlaintext])
            },
            setAside: { id in try await journal.database.read { try $0.setAside(id) } },
            tellProgress: { instance, migration, progress, isPostCopy in
                do {
                    _ = try await client.call(
                        ReportMigration.self,
                        .init(
                            host: host, instance: instance, migration: migration, progress: progress,
                            isPostCopy: isPostCopy))
                } catch {
                    // The next one says more.
                    log.debug("the progress of a migration was not taken", ["error": LoggedError(error)])
                }
            },
            live: LiveTools(
                gates: gates,
                door: LiveDoor(
                    address: listen.address, ports: configuration.liveMigrationPorts, tls: identity.serverTLS,
                    host: host, conductorSecretHash: identity.conductorSecretHash, driver: driver, gates: gates),
                peer: { peer, migration, instance in
                    AgentLivePeer(
                        peer, migration, instance, host: host, http: http, executor: outgoing,
                        allowsPlaintext: configuration[RPCOptions.allowPlaintext])
                }))
        OperationDefinitions(tools: tools, ending: ending).register(with: engine)
        #if FaultInjection
            try FaultInjection.armed()?.watch(engine)
        #endif
        return AgentCore(
            configuration: configuration, identity: identity, hostUUID: uuid, listen: listen, lock: lock,
            driver: driver,
            journal: journal, tracker: tracker, http: http, client: client, engine: engine, dispatcher: dispatcher,
            outbox: outbox, watcher: watcher, reporter: reporter, comparison: comparison, recovery: recovery,
            evacuations: evacuations, prefetch: prefetch, gates: gates, sequence: sequence)
    }

    /// Ends what `make` opened; guests go on.
    func close() async {
        await driver.stop()
        await http.shutdown()
        await journal.database.close()
        lock.release()
    }
}

extension Configuration {
    fileprivate var reservedResources: Resources {
        Resources(
            vcpus: self[ComputeOptions.reservedHostCPUs], memoryMiB: self[ComputeOptions.reservedHostMemoryMB],
            diskGiB: (self[ComputeOptions.reservedHostDiskMB] + 1_023) / 1_024)
    }

    fileprivate var liveMigrationPorts: ClosedRange<UInt16> {
        // Checked when it was read.
        ComputeOptions.portRange(self[ComputeOptions.liveMigrationPorts]) ?? 49_152...49_215
    }

    fileprivate func hostAddress(_ listen: ListenAddress) -> String {
        let own = self[ComputeOptions.myIP]
        return own.isEmpty ? listen.address : own
    }

    fileprivate func peers(_ given: [String], _ identity: AgentIdentity) -> [PeerAddress] {
        let configured = self[ComputeOptions.conductors]
        let urls = given.isEmpty ? (configured.isEmpty ? identity.conductors : configured) : given
        let credential = PeerCredential(peer: "host:\(identity.host)", secret: identity.secret)
        return urls.map { PeerAddress(url: $0, credential: credential) }
    }
}
