internal import HTTP
internal import Model
internal import RPC
internal import Synchronization
internal import Telemetry

/// What this host has opened to others for live migrations that are under way: its guests' offers, and the ends at which
/// guests come in. Each is for one migration, and goes with the process: what it was opened for then fails, and is settled
/// by the conductor.
final class LiveGates: Sendable {
    private struct Gate {
        var migration: MigrationID
        var answer: LiveAnswer
        var server: TunnelServer
    }

    private struct Offer {
        var migration: MigrationID
        var expires: ContinuousClock.Instant
    }

    private struct State {
        var offers: [InstanceID: Offer] = [:]
        var gates: [InstanceID: Gate] = [:]
    }

    /// How long a guest stays offered that nobody sends: a destination may fetch its image meanwhile.
    private static let offerLimit = Duration.seconds(3 * 3_600)

    private let state = Mutex(State())

    /// Lets the destination ask about the guest.
    func offer(_ id: InstanceID, for migration: MigrationID) {
        state.withLock { $0.offers[id] = Offer(migration: migration, expires: .now + Self.offerLimit) }
    }

    func withdraw(_ id: InstanceID, of migration: MigrationID) {
        state.withLock { state in
            if state.offers[id]?.migration == migration { state.offers[id] = nil }
        }
    }

    func isOffered(_ id: InstanceID, for migration: MigrationID) -> Bool {
        state.withLock { state in
            guard let offer = state.offers[id] else { return false }
            if offer.expires < .now { state.offers[id] = nil }
            return offer.migration == migration && offer.expires >= .now
        }
    }

    /// Lets the guest come in; what was open for it before is closed.
    func open(_ id: InstanceID, for migration: MigrationID, _ answer: LiveAnswer, _ server: TunnelServer) {
        let former = state.withLock { state in
            defer { state.gates[id] = Gate(migration: migration, answer: answer, server: server) }
            return state.gates[id]
        }
        former?.server.end()
    }

    /// Nothing comes in any more, and what does is broken off.
    func close(_ id: InstanceID, of migration: MigrationID) {
        let former = state.withLock { state -> Gate? in
            guard state.gates[id]?.migration == migration else { return nil }
            return state.gates.removeValue(forKey: id)
        }
        former?.server.end()
    }

    /// Closes all that is open for the instance, of whatever migrations, which are given.
    func forget(_ id: InstanceID) -> [MigrationID] {
        let (offer, gate) = state.withLock { state in
            (state.offers.removeValue(forKey: id), state.gates.removeValue(forKey: id))
        }
        gate?.server.end()
        return [offer?.migration, gate?.migration].compactMap(\.self)
    }

    /// Everything ends.
    func closeAll() {
        let gates = state.withLock { state in
            defer { state = State() }
            return Array(state.gates.values)
        }
        for gate in gates { gate.server.end() }
    }

    /// What was answered; `nil` where the guest is not awaited by this migration.
    func answer(_ id: InstanceID, of migration: MigrationID) -> LiveAnswer? {
        state.withLock { state in
            guard let gate = state.gates[id], gate.migration == migration else { return nil }
            return gate.answer
        }
    }
}

/// Opens a destination's end: a port of its own for each migration, at which the source's agent, with the conductor's ticket,
/// reaches the three sockets of this guest's coming, and nothing else.
struct LiveDoor: Sendable {
    /// Begins a request for a channel.
    static let greeting = "apus-channel/1"

    let address: String
    let ports: ClosedRange<UInt16>
    let tls: ServerTLS?
    let host: HostName
    let conductorSecretHash: String
    let driver: any VirtDriver
    let gates: LiveGates

    /// - Returns: the answer with the port.
    func open(_ id: InstanceID, for migration: MigrationID, _ answer: LiveAnswer) throws(Failure) -> LiveAnswer {
        let server: TunnelServer
        do throws(HTTPServerError) {
            server = try TunnelServer(address: address, ports: ports, tls: tls)
        } catch {
            throw Failure(.overloaded, "no port for the migration \(migration): \(error)", isRetriable: true)
        }
        var answer = answer
        answer.port = server.port
        gates.open(id, for: migration, answer, server)
        let door = self
        Task { await server.run { line in try await door.socket(line, id, migration) } }
        return answer
    }

    static func line(
        _ channel: LiveChannel, _ migration: MigrationID, _ instance: InstanceID, from host: HostName, ticket: String
    ) -> String {
        "\(greeting) \(migration) \(instance) \(channel.rawValue) \(host) \(ticket)"
    }

    /// The local end of what a client wants.
    private func socket(_ line: String, _ id: InstanceID, _ migration: MigrationID) async throws -> Int32 {
        let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard words.count == 6, words[0] == Self.greeting, let channel = LiveChannel(rawValue: words[3]) else {
            throw Failure(.invalidParameters, "the request for a channel cannot be read")
        }
        guard words[1] == migration.rawValue, words[2] == id.rawValue,
            MoveTicket.isGood(
                words[5], conductorSecretHash: conductorSecretHash, migration: migration, instance: id,
                destination: HostName(words[4]))
        else {
            Logger("agent.live").warning(
                "a ticket for a live migration is not good", ["migration": migration.rawValue])
            throw Failure(.unauthenticated, "the ticket is not good for this migration")
        }
        guard gates.answer(id, of: migration) != nil else {
            throw Failure(.notFound, "nothing is open here for migration \(migration)")
        }
        let path = try await driver.liveSocket(channel, of: migration)
        guard let socket = connectToUnixSocket(path) else {
            throw Failure(.unreachable, "nobody listens at \(path) on host \(host)")
        }
        return socket
    }
}
