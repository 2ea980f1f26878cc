internal import Compute
internal import ComputeAPI
internal import Conductor
internal import Configuration
internal import Crypto
internal import Database
internal import HTTP
internal import Identity
internal import LibvirtDriver
internal import Model
internal import RPC
internal import SQL
internal import SchedulerService
internal import Telemetry

/// All four roles in one process, which talk by the same RPC as in many.
struct Up: Sendable {
    let settings: UpSettings

    private var configuration: Configuration { settings.configuration }
    private static let log = Logger("up")

    /// Runs until it is cancelled, then ends in order: the API, the agent, the scheduler, the conductor, the database.
    /// Guests run on.
    ///
    /// - Parameter say: takes the sentences for the person who started it.
    func run(_ say: @escaping @Sendable (String) -> Void) async throws {
        let lock = try PidFile(statePath: settings.statePath)
        for warning in configuration.warnings { Self.log.warning("configuration", ["warning": warning]) }
        let database = try await openDatabase(settings)
        do {
            try await serve(database, say)
        } catch {
            await database.close()
            throw error
        }
        await database.close()
        _ = consume lock
    }

    private func serve(_ database: ControlDatabase, _ say: @escaping @Sendable (String) -> Void) async throws {
        let start = database.now()
        let hostName = HostName(configuration[CommonOptions.host])
        let conductor = try await ConductorService(
            configuration: configuration, database: database, hostName: hostName, now: database.now)
        let scheduler = try await SchedulerService(
            configuration: configuration, database: database, hostName: hostName, now: database.now)
        let api = try await APIService(
            configuration: configuration, database: database, hostName: hostName, now: database.now)
        if try await !Bootstrap(settings: settings).run(api.identity, database) {
            Self.log.warning("the admin user's password is not in the state folder; openrc is not written")
        }
        let conductorURL = settings.url(of: "conductor")
        let control = RoleGroup()
        control.start("conductor") { try await conductor.run() }
        control.start("scheduler") { try await scheduler.run() }
        do {
            try await join(hostName, database: database, conductorURL: conductorURL)
        } catch {
            await control.stop()
            throw error
        }
        let agent = Agent(
            configuration: configuration, driver: LibvirtDriver(configuration: configuration),
            conductors: [conductorURL])
        let host = RoleGroup()
        host.start("agent") { try await agent.run() }
        let front = RoleGroup()
        front.start("api") { try await api.run() }
        let groups = [front, host, control]
        do {
            try await waitUntilServing(agent, host, database, hostName, since: start)
            let endpoints = Endpoints(
                api: settings.url(of: "api"), conductor: conductorURL, scheduler: settings.url(of: "scheduler"),
                agent: settings.url(of: "agent"))
            try endpoints.write(to: settings.statePath)
            Self.log.notice("serving", ["api": endpoints.api, "host": hostName])
            say("apus up serves: the API is at \(endpoints.api). Load the login with: . \(settings.statePath)/openrc")
            Detached.announceReady()
            try await RoleGroup.firstEnd(of: groups)
        } catch {
            for group in groups { await group.stop() }
            throw error
        }
        for group in groups { await group.stop() }
    }

    /// Lets this machine's agent in, by the same exchange as any other host's.
    private func join(_ host: HostName, database: ControlDatabase, conductorURL: String) async throws {
        guard let listen = settings.listens.first(where: { $0.role == "agent" }) else { return }
        let identity = try AgentIdentity.load(statePath: settings.statePath)
        let known = try await database.credentials.host(host)
        if identity?.host == host, known?.url == listen.url, known?.revokedAt == nil { return }
        let secret = Hex.encode(randomBytes(24))
        let now = database.now()
        let authority = ControlPlaneAuthority(settings: database.settings, now: database.now)
        let isSecure = conductorURL.hasPrefix("https:")
        let token = isSecure ? "\(secret).\(try await authority.fingerprint() ?? "")" : secret
        try await database.credentials.enroll(
            host, tokenHash: digest(.sha256, of: Array(secret.utf8)), expiresAt: now + .seconds(900), now: now)
        try await joinHost(
            url: conductorURL, token: token, host: host, address: listen.address.address, port: listen.address.port,
            statePath: settings.statePath, allowPlaintext: configuration[RPCOptions.allowPlaintext])
    }

    /// Waits until the agent takes commands, and its first report and heartbeat have arrived: before that the scheduler
    /// finds no host.
    private func waitUntilServing(
        _ agent: Agent, _ group: RoleGroup, _ database: ControlDatabase, _ host: HostName, since start: Timestamp
    ) async throws {
        guard await agent.ready() else {
            try await RoleGroup.firstEnd(of: [group])
            return
        }
        _ = try await poll(for: .seconds(30), what: "The agent's first report") { () -> Bool? in
            guard let record = try await database.hosts.find(host), record.updatedAt >= start else { return nil }
            let services = try await database.services.list()
            let isAlive = services.contains {
                $0.host == host && $0.binary == "nova-compute" && ($0.lastSeenAt ?? .init(microseconds: 0)) >= start
            }
            return isAlive ? true : nil
        }
    }
}
