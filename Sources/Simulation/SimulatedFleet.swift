internal import FoundationEssentials
internal import HTTP
public import Model
internal import RPC
internal import Scheduling
internal import Synchronization
public import Telemetry

/// Hosts without hypervisors, all in one process and on one port: they take commands, beat and report as agents do, and
/// build guests that are nothing but time. They tell by the secret that a conductor shows which of them it means.
public final class SimulatedFleet: Sendable {
    struct State {
        var hosts: [HostState]
        var counts = SimulationCounts()
        var generator: SeededGenerator
        /// When the last build was claimed.
        var lastClaim: Timestamp?
        /// Instances whose builds were reported since the last look.
        var built: [InstanceID] = []
    }

    /// What a host has to do besides beating.
    enum Work: Sendable {
        case operation(host: Int, TaskID)
        case report(host: Int)
    }

    let settings: SimulationSettings
    let now: Now
    let clock = AlarmClock()
    let state: Mutex<State>
    let clients: [RPCClient]
    // As many as conductors have commands under way, and a report for each.
    private let work = AsyncStream.makeStream(of: Work.self, bufferingPolicy: .unbounded)
    private let indices: [HostName: Int]
    let http = HTTPClient(maxConnectionsPerHost: 48)
    private let server: HTTPServer
    let log = Logger("simulation")

    /// Binds a port of loopback. `conductors` are URLs.
    public init(
        _ hosts: [SimulatedHost], conductors: [String], settings: SimulationSettings, now: @escaping Now = WallClock.now
    ) throws {
        (self.hosts, self.settings, self.now) = (hosts, settings, now)
        indices = Dictionary(uniqueKeysWithValues: hosts.enumerated().map { ($1.name, $0) })
        let http = http
        clients = hosts.map { host in
            RPCClient(
                http: http,
                peers: conductors.map {
                    PeerAddress(
                        url: $0, credential: PeerCredential(peer: "host:\(host.name)", secret: host.secret))
                })
        }
        state = Mutex(
            State(
                hosts: hosts.map { HostState($0, uuid: UUID().uuidString.lowercased()) },
                generator: SeededGenerator(seed: settings.seed)))
        let rpc = RPCServer(
            name: "compute", verifier: HostVerifier(hosts), idempotency: MemoryIdempotencyStore(limit: 100_000),
            now: now)
        var router = Router()
        rpc.mount(on: &router)
        server = HTTPServer(
            ServerConfiguration(name: "simulation", address: "127.0.0.1", port: 0), router: router)
        try server.start()
        register(on: rpc)
    }

    /// All of them.
    public let hosts: [SimulatedHost]

    /// Where all hosts are reached.
    public var url: String { "http://127.0.0.1:\(server.port)" }

    public var counts: SimulationCounts { state.withLock { $0.counts } }

    /// When the last of all builds was claimed; `nil` before the first.
    public var lastClaim: Timestamp? { state.withLock { $0.lastClaim } }

    /// The guests that each host has, and what it says that it uses.
    public func holdings() -> [HostName: (instances: Set<InstanceID>, used: Resources)] {
        state.withLock { state in
            Dictionary(uniqueKeysWithValues: state.hosts.map { ($0.host.name, (Set($0.guests.keys), $0.used)) })
        }
    }

    /// Whether every host has told all that has happened on it.
    public var isSettled: Bool {
        state.withLock { state in
            state.hosts.allSatisfy { host in
                !host.isDirty && !host.isReporting && host.operations.values.allSatisfy(\.isOver)
            }
        }
    }

    /// The instances whose builds were reported, and taken, since the last call.
    public func takeBuilt() -> [InstanceID] {
        state.withLock { state in
            defer { state.built = [] }
            return state.built
        }
    }

