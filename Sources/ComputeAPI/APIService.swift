public import Configuration
internal import Crypto
public import Database
internal import HTTP
public import Identity
internal import Images
public import Model
internal import RPC
internal import Telemetry

/// The public API as a service: its port, its images, its link to the conductor.
public final class APIService: Sendable {
    /// Every option that the service reads.
    public static let options: [AnyOption] =
        APIOptions.all + ImageOptions.all + IdentityOptions.all + DatabaseOptions.all + RPCOptions.all

    /// Users and tokens; whoever starts a new installation calls `bootstrap` on it.
    public let identity: IdentityService
    private let conductor: ConductorLink
    private let server: HTTPServer
    private let connections: HTTPClient
    private let log = Logger("api")

    /// Wires the API, clears up after uploads that ended with an earlier process, and binds the port.
    ///
    /// - Parameter hostName: the control host's name; one API process a host.
    /// - Throws: `HTTPServerError` when the port is taken, `SQLError` when the database cannot be used, `Failure` when
    ///   the configuration would send credentials in plaintext beyond loopback.
    public init(
        configuration: Configuration, database: ControlDatabase, hostName: HostName,
        now: @escaping @Sendable () -> Timestamp
    ) async throws {
        try RPCOptions.checkConfidentiality(of: configuration[APIOptions.conductorURLs], configuration, log)
        let authority = ControlPlaneAuthority(settings: database.settings, now: now)
        let listen = try ListenAddress(configuration[APIOptions.listen])
        let isPlaintextAllowed = configuration[RPCOptions.allowPlaintext]
        let tls = try await ServerIdentity.tls(
            for: listen, advertised: configuration[APIOptions.advertisedURL], hostName: hostName,
            authority: authority, isPlaintextAllowed: isPlaintextAllowed)
        connections = HTTPClient(tls: ClientTLS(caPEM: try await authority.certificate()))
        let credential = try await ServiceCredentials(
            credentials: database.credentials, role: "api", host: hostName.rawValue, now: now
        ).mint(toward: "conductor")
        conductor = ConductorLink(
            RPCClient(
                http: connections,
                peers: configuration[APIOptions.conductorURLs].map { PeerAddress(url: $0, credential: credential) },
                isPlaintextAllowed: isPlaintextAllowed))
        identity = IdentityService(
            storage: database.identity, tokenLifetime: configuration[IdentityOptions.tokenExpiration], now: now)
        let secret = try await database.settings.establish([ImageTicketAuthority.settingName: randomBytes(32)])
        let images = ImageService(
            storage: database.images,
            store: ImageStore(
                path: ImageOptions.path(configuration), sizeLimit: ImageOptions.sizeLimit(configuration),
                executor: BlockingExecutor(name: "image-files", threads: 4)),
            tickets: ImageTicketAuthority(secret: secret[ImageTicketAuthority.settingName] ?? []),
            transferTimeout: configuration[ImageOptions.transferTimeout], now: now)
        try await images.recover()
        var settings = APISettings(
            configuration, serviceDownTime: configuration[DatabaseOptions.serviceDownTime],
            availabilityZone: configuration[APIOptions.availabilityZone],
            reclaimInterval: configuration[DatabaseOptions.reclaimInterval])
        settings.auditPeriod = DatabaseOptions.usageAudit(configuration)
        let application = APIApplication(
            database: database, identity: identity, images: images, imageStorage: database.images,
            conductor: conductor, settings: settings,
            region: configuration[IdentityOptions.region], executor: BlockingExecutor(name: "api", threads: 2), now: now
        )
        server = HTTPServer(
            ServerConfiguration(name: "api", address: listen.address, port: listen.port, tls: tls),
            router: application.router)
        try server.start()
    }

    /// The port that is bound: the configured one, or the one that was given for 0.
    public var port: UInt16 { server.port }

    /// Works until it is cancelled; then refuses new requests, finishes what has begun, and returns.
    public func run() async throws {
        log.info("api listens", ["port": Int(port)])
        await withTaskGroup { group in
            group.addTask { await self.conductor.run() }
            group.addTask { await self.trimTokens() }
            await group.waitForAll()
        }
        await server.stop(grace: .seconds(10))
        await connections.shutdown()
    }

    private func trimTokens() async {
        while !Task.isCancelled {
            do {
                let removed = try await identity.trimExpiredTokens()
                log.debug("expired tokens removed", ["count": removed])
            } catch {
                log.warning("expired tokens cannot be removed", ["error": String(describing: error)])
            }
            do { try await AlarmClock().sleep(for: .seconds(600)) } catch { return }
        }
    }
}
