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
                    move.instance, of: move.migration, file: file, from: try MovePiece.number("from", request))
                return .json(200, Array(try JSONEncoder().encode(extents)))
            }
        }
        router.on(.get, "/moves/{migration}/{instance}/data/{file}") { request in
            try await routes.answer(request) { move, _ in
                try await MovePiece(request).answer { file, offset, count in
                    let bytes = try await routes.driver.readSetAside(
                        move.instance, of: move.migration, file: file, at: offset, count: count)
                    routes.sent.increment(by: bytes.count)
                    return bytes
                }
            }
        }
    }

    private func answer(
        _ request: HTTPRequest, _ body: (TicketedMove, _ file: String) async throws -> HTTPResponse
    ) async throws -> HTTPResponse {
        try await TicketedMove.answer(request, conductorSecretHash: conductorSecretHash, log) {
            try await body($0, request.parameters["file"] ?? "")
        }
    }
}

/// A piece of a file that another host asks for.
struct MovePiece: Sendable {
    let file: String
    let offset: Int64
    let count: Int

    init(_ request: HTTPRequest) throws(Failure) {
        let count = try Self.number("count", request)
        guard (1...Int64(MoveRoutes.pieceLimit)).contains(count) else {
            throw Failure(.invalidParameters, "count: 1 to \(MoveRoutes.pieceLimit)")
        }
        (file, offset, self.count) = (request.parameters["file"] ?? "", try Self.number("offset", request), Int(count))
    }

    func answer(_ read: (String, Int64, Int) async throws -> [UInt8]) async throws -> HTTPResponse {
        let bytes = try await read(file, offset, count)
        return HTTPResponse(
            200,
            headers: [
                "Content-Type": "application/octet-stream",
                // What TLS cannot see: whether memory and disk on either side kept what they were given.
                "X-Apus-SHA256": Hex.encode(digest(.sha256, of: bytes)),
            ], body: .bytes(bytes))
    }

    static func number(_ name: String, _ request: HTTPRequest) throws(Failure) -> Int64 {
        guard let text = request.query[name], let number = Int64(text), number >= 0 else {
            throw Failure(.invalidParameters, "\(name): a number from 0 on")
        }
        return number
    }
}

/// The migration that a request of another host is about, which has shown its right to it.
struct TicketedMove: Sendable {
    var migration: MigrationID
    var instance: InstanceID

    /// Answers a request that shows a ticket for what its path names, and a certificate of this cloud.
    static func answer(
        _ request: HTTPRequest, conductorSecretHash: String, _ log: Logger,
        _ body: (TicketedMove) async throws -> HTTPResponse
    ) async throws -> HTTPResponse {
        do {
            return try await body(try allowed(request, conductorSecretHash, log))
        } catch let failure as Failure {
            if failure.kind != .unauthenticated {
                log.notice("another host's request in a move is refused", ["path": request.path, "failure": failure])
            }
            return .json(failure.kind.status, Array(try JSONEncoder().encode(failure)))
        }
    }

    private static func allowed(
        _ request: HTTPRequest, _ conductorSecretHash: String, _ log: Logger
    ) throws(Failure) -> TicketedMove {
        let move = TicketedMove(
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
                "a ticket for a move is not good",
                ["from": request.remoteAddress, "migration": move.migration.rawValue])
            throw Failure(.unauthenticated, "the ticket is not good for this migration")
        }
        guard !request.isTLS || request.isClientVerified else {
            throw Failure(.unauthenticated, "a certificate of this cloud is wanted")
        }
        return move
    }
}

/// Asks another host's agent for what belongs to a move.
struct MoveLink: Sendable {
    /// The other host.
    let source: MoveSource
    /// What all paths begin with.
    let root: String
    /// This host.
    let host: HostName
    let http: HTTPClient
    let allowsPlaintext: Bool

    func request(
        _ path: String, method: HTTPMethod = .get, timeout: Duration = .seconds(60), limit: Int = 1 << 20
    ) throws(Failure) -> ClientRequest {
        guard source.url.hasPrefix("https://") || allowsPlaintext || isLoopbackURL(source.url) else {
            throw Failure(.forbidden, "host \(source.host) offers disks in plaintext beyond this machine")
        }
        return ClientRequest(
            method: method, url: "\(source.url)\(root)/\(path)",
            headers: ["X-Apus-Ticket": source.ticket, "X-Apus-Host": host.rawValue],
            timeout: timeout, responseLimit: limit)
    }

    /// The answer to a request that succeeds.
    func ask(
        _ path: String, method: HTTPMethod = .get, timeout: Duration = .seconds(60), limit: Int = 1 << 20
    ) async throws(Failure) -> ClientResponse {
        let answer: ClientResponse
        let request = try request(path, method: method, timeout: timeout, limit: limit)
        do {
            answer = try await http.send(request)
        } catch {
            throw error.failure
        }
        guard !(200...299).contains(answer.status) else { return answer }
        throw failure(of: answer)
    }

    /// What the other host has said.
    func failure(of answer: ClientResponse) -> Failure {
        let told = try? decode(Failure.self, answer.body)
        var failure =
            told ?? Failure(.unreachable, "host \(source.host) answered \(answer.status)", isRetriable: true)
        if answer.status >= 500 { failure.isRetriable = true }
        return failure
    }

    func decode<T: Decodable>(_ type: T.Type, _ bytes: [UInt8]) throws(Failure) -> T {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw Failure(.unreachable, "host \(source.host) answers what cannot be read: \(error)", isRetriable: true)
        }
    }

    /// Just `count` bytes of a file.
    func read(_ name: String, at offset: Int64, count: Int) async throws(Failure) -> [UInt8] {
        let answer = try await ask(
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
}

/// Fetches from another host's agent what that has set aside.
struct AgentMovedFiles: MovedFiles {
    let link: MoveLink

    init(
        source: MoveSource, migration: MigrationID, instance: InstanceID, host: HostName, http: HTTPClient,
        allowsPlaintext: Bool
    ) {
        link = MoveLink(
            source: source, root: "/moves/\(migration)/\(instance)", host: host, http: http,
            allowsPlaintext: allowsPlaintext)
    }

    func list() async throws -> [MovedFile] { try link.decode([MovedFile].self, try await link.ask("files").body) }

    func extents(of name: String, from offset: Int64) async throws -> [DataExtent] {
        try link.decode(
            [DataExtent].self,
            try await link.ask("extents/\(PercentEncoding.encodePath(name))?from=\(offset)").body)
    }

    func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8] {
        try await link.read(name, at: offset, count: count)
    }
}
