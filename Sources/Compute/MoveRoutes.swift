internal import Crypto
internal import FoundationEssentials
internal import HTTP
internal import Model
internal import RPC
internal import Telemetry

/// Opens the disks that this host has set aside to the hosts that may take them over: over TLS with a certificate of this
/// cloud on both sides, and with a ticket that the conductor made for this one migration.
struct MoveRoutes: Sendable {
    /// The largest piece of a file in one answer, in bytes.
    static let pieceLimit = 4 << 20

    let host: HostName
    let conductorSecretHash: String
    let driver: any VirtDriver
    private let log = Logger("agent.moves")
    private let sent = Metrics.shared.counter("agent_moved_bytes_total", help: "Bytes of disks given to other hosts.")

    init(host: HostName, conductorSecretHash: String, driver: any VirtDriver) {
        (self.host, self.conductorSecretHash, self.driver) = (host, conductorSecretHash, driver)
    }

    func mount(on router: inout Router) {
        let routes = self
        router.on(.get, "/moves/{migration}/{instance}/files") { request in
            try await routes.answer(request) { move, _ in
                let files = try await routes.driver.setAsideFiles(move.instance, of: move.migration)
                return .json(200, Array(try JSONEncoder().encode(files)))
            }
        }
        router.on(.get, "/moves/{migration}/{instance}/extents/{file}") { request in
            try await routes.answer(request) { move, file in
                let extents = try await routes.driver.setAsideExtents(
                    move.instance, of: move.migration, file: file, from: try Self.number("from", request))
                return .json(200, Array(try JSONEncoder().encode(extents)))
            }
        }
        router.on(.get, "/moves/{migration}/{instance}/data/{file}") { request in
            try await routes.answer(request) { move, file in
                let count = try Self.number("count", request)
                guard (1...Int64(Self.pieceLimit)).contains(count) else {
                    throw Failure(.invalidParameters, "count: 1 to \(Self.pieceLimit)")
                }
                let bytes = try await routes.driver.readSetAside(
                    move.instance, of: move.migration, file: file, at: try Self.number("offset", request),
                    count: Int(count))
                routes.sent.increment(by: bytes.count)
                return HTTPResponse(
                    200,
                    headers: [
                        "Content-Type": "application/octet-stream",
                        // What TLS cannot see: whether memory and disk on either side kept what they were given.
                        "X-Apus-SHA256": Hex.encode(digest(.sha256, of: bytes)),
                    ], body: .bytes(bytes))
            }
        }
    }

    private struct Move {
        var migration: MigrationID
        var instance: InstanceID
    }

    private func answer(
        _ request: HTTPRequest, _ body: (Move, _ file: String) async throws -> HTTPResponse
    ) async throws -> HTTPResponse {
        do {
            let move = try allowed(request)
            return try await body(move, request.parameters["file"] ?? "")
        } catch let failure as Failure {
            if failure.kind != .unauthenticated {
                log.notice("a piece of a disk cannot be given", ["failure": failure])
            }
            return .json(failure.kind.status, Array(try JSONEncoder().encode(failure)))
        }
    }

    private func allowed(_ request: HTTPRequest) throws(Failure) -> Move {
        let move = Move(
            migration: MigrationID(request.parameters["migration"] ?? ""),
            instance: InstanceID(request.parameters["instance"] ?? ""))
        let ticket = request.headers["X-Apus-Ticket"] ?? ""
        let peer = HostName(request.headers["X-Apus-Host"] ?? "")
        guard
            MoveTicket.isGood(
                ticket, conductorSecretHash: conductorSecretHash, migration: move.migration, instance: move.instance,
                destination: peer)
        else {
            log.warning(
                "a ticket for disks is not good", ["from": request.remoteAddress, "migration": move.migration.rawValue])
            throw Failure(.unauthenticated, "the ticket is not good for this migration")
        }
        guard !request.isTLS || request.isClientVerified else {
            throw Failure(.unauthenticated, "a certificate of this cloud is wanted")
        }
        return move
    }

    private static func number(_ name: String, _ request: HTTPRequest) throws(Failure) -> Int64 {
        guard let text = request.query[name], let number = Int64(text), number >= 0 else {
            throw Failure(.invalidParameters, "\(name): a number from 0 on")
        }
        return number
    }
}

/// Fetches from another host's agent what that has set aside.
struct AgentMovedFiles: MovedFiles {
    let source: MoveSource
    let migration: MigrationID
    let instance: InstanceID
    /// Of this host.
    let host: HostName
    let http: HTTPClient
    let allowsPlaintext: Bool

    func list() async throws -> [MovedFile] {
        try decode([MovedFile].self, try await get("files", limit: 1 << 20).body)
    }

    func extents(of name: String, from offset: Int64) async throws -> [DataExtent] {
        let answer = try await get("extents/\(PercentEncoding.encodePath(name))?from=\(offset)", limit: 1 << 20)
        return try decode([DataExtent].self, answer.body)
    }

    func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8] {
        let answer = try await get(
            "data/\(PercentEncoding.encodePath(name))?offset=\(offset)&count=\(count)", limit: MoveRoutes.pieceLimit)
        guard answer.body.count == count else {
            throw Failure(
                .unreachable, "host \(source.host) gave \(answer.body.count) of \(count) bytes", isRetriable: true)
        }
        guard answer.headers["X-Apus-SHA256"] == Hex.encode(digest(.sha256, of: answer.body)) else {
            throw Failure(
                .storage, "a piece of \(name) from host \(source.host) is not what was sent", isRetriable: true)
        }
        return answer.body
    }

    private func get(_ path: String, limit: Int) async throws(Failure) -> ClientResponse {
        guard source.url.hasPrefix("https://") || allowsPlaintext || isLoopbackURL(source.url) else {
            throw Failure(.forbidden, "host \(source.host) offers disks in plaintext beyond this machine")
        }
        let answer: ClientResponse
        do {
            answer = try await http.send(
                ClientRequest(
                    url: "\(source.url)/moves/\(migration)/\(instance)/\(path)",
                    headers: ["X-Apus-Ticket": source.ticket, "X-Apus-Host": host.rawValue],
                    timeout: .seconds(60), responseLimit: limit))
        } catch {
            throw error.failure
        }
        guard answer.status != 200 else { return answer }
        let told = try? decode(Failure.self, answer.body)
        var failure =
            told ?? Failure(.unreachable, "host \(source.host) answered \(answer.status)", isRetriable: true)
        if answer.status >= 500 { failure.isRetriable = true }
        throw failure
    }
}
