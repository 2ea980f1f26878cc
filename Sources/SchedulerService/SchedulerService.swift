public import Configuration
public import Database
internal import HTTP
public import Model
internal import RPC
internal import Scheduling
internal import Telemetry

/// The scheduler as a service: answers `scheduler.select_destinations` over the hosts that the database knows.
public final class SchedulerService: Sendable {
    /// Rises with each release; reported with the heartbeat.
    public static let version = 1

    private let hostName: HostName
    private let server: HTTPServer
    private let conductor: RPCClient
    private let connections: HTTPClient
    let table: HostTable
    private let attestation: Attestation?
    private let log = Logger("scheduler")

    /// Wires the scheduler and binds its port. Throws like `ConductorService`.
    ///
    /// - Parameter hostName: the control host's name; one scheduler a host.
    public init(
        configuration: Configuration, database: ControlDatabase, hostName: HostName,
        now: @escaping @Sendable () -> Timestamp
    ) async throws {
        self.hostName = hostName
        try RPCOptions.checkConfidentiality(of: configuration[SchedulerOptions.conductorURLs], configuration, log)
        let authority = ControlPlaneAuthority(settings: database.settings, now: now)
        let listen = try ListenAddress(configuration[SchedulerOptions.listen])
        let tls = try await ServerIdentity.tls(
            for: listen, advertised: configuration[SchedulerOptions.advertisedURL], hostName: hostName,
            authority: authority, isPlaintextAllowed: configuration[RPCOptions.allowPlaintext])
        let options = configuration.schedulingOptions()
        attestation = try Attestation(configuration)
        let table = HostTable(
            database: database,
            downAfter: configuration[DatabaseOptions.serviceDownTime],
            zone: configuration[SchedulerOptions.defaultAvailabilityZone],
            scheduler: try Self.scheduler(options), options: options, now: now)
        self.table = table
        try await PublishedOptions(settings: database.settings).publish(configuration.decidingOptions())
        let rpc = RPCServer(
            name: "scheduler",
            verifier: DatabasePeerVerifier(credentials: database.credentials, receiver: "scheduler"),
            idempotency: MemoryIdempotencyStore(), now: now)
        rpc.register(SelectDestinations.self, allowed: [.conductor]) { params, _ in
            guard (1...1_000).contains(params.request.instances.count), params.request.alternates >= 0 else {
                throw Failure(.invalidParameters, "a request names 1 to 1000 instances and no fewer than 0 alternates")
            }
            switch try await table.select(params.request) {
            case .placed(let selections): return .init(selections: selections, refusal: nil)
            case .refused(let refusal): return .init(selections: [], refusal: refusal)
            }
        }
        rpc.register(CheckRebuild.self, allowed: [.conductor]) { params, _ in
            .init(refusal: try await table.check(params.request, on: params.host))
        }
        var router = Router()
        rpc.mount(on: &router)
        let clientTLS = ClientTLS(caPEM: try await authority.establish())
        connections = HTTPClient(tls: clientTLS)
        let credential = try await ServiceCredentials(
            credentials: database.credentials, role: "scheduler", host: hostName.rawValue, now: now
        ).mint(toward: "conductor")
        conductor = RPCClient(
            http: connections,
            peers: configuration[SchedulerOptions.conductorURLs].map {
                PeerAddress(url: $0, credential: credential)
            }, isPlaintextAllowed: configuration[RPCOptions.allowPlaintext])
        server = HTTPServer(
            ServerConfiguration(name: "scheduler", address: listen.address, port: listen.port, tls: tls),
            router: router)
        try server.start()
    }

    private static func scheduler(_ options: SchedulingOptions) throws(Failure) -> FilterScheduler {
        do throws(UnknownFilter) {
            return try FilterScheduler(options)
        } catch {
            throw Failure(.invalidParameters, "[filter_scheduler] enabled_filters: \(error)")
        }
    }

    /// The port that is bound.
    public var port: UInt16 { server.port }

    /// Works until it is cancelled.
    public func run() async throws {
        log.info("scheduler listens", ["port": Int(port)])
        async let _: Void? = attestation?.run(table)
        async let _: Void = table.warm()
        var sequence: Int64 = 0
        var isHeard = true
        while !Task.isCancelled {
            sequence += 1
            do {
                _ = try await conductor.call(
                    Heartbeat.self,
                    .init(
                        host: hostName, binary: "nova-scheduler", version: Self.version, sequence: sequence))
                if !isHeard { log.notice("the conductor answers again") }
                isHeard = true
            } catch {
                if isHeard, !Task.isCancelled {
                    log.warning("heartbeats do not reach a conductor", ["error": "\(error)"])
                }
                isHeard = false
            }
            do { try await AlarmClock().sleep(for: isHeard ? .seconds(10) : .seconds(1)) } catch { break }
        }
        await server.stop(grace: .seconds(5))
        await connections.shutdown()
    }
}
