internal import Glibc
internal import HTTP
internal import Model
internal import RPC
internal import Synchronization
internal import Telemetry

/// The other host of a live migration, over HTTP.
struct AgentLivePeer: LivePeer {
    private let link: MoveLink
    private let migration: MigrationID
    private let instance: InstanceID
    /// Threads of the channels' connections.
    private let executor: BlockingExecutor
    private static let log = Logger("agent.live")

    init(
        _ peer: MoveSource, _ migration: MigrationID, _ instance: InstanceID, host: HostName, http: HTTPClient,
        executor: BlockingExecutor, allowsPlaintext: Bool
    ) {
        link = MoveLink(
            source: peer, root: "/live/\(migration)/\(instance)", host: host, http: http,
            allowsPlaintext: allowsPlaintext)
        (self.migration, self.instance, self.executor) = (migration, instance, executor)
    }

    func offer() async throws -> LiveOffer {
        try link.decode(LiveOffer.self, try await link.ask("offer", limit: 4 << 20).body)
    }

    func files(of offer: LiveOffer) -> any MovedFiles { OfferedFiles(link: link, offered: offer.files) }

    func answer() async throws -> LiveAnswer {
        try link.decode(LiveAnswer.self, try await link.ask("answer", limit: 4 << 20).body)
    }

    func go() async throws { _ = try await link.ask("go", method: .post) }

    func hasArrived() async throws -> Bool {
        try link.decode(LiveStanding.self, try await link.ask("standing").body).hasArrived
    }

    func listen(_ plan: LivePlan, while body: @Sendable () async throws -> Void) async throws {
        let executor = executor
        guard let port = plan.answer.port, let end = link.source.url.lastIndex(of: ":") else {
            throw Failure(.invalidParameters, "host \(link.source.host) does not say where it takes the guest in")
        }
        let server = "\(link.source.url[..<end]):\(port)"
        let under = Tunnels()
        var listeners: [(LiveChannel, TunnelListener)] = []
        do throws(TunnelError) {
            for (channel, path) in plan.sockets.paths {
                let owner = channel == .control ? nil : plan.sockets.owner
                listeners.append((channel, try TunnelListener(path: path, owner: owner)))
            }
        } catch {
            throw Failure(.storage, error.description)
        }
        try await withThrowingTaskGroup { group in
            for (channel, listener) in listeners {
                group.addTask {
                    await executor.run {
                        listener.run { socket in
                            let local = LocalSocket(socket)
                            Task { await carry(local, channel, server, under) }
                        }
                    }
                }
            }
            let result: Result<Void, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            for (_, listener) in listeners { listener.end() }
            under.endAll()
            try await group.waitForAll()
            try result.get()
        }
    }

    /// Opens a connection of its own to the other host, for as long as the local one lives.
    private func carry(_ local: LocalSocket, _ channel: LiveChannel, _ server: String, _ under: Tunnels) async {
        do {
            let line = LiveDoor.line(channel, migration, instance, from: link.host, ticket: link.source.ticket)
            let answer: TunnelAnswer
            do {
                answer = try await link.http.tunnel(to: server, line)
            } catch {
                throw error.failure
            }
            switch answer {
            case .refused(let reason): throw Failure(.unreachable, "host \(link.source.host): \(reason)")
            case .open(let tunnel):
                guard under.admit(tunnel) else { return tunnel.breakOff() }
                defer { under.ended(tunnel) }
                let begin = ContinuousClock.now
                try await executor.run { () throws(TunnelError) in try tunnel.carry(local.descriptor) }
                let (sent, received) = tunnel.bytesCarried
                Self.log.info(
                    "a channel of a live migration has ended",
                    [
                        "channel": channel.rawValue, "instance": instance, "host": link.source.host, "sent": sent,
                        "received": received, "seconds": begin.duration(to: .now).inSeconds,
                    ])
            }
        } catch {
            Self.log.notice(
                "a channel of a live migration broke", ["channel": channel.rawValue, "error": LoggedError(error)])
        }
    }

    /// The connections that are under way.
    private final class Tunnels: Sendable {
        private struct State {
            var isOver = false
            var open: [ObjectIdentifier: ByteTunnel] = [:]
        }

        private let state = Mutex(State())

        func admit(_ tunnel: ByteTunnel) -> Bool {
            state.withLock { state in
                guard !state.isOver else { return false }
                state.open[ObjectIdentifier(tunnel)] = tunnel
                return true
            }
        }

        func ended(_ tunnel: ByteTunnel) {
            state.withLock { _ = $0.open.removeValue(forKey: ObjectIdentifier(tunnel)) }
        }

        func endAll() {
            let open = state.withLock { state in
                state.isOver = true
                return Array(state.open.values)
            }
            for tunnel in open { tunnel.breakOff() }
        }
    }
}

/// The files that an offer names, whole.
private struct OfferedFiles: MovedFiles {
    let link: MoveLink
    let offered: [MovedFile]

    func list() async throws -> [MovedFile] { offered }

    func extents(of name: String, from offset: Int64) async throws -> [DataExtent] {
        guard let file = offered.first(where: { $0.name == name }), file.sizeBytes > offset else { return [] }
        return [DataExtent(offset: offset, length: file.sizeBytes - offset)]
    }

    func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8] {
        try await link.read(name, at: offset, count: count)
    }
}
