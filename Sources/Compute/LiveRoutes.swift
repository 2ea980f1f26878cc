internal import FoundationEssentials
internal import Glibc
internal import HTTP
internal import Model
internal import RPC
internal import Telemetry

/// What agents say to each other in a live migration. At the source: the guest's offer, and files that go with it. At the
/// destination: what it is ready for, the word that the guest may go on, and whether it is there. All over TLS with a
/// certificate of this cloud on both sides, with a ticket that the conductor made for this one migration, and all but the
/// last only while this host has it open.
struct LiveRoutes: Sendable {
    let host: HostName
    let conductorSecretHash: String
    let driver: any VirtDriver
    let gates: LiveGates
    /// The journal's word of a guest that this host has.
    let guest: @Sendable (InstanceID) async throws -> GuestRecord?
    private let log = Logger("agent.live")

    init(
        host: HostName, conductorSecretHash: String, driver: any VirtDriver, gates: LiveGates,
        guest: @escaping @Sendable (InstanceID) async throws -> GuestRecord?
    ) {
        (self.host, self.conductorSecretHash, self.driver, self.gates) = (host, conductorSecretHash, driver, gates)
        self.guest = guest
    }

    func mount(on router: inout Router) {
        let routes = self
        router.on(.get, "/live/{migration}/{instance}/offer") { request in
            try await routes.answer(request) { move in
                try routes.requireOffered(move)
                guard let guest = try await routes.guest(move.instance) else { throw Self.nothing(move) }
                let offer = try await routes.driver.offerGuest(guest.specification, for: move.migration)
                return .json(200, Array(try JSONEncoder().encode(offer)))
            }
        }
        router.on(.get, "/live/{migration}/{instance}/data/{file}") { request in
            try await routes.answer(request) { move in
                try routes.requireOffered(move)
                return try await MovePiece(request).answer { file, offset, count in
                    try await routes.driver.readOffered(move.instance, file: file, at: offset, count: count)
                }
            }
        }
        router.on(.get, "/live/{migration}/{instance}/answer") { request in
            try await routes.answer(request) { move in
                guard let answer = routes.gates.answer(move.instance, of: move.migration) else {
                    throw Self.nothing(move)
                }
                return .json(200, Array(try JSONEncoder().encode(answer)))
            }
        }
        router.on(.get, "/live/{migration}/{instance}/standing") { request in
            try await routes.answer(request) { try await routes.standing($0) }
        }
        router.on(.post, "/live/{migration}/{instance}/go") { request in
            try await routes.answer(request) { move in
                guard routes.gates.answer(move.instance, of: move.migration) != nil else { throw Self.nothing(move) }
                try await routes.driver.goOn(move.instance)
                return HTTPResponse(204)
            }
        }
    }

    /// Whether a guest is here for good. Whoever shows the ticket of its migration may know it, also when the end at which it
    /// came in is closed: a source that has lost sight of it has nobody else to ask.
    private func standing(_ move: TicketedMove) async throws -> HTTPResponse {
        let standing = LiveStanding(hasArrived: try await driver.hasArrived(move.instance))
        return .json(200, Array(try JSONEncoder().encode(standing)))
    }

    private func requireOffered(_ move: TicketedMove) throws(Failure) {
        guard gates.isOffered(move.instance, for: move.migration) else { throw Self.nothing(move) }
    }

    private static func nothing(_ move: TicketedMove) -> Failure {
        Failure(.notFound, "nothing is open here for migration \(move.migration)")
    }

    private func answer(
        _ request: HTTPRequest, _ body: (TicketedMove) async throws -> HTTPResponse
    ) async throws -> HTTPResponse {
        try await TicketedMove.answer(request, conductorSecretHash: conductorSecretHash, log) { try await body($0) }
    }
}

/// What a destination says of the guest that is to come.
struct LiveStanding: Sendable, Hashable, Codable {
    var hasArrived: Bool
}

/// A socket that is closed when nobody has it any more.
final class LocalSocket: Sendable {
    let descriptor: Int32

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }
}
