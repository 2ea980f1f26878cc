public import Configuration
internal import Crypto
public import Database
internal import HTTP
internal import Images
public import Model
internal import Periodic
internal import RPC
internal import Tasks
internal import Telemetry

/// The conductor: carries durable tasks through, answers agents, lets hosts in. Any number may share one database.
public final class ConductorService: Sendable {
    /// Rises with each release; reported with the heartbeat.
    public static let version = 1

    private let configuration: Configuration
    private let database: ControlDatabase
    private let hostName: HostName
    private let server: HTTPServer
    private let engine: TaskEngine
    private let liveness: Liveness
    private let sinks: NotificationSinks
    /// For addresses that are none of this cloud's.
    private let outside: HTTPClient
    private let connections: HTTPClient
    private let now: Now
    private let log = Logger("conductor")

    /// Wires the conductor and binds its port.
    ///
    /// - Parameter hostName: the control host's name; one conductor a host.
    /// - Throws: `HTTPServerError` when the port is taken, `SQLError` when the database cannot be used, `Failure` when
    ///   the configuration would send credentials in plaintext beyond loopback.
    public init(
        configuration: Configuration, database: ControlDatabase, hostName: HostName,
        now: @escaping @Sendable () -> Timestamp
    ) async throws {
        (self.configuration, self.database, self.hostName, self.now) = (configuration, database, hostName, now)
        try RPCOptions.checkConfidentiality(of: configuration[ConductorOptions.schedulerURLs], configuration, log)
        let authority = ControlPlaneAuthority(settings: database.settings, now: now)
        let listen = try ListenAddress(configuration[ConductorOptions.listen])
        let isPlaintextAllowed = configuration[RPCOptions.allowPlaintext]
        let tls = try await ServerIdentity.tls(
            for: listen, advertised: configuration[ConductorOptions.advertisedURL], hostName: hostName,
            authority: authority, isPlaintextAllowed: isPlaintextAllowed)
        connections = HTTPClient(tls: ClientTLS(caPEM: try await authority.establish()))
        outside = HTTPClient()
        sinks = try NotificationSinks(configuration, outside)
        try await database.notifications.setSinks(Set(sinks.all.map(\.name)))
        liveness = Liveness(
            services: database.services, hosts: database.hosts, evacuations: database.evacuations,
            downAfter: configuration[DatabaseOptions.serviceDownTime],
            patience: min(configuration[DatabaseOptions.serviceDownTime], .seconds(60)), now: now())
        let concurrency = configuration[ConductorOptions.maxConcurrentBuilds]
        var limits = Dictionary(uniqueKeysWithValues: TaskKind.all.map { ($0, concurrency) })
        limits[TaskKind.cacheImages] = configuration[ConductorOptions.precacheConcurrency]
        engine = TaskEngine(
            storage: database.tasks, owner: "conductor@\(hostName)", limits: limits,
            poll: configuration[ConductorOptions.taskPollInterval], watch: .milliseconds(500), now: now)
        let agents = AgentDirectory(
            credentials: database.credentials, connections: connections, isPlaintextAllowed: isPlaintextAllowed)
        let schedulerCredential = try await ServiceCredentials(
            credentials: database.credentials, role: "conductor", host: hostName.rawValue, now: now
        ).mint(toward: "scheduler")
        let scheduler = RPCClient(
            http: connections,
            peers: configuration[ConductorOptions.schedulerURLs].map {
                PeerAddress(url: $0, credential: schedulerCredential)
            },
            // What one scheduler has just placed the others do not know yet.
            isSpread: false, isPlaintextAllowed: isPlaintextAllowed)
        let ledger = InstanceLedger(instances: database.instances)
        let command = HostCommand(agents: agents, reports: database.reports)
        let ticketSecret = try await database.settings.establish([
            ImageTicketAuthority.settingName: randomBytes(32)
        ])
        let tickets = ImageTicketAuthority(secret: ticketSecret[ImageTicketAuthority.settingName] ?? [])
        ConductorTasks(
            ledger: ledger, command: command, liveness: liveness,
            cleanup: CleanupQueue(engine: engine, tasks: database.tasks),
            offload: OffloadQueue(
                engine: engine, tasks: database.tasks,
                afterSeconds: configuration[DatabaseOptions.shelvedOffloadTime]),
            imageStorage: database.images, tasks: database.tasks, hosts: database.hosts,
            scheduler: scheduler,
            images: ServerImages(
                storage: database.images, tickets: tickets, http: connections,
                imageURL: configuration[ConductorOptions.imageURL], now: now),
            maxAttempts: configuration[ConductorOptions.maxAttempts],
            buildTimeout: configuration.buildTimeout, now: now
        ).register(on: engine)
        let rpc = RPCServer(
            name: "conductor",
            verifier: DatabasePeerVerifier(credentials: database.credentials, receiver: "conductor"),
            idempotency: database.idempotency, now: now)
        ReportService(
            database: database, engine: engine, liveness: liveness,
            tickets: tickets,
            imageURL: configuration[ConductorOptions.imageURL],
            ticketLifetime: configuration[ConductorOptions.imageTicketLifetime], now: now
        ).register(on: rpc)
        EvacuationService(database: database, liveness: liveness, now: now).register(on: rpc)
        ControlService(database: database, engine: engine, agents: agents, now: now).register(on: rpc)
        await liveness.readEvacuated()
        var router = Router()
        rpc.mount(on: &router)
        JoinService(
            credentials: database.credentials, authority: authority, agents: agents,
            isPlaintextAllowed: isPlaintextAllowed, forgetVerified: { rpc.forgetVerified() }, now: now
        ).mount(on: &router)
        server = HTTPServer(
            ServerConfiguration(name: "conductor", address: listen.address, port: listen.port, tls: tls),
            router: router)
        try server.start()
    }

