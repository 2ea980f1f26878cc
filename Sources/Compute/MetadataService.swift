internal import Crypto
internal import HTTP
internal import Metadata
internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Synchronization
internal import Telemetry

/// Answers guests on 169.254.169.254, on each bridge of the host that has guests of ours.
///
/// Who asks is told by the bridge, which the packet came in by, and the MAC that the kernel's neighbour table has for the
/// sender's address: they must be those of one guest, and the address must be the one that it was given. Nothing that the
/// guest writes counts. Whoever is not proven gets 404.
struct MetadataService: Sendable {
    let host: HostName
    let driver: any VirtDriver
    let journal: Journal
    let client: RPCClient
    /// How long an answer of the conductor's is good for: `[api] metadata_cache_expiration`.
    let cacheLifetime: Duration
    let port: UInt16

    static let address = "169.254.169.254"
    /// How often the bridges are looked at.
    private static let lookInterval = Duration.seconds(15)

    private let cache: MetadataCache
    private let neighbours: @Sendable () throws -> Neighbours
    private let log = Logger("agent.metadata")
    private let answers = Metrics.shared.counter(
        "agent_metadata_requests_total", help: "Requests of guests, by answer.")

    init(
        host: HostName, driver: any VirtDriver, journal: Journal, client: RPCClient, cacheLifetime: Duration,
        port: UInt16 = 80, neighbours: @escaping @Sendable () throws -> Neighbours = Neighbours.read
    ) {
        self.neighbours = neighbours
        (self.host, self.driver, self.journal, self.client) = (host, driver, journal, client)
        (self.cacheLifetime, self.port) = (cacheLifetime, port)
        cache = MetadataCache(lifetime: cacheLifetime)
    }

    /// Serves until it is cancelled, and takes away then what it has added to the bridges.
    func run() async {
        var served: [String: HTTPServer] = [:]
        var complaints: [String: String] = [:]
        while !Task.isCancelled {
            do {
                let bridges = try await driver.guestBridges()
                for bridge in bridges where served[bridge] == nil {
                    do {
                        served[bridge] = try open(bridge)
                        complaints[bridge] = nil
                        log.notice("metadata is served", ["bridge": bridge, "address": Self.address])
                    } catch {
                        let text = "\(LoggedError(error).logText)"
                        if complaints[bridge] != text {
                            log.warning("no metadata on a bridge", ["bridge": bridge, "error": LoggedError(error)])
                        }
                        complaints[bridge] = text
                    }
                }
                for (bridge, server) in served where !bridges.contains(bridge) || !BridgeAddress(bridge).isThere {
                    await server.stop(grace: .zero)
                    served[bridge] = nil
                    if !bridges.contains(bridge) { leave(bridge) }
                }
            } catch {
                // The hypervisor is out of reach; who is served stays so.
                log.debug("the bridges are not known", ["error": LoggedError(error)])
            }
            do { try await AlarmClock().sleep(for: Self.lookInterval) } catch { break }
        }
        for (bridge, server) in served {
            await server.stop(grace: .seconds(1))
            leave(bridge)
        }
    }

    private func leave(_ bridge: String) {
        do {
            try BridgeAddress(bridge).remove()
        } catch {
            log.warning("the address stays on a bridge", ["bridge": bridge, "error": LoggedError(error)])
        }
    }

    private func open(_ bridge: String) throws -> HTTPServer {
        try BridgeAddress(bridge).add()
        var router = Router()
        router.notFound = { request in await answer(request, on: bridge) }
        var configuration = ServerConfiguration(
            name: "metadata", address: Self.address, port: port, maxConnections: 256, maxConnectionsPerAddress: 8,
            headerLimit: 8_192, bodyLimit: 1_024, idleTimeout: .seconds(10), requestTimeout: .seconds(15),
            maxConcurrentRequests: 64)
        configuration.device = bridge
        let server = HTTPServer(configuration, router: router)
        try server.start()
        return server
    }

    /// The answer to whatever a guest asks.
    func answer(_ request: HTTPRequest, on bridge: String) async -> HTTPResponse {
        let found: HTTPResponse
        do {
            found = try await respond(request, on: bridge)
        } catch {
            log.notice("metadata cannot be told", ["bridge": bridge, "error": LoggedError(error)])
            found = HTTPResponse(503, headers: ["Retry-After": "2"])
        }
        answers.increment(labels: [("status", String(found.status))])
        return found
    }

    private func respond(_ request: HTTPRequest, on bridge: String) async throws -> HTTPResponse {
        guard request.method == .get || request.method == .head else { return HTTPResponse(405) }
        guard let mac = try neighbours().mac(of: request.remoteAddress, on: bridge),
            let id = try await driver.guest(onBridge: bridge, macAddress: mac),
            let guest = try await journal.guest(id),
            guest.specification.interfaces.contains(where: {
                $0.macAddress == mac && ($0.ipv4Address ?? request.remoteAddress) == request.remoteAddress
            })
        else { return HTTPResponse(404) }
        let tree = try await tree(of: guest.specification)
        guard let found = tree.answer(at: request.path) else { return HTTPResponse(404) }
        return HTTPResponse(200, headers: ["Content-Type": found.contentType], body: .bytes(found.bytes))
    }

    private func tree(of guest: GuestSpecification) async throws -> MetadataTree {
        try await cache.tree(of: guest.instance.id) {
            var current = guest
            // What the user has changed since, and the user data, which the host does not keep.
            current.instance = try await client.call(
                GetHostInstance.self, .init(host: host, instance: guest.instance.id)
            ).instance
            let content = try MetadataContent(
                MetadataSubject(current), seed: randomBytes(512), settings: try await driver.metadataSettings())
            return try MetadataTree(content, keyName: current.instance.keyName)
        }
    }
}

/// The documents of guests for as long as they are good: guests ask for many, one after the other.
actor MetadataCache {
    /// More guests than that do not start at once.
    private static let limit = 512

    private let lifetime: Duration
    private var trees: [InstanceID: (tree: MetadataTree, until: ContinuousClock.Instant)] = [:]
    private var running: [InstanceID: Task<MetadataTree, any Error>] = [:]

    init(lifetime: Duration) { self.lifetime = lifetime }

    /// The instance's documents, made by `make` unless there are good ones. One makes them for all who ask at the time.
    func tree(
        of id: InstanceID, make: @escaping @Sendable () async throws -> MetadataTree
    ) async throws -> MetadataTree {
        if let known = trees[id], known.until > .now { return known.tree }
        if let running = running[id] { return try await running.value }
        let task = Task { try await make() }
        running[id] = task
        defer { running[id] = nil }
        let made = try await task.value
        if trees.count >= Self.limit { trees = trees.filter { $0.value.until > .now } }
        if trees.count < Self.limit { trees[id] = (made, .now + lifetime) }
        return made
    }
}