    /// Has every host say what it has; returns when conductors have taken all of it.
    public func introduce() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (started, index) in clients.indices.enumerated() {
                if started >= 32 { try await group.next() }
                group.addTask { try await self.introduce(index) }
            }
            try await group.waitForAll()
        }
    }

    private func introduce(_ index: Int) async throws {
        let report = state.withLock { $0.hosts[index].report(at: now()) }
        _ = try await clients[index].call(ReportHost.self, .init(report: report))
        state.withLock { $0.hosts[index].taken = report }
        _ = try await clients[index].call(Heartbeat.self, heartbeat(index))
    }

    /// Beats, reports, builds and dies until it is cancelled.
    public func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.keepBeating() }
            group.addTask { await self.keepDying() }
            for await item in work.stream {
                switch item {
                case .operation(let host, let task): group.addTask { await self.carry(task, on: host) }
                case .report(let host): group.addTask { await self.tell(host) }
                }
            }
            group.cancelAll()
        }
        await server.stop(grace: .seconds(1))
        await http.shutdown()
    }

    // MARK: Commands

    private func register(on rpc: RPCServer) {
        rpc.register(BuildInstance.self, allowed: [.host]) { [self] params, call in
            try take(.build, params.header, call) { host throws(Failure) in try host.claim(params.instance) }
            return RPCConfirmation()
        }
        rpc.register(DeleteInstance.self, allowed: [.host]) { [self] params, call in
            try take(.deletion, params.header, call) { host throws(Failure) in
                host.guests[params.header.instance]?.isDoomed = true
            }
            return RPCConfirmation()
        }
        rpc.register(OperateGuest.self, allowed: [.host]) { [self] params, call in
            guard case .snapshot(let order) = params.command else {
                throw Failure(.methodNotFound, "a simulated host cannot carry out \(params.command.name)")
            }
            try take(.snapshot(order.image), params.header, call) { host throws(Failure) in
                guard host.guests[params.header.instance]?.isBuilt == true else {
                    throw Failure(.notFound, "instance \(params.header.instance) is not on this host")
                }
            }
            return RPCConfirmation()
        }
        rpc.register(CancelOperation.self, allowed: [.host]) { _, _ in
            throw Failure(.conflict, "a simulated host cancels nothing")
        }
    }

    private func take(
        _ kind: HostState.Operation.Kind, _ header: CommandHeader, _ call: RPCCall,
        _ admit: (inout HostState) throws(Failure) -> Void
    ) throws {
        guard case .host(let name) = call.peer, let index = indices[name] else {
            throw Failure(.forbidden, "\(call.peer) is no host of this simulation")
        }
        let isNew = try state.withLock { state throws(Failure) in
            guard !state.hosts[index].isAway else {
                state.counts.missedCommands += 1
                throw Failure(.unreachable, "host \(name) is away", isRetriable: true)
            }
            try state.hosts[index].admit(header)
            guard state.hosts[index].operations[header.task] == nil else {
                // The same command again: its end counts for the newer fence, and is told once more.
                state.hosts[index].operations[header.task]?.header = header
                return state.hosts[index].operations[header.task]?.isOver == true
            }
            do throws(Failure) {
                try admit(&state.hosts[index])
            } catch {
                if kind == .build { state.counts.refusedBuilds += 1 }
                throw error
            }
            state.hosts[index].forgetOperations()
            state.hosts[index].operations[header.task] = .init(kind: kind, header: header)
            if kind == .build { state.lastClaim = now() }
            return true
        }
        if isNew { work.continuation.yield(.operation(host: index, header.task)) }
        changed(index)
    }

    /// Has a host tell what has changed on it.
    func changed(_ index: Int) {
        let mustBegin = state.withLock { state in
            state.hosts[index].isDirty = true
            guard !state.hosts[index].isReporting else { return false }
            state.hosts[index].isReporting = true
            return true
        }
        if mustBegin { work.continuation.yield(.report(host: index)) }
    }
}

/// Toward a simulated host a conductor's secret says which host it is meant for, and that is the peer that handlers see.
private struct HostVerifier: PeerVerifier {
    private let hosts: [String: HostName]

    init(_ hosts: [SimulatedHost]) {
        self.hosts = Dictionary(uniqueKeysWithValues: hosts.map { ($0.conductorSecret, $0.name) })
    }

    func verify(peer: String, secret: String) async throws -> Peer? { hosts[secret].map { .host($0) } }
}