    /// The port that is bound: the configured one, or the one that was given for 0.
    public var port: UInt16 { server.port }

    /// Works until it is cancelled; then refuses new calls, lets what runs come to its next save, and returns.
    public func run() async throws {
        log.info("conductor listens", ["port": Int(port)])
        try await withThrowingTaskGroup { group in
            group.addTask {
                try await self.engine.recover()
                try await self.engine.run()
            }
            group.addTask { await self.keepAlive() }
            group.addTask { await self.hearChanges() }
            group.addTask { await self.periodicRunner.run() }
            for sink in self.sinks.all {
                let pump = NotificationPump(
                    store: database.notifications, sink: sink, owner: "conductor@\(hostName)", now: now)
                group.addTask { await pump.run() }
            }
            try await group.waitForAll()
        }
        await server.stop(grace: .seconds(5))
        await liveness.flush(now: now())
        await connections.shutdown()
        await outside.shutdown()
    }

    /// Looks for tasks when the database's server says that another process has written, at most 20 times a second. Where
    /// no server tells, the engine's own looks are all.
    private func hearChanges() async {
        let (changes, told) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        guard database.onChange({ told.yield() }) else { return }
        for await _ in changes {
            engine.wake()
            do { try await AlarmClock().sleep(for: .milliseconds(50)) } catch { return }
        }
    }

    /// Writes the heartbeats that came in, and this conductor's own.
    private func keepAlive() async {
        var sequence: Int64 = 0
        // Seconds: so often that one may be lost before this conductor counts as down.
        let interval = max(1, min(10, configuration[DatabaseOptions.serviceDownTime].components.seconds / 3))
        while !Task.isCancelled {
            if sequence % interval == 0 {
                do {
                    try await liveness.record(
                        .init(host: hostName, binary: "nova-conductor", version: Self.version, sequence: sequence),
                        at: now())
                } catch {
                    log.error("this conductor's own heartbeat is not noted", ["error": LoggedError(error)])
                }
            }
            sequence += 1
            await liveness.flush(now: now())
            await liveness.readEvacuated()
            do { try await AlarmClock().sleep(for: .seconds(1)) } catch { return }
        }
    }

    var periodicRunner: PeriodicRunner {
        PeriodicRunner(
            configuration[CommonOptions.periodicEnable]
                ? lapsing + [trimming, closingMigrations] + auditing : [], of: "conductor", fuzz: .zero)
    }

    /// What the cloud does by itself when an instance's time is over.
    private var lapsing: [PeriodicTask] {
        let (engine, now) = (engine, now)
        let lapses = LapsedInstances(
            database: database, reclaimAfter: configuration[DatabaseOptions.reclaimInterval],
            offloadAfterSeconds: configuration[DatabaseOptions.shelvedOffloadTime],
            unrescueAfter: configuration[ConductorOptions.rescueTimeout],
            confirmAfter: configuration[ConductorOptions.resizeConfirmWindow],
            rebootAfter: configuration[ConductorOptions.rebootTimeout])
        let looks: [(String, Option<Duration>, @Sendable (Timestamp) async throws -> Int)] = [
            ("reclaim_queued_deletes", ConductorOptions.lapsedPollInterval, lapses.reclaim),
            ("poll_rebooting_instances", ConductorOptions.lapsedPollInterval, lapses.reboot),
            ("poll_rescued_instances", ConductorOptions.lapsedPollInterval, lapses.unrescue),
            ("poll_unconfirmed_resizes", ConductorOptions.lapsedPollInterval, lapses.confirm),
            ("poll_shelved_instances", ConductorOptions.shelvedPollInterval, lapses.offload),
        ]
        return looks.map { name, interval, look in
            PeriodicTask(name, interval: configuration[interval], isImmediate: true) {
                if try await look(now()) > 0 { engine.wake() }
            }
        }
    }

    /// Removes what migrations have left that ended in error, once their instances are deleted.
    private var closingMigrations: PeriodicTask {
        let (engine, now) = (engine, now)
        let migrations = IncompleteMigrations(database: database)
        return PeriodicTask(
            "cleanup_incomplete_migrations", interval: configuration[ConductorOptions.incompleteMigrationInterval],
            isImmediate: true
        ) {
            if try await migrations.close(now: now()) > 0 { engine.wake() }
        }
    }

    /// Tells of every period that is over which instances there were; nothing unless the operator wants it.
    private var auditing: [PeriodicTask] {
        guard configuration[ConductorOptions.usageAudit] else { return [] }
        let audits = UsageAudits(database: database, period: DatabaseOptions.usageAudit(configuration))
        let now = now
        return [
            PeriodicTask("instance_usage_audit", interval: .seconds(60), isImmediate: true) {
                try await audits.run(now: now())
            }
        ]
    }

    /// Forgets tasks and reports when they are old enough, and a day's answers to repeated requests.
    private var trimming: PeriodicTask {
        let (database, now) = (database, now)
        let trim = RecordTrim(database: database, retention: configuration[ConductorOptions.taskRetention])
        return PeriodicTask("trim_tasks", interval: configuration[ConductorOptions.trimInterval], isImmediate: true) {
            try await trim.run(at: now())
        }
    }
}

extension Configuration {
    /// Of `instance_build_timeout` 0 means without end, as in Nova.
    var buildTimeout: Duration {
        let timeout = self[ConductorOptions.buildTimeout]
        return timeout == .zero ? .seconds(3_650 * 86_400) : timeout
    }
}
