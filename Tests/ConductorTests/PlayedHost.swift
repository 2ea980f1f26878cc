import Crypto
import Database
import HTTP
import Model
import RPC
import Synchronization
import Telemetry

/// A compute host that records what it is told and answers as the test says.
final class PlayedHost: Sendable {
    enum Reply: Sendable {
        /// Record the command, report success.
        case succeed
        /// Record the command, report this failure.
        case fail(Failure)
        /// Refuse the command itself.
        case refuse(Failure)
        /// Record the command and report nothing.
        case stayQuiet
    }
    struct State: Sendable {
        var reply: [String: Reply] = [:]
        var commands: [(name: String, header: CommandHeader)] = []
        var builds: [BuildInstance.Params] = []
        /// Of the methods by which builds came.
        var versions: [RPCVersion?] = []
        var operations: [OperateGuest.Params] = []
        var moves: [MoveGuest.Params] = []
        /// What was asked to be forced, and the answer.
        var forced: [ForceMigration.Params] = []
        var forceFailure: Failure?
        var takeIns: [TakeInGuest.Params] = []
        /// What is said of the disks of a guest that was taken in.
        var sharesDisks = false
        /// What was asked to be cached, and how often the host answers that it is not there yet.
        var cached: [CacheImage.Params] = []
        var cacheDelays = 0
        var cacheFailure: Failure?
        var secret = ""
        var conductorSecretHash = ""
    }

    let name: HostName
    let plane: ControlPlane
    private let server: Mutex<HTTPServer>
    private let router: Router
    let rpc: RPCServer
    private let port: UInt16
    let state: Mutex<State>
    private let sequence = Atomic<Int64>(0)

    init(name: HostName, plane: ControlPlane) async throws {
        (self.name, self.plane) = (name, plane)
        state = Mutex(State())
        let box = Box()
        let rpc = RPCServer(
            name: "compute", verifier: box, idempotency: MemoryIdempotencyStore(), now: WallClock.now)
        self.rpc = rpc
        var router = Router()
        rpc.mount(on: &router)
        self.router = router
        let first = HTTPServer(ServerConfiguration(name: "compute", address: "127.0.0.1", port: 0), router: router)
        server = Mutex(first)
        try first.start()
        port = first.port
        box.host.withLock { $0 = self }
        rpc.register(BuildInstance.self, allowed: [.conductor]) { params, call in
            self.state.withLock { state in
                state.builds.append(params)
                state.versions.append(call.version)
            }
            return try await self.take("build", params.header)
        }
        rpc.register(DeleteInstance.self, allowed: [.conductor]) { params, _ in
            try await self.take("delete", params.header)
        }
        rpc.register(OperateGuest.self, allowed: [.conductor]) { params, _ in
            self.state.withLock { $0.operations.append(params) }
            return try await self.take(params.command.name, params.header, then: Self.settled[params.command.name])
        }
        rpc.register(MoveGuest.self, allowed: [.conductor]) { params, _ in
            self.state.withLock { $0.moves.append(params) }
            let isThere = ["take_over", "take_back", "arrive"].contains(params.order.name)
            return try await self.take(params.order.name, params.header, then: isThere ? params.vmState : nil)
        }
        rpc.register(ForceMigration.self, allowed: [.conductor]) { params, _ in
            try self.state.withLock { state throws(Failure) in
                state.forced.append(params)
                if let failure = state.forceFailure { throw failure }
                return ForceMigration.Result(isPostCopy: true)
            }
        }
        rpc.register(TakeInGuest.self, allowed: [.conductor]) { params, _ in
            self.state.withLock { $0.takeIns.append(params) }
            return try await self.take("take_in", params.header, then: params.vmState)
        }
        rpc.register(CancelOperation.self, allowed: [.conductor]) { params, _ in
            try await self.take("cancel", params.header)
        }
        rpc.register(CacheImage.self, allowed: [.conductor]) { params, _ in
            try self.state.withLock { state throws(Failure) in
                state.cached.append(params)
                if let failure = state.cacheFailure { throw failure }
                state.cacheDelays -= 1
                return CacheImage.Result(isCached: state.cacheDelays < 0)
            }
        }
        rpc.register(GetConsoleOutput.self, allowed: [.conductor]) { params, _ in
            .init(output: "console of \(params.instance)\n")
        }
    }

    /// Sendable: set once, before anybody calls.
    private final class Box: PeerVerifier, Sendable {
        let host = Mutex<PlayedHost?>(nil)

        func verify(peer: String, secret: String) async throws -> Peer? {
            let expected = host.withLock { $0?.state.withLock { $0.conductorSecretHash } }
            guard peer == "service:conductor", Hex.encode(digest(.sha256, of: Array(secret.utf8))) == expected else {
                return nil
            }
            return .service("conductor")
        }
    }

    func stop() async {
        let current = server.withLock { $0 }
        await current.stop(grace: .zero)
    }

    /// Serves on the same port again.
    func start() throws {
        let next = HTTPServer(ServerConfiguration(name: "compute", address: "127.0.0.1", port: port), router: router)
        try next.start()
        server.withLock { $0 = next }
    }

    func answer(_ command: String, _ reply: Reply) { state.withLock { $0.reply[command] = reply } }

    func commands(_ name: String) -> [CommandHeader] {
        state.withLock { $0.commands.filter { $0.name == name }.map(\.header) }
    }

    func join(token given: String? = nil) async throws {
        let token = given ?? Hex.encode(randomBytes(24))
        if given == nil {
            try await plane.database.credentials.enroll(
                name, tokenHash: digest(.sha256, of: Array(token.utf8)), expiresAt: WallClock.now() + .seconds(900),
                now: WallClock.now())
        }
        let response = try await plane.http.send(
            ClientRequest(
                method: .post, url: plane.url + "/apus/v1/join",
                body: .bytes(
                    JSON.object([
                        "host": .string(name.rawValue), "token": .string(token), "csr": .null,
                        "address": "127.0.0.1", "port": .integer(Int64(port)),
                    ]).serialized())))
        guard response.status == 200 else {
            throw Failure(.forbidden, String(decoding: response.body, as: UTF8.self))
        }
        let answer = try JSON(parsing: response.body)
        state.withLock {
            $0.secret = answer["secret"]?.text ?? ""
            $0.conductorSecretHash = answer["conductor_secret_hash"]?.text ?? ""
        }
    }

    var conductor: RPCClient {
        RPCClient(
            http: plane.http,
            peers: [
                PeerAddress(
                    url: plane.url,
                    credential: PeerCredential(peer: "host:\(name)", secret: state.withLock { $0.secret }))
            ])
    }

    /// What the host understands.
    var manifest: PeerManifest { rpc.manifest }

    func register(_ manifest: PeerManifest) async throws -> RegisterAgent.Result {
        try await conductor.call(RegisterAgent.self, .init(host: name, manifest: manifest))
    }

    func report(memoryMiB: Int) async throws {
        try await beat()
        try await reportResources(memoryMiB: memoryMiB)
        // Heartbeats are written once a second; the scheduler reads them from the database.
        _ = try await eventually("the heartbeat to be written") {
            try await plane.database.services.find(host: name, binary: "nova-compute")
        }
    }

    func beat() async throws {
        let number = sequence.add(1, ordering: .relaxed).newValue
        _ = try await conductor.call(
            Heartbeat.self, .init(host: name, binary: "nova-compute", version: 1, sequence: number))
    }

    /// Beats until the task is cancelled.
    func heart() -> Task<Void, any Error> {
        Task {
            while !Task.isCancelled {
                try await beat()
                try await Task.sleep(for: .milliseconds(300))
            }
        }
    }

    func reportResources(
        memoryMiB: Int, hypervisorType: String = "QEMU", hypervisorVersion: Int = 7_002_000
    ) async throws {
        let number = sequence.add(1, ordering: .relaxed).newValue
        _ = try await conductor.call(
            ReportHost.self,
            .init(
                report: HostReport(
                    host: name, uuid: "uuid-\(name)", hypervisorHostname: name.rawValue, hypervisorType: hypervisorType,
                    hypervisorVersion: hypervisorVersion, hostAddress: "127.0.0.1",
                    total: Resources(vcpus: 8, memoryMiB: memoryMiB, diskGiB: 100), reserved: .zero, used: .zero,
                    ratios: AllocationRatios(), diskAvailableLeastGiB: 100, runningInstances: 0, workload: 0,
                    cpuModel: nil, cpuVendor: nil, architecture: "x86_64", cpuTopology: CPUTopology(),
                    cpuFeatures: [], uptimeSeconds: 1, sequence: number, measuredAt: WallClock.now())))
    }

    /// What a host has on record after each command.
    private static let settled: [String: VMState] = [
        "start": .active, "stop": .stopped, "pause": .paused, "unpause": .active, "suspend": .suspended,
        "resume": .active, "rescue": .rescued, "unrescue": .active, "rebuild": .active, "shelve": .shelved,
        "soft_delete": .softDeleted, "restore": .active, "soft_reboot": .active, "hard_reboot": .active,
    ]

    /// Reports the end of a command.
    func finish(
        _ header: CommandHeader, _ failure: Failure? = nil, vmState: VMState? = nil, sequence: Int64? = nil,
        interfaces: [NetworkInterface]? = nil
    ) async throws {
        var report = ReportOperation.Params(
            header: header, host: name, failure: failure, vmState: vmState,
            powerState: failure == nil || vmState == .active ? .running : .noState,
            interfaces: interfaces, launchedAt: failure == nil ? WallClock.now() : nil, steps: [],
            endedAt: WallClock.now(), sequence: sequence)
        report.sharesDisks = state.withLock { $0.sharesDisks }
        _ = try await conductor.call(ReportOperation.self, report)
    }

    /// Reports what became of a guest by itself.
    func observe(_ id: InstanceID, _ fence: Fence, _ vmState: VMState, sequence: Int64) async throws {
        _ = try await conductor.call(
            ReportInstance.self,
            .init(
                host: name, instance: id, fence: fence, vmState: vmState,
                powerState: vmState == .active ? .running : .shutdown, taskState: nil, interfaces: nil,
                sequence: sequence, observedAt: WallClock.now()))
    }

    private func take(
        _ name: String, _ header: CommandHeader, then vmState: VMState? = nil
    ) async throws -> RPCConfirmation {
        let reply = state.withLock { state in
            state.commands.append((name, header))
            return state.reply[name] ?? .succeed
        }
        switch reply {
        case .refuse(let failure): throw failure
        case .stayQuiet: break
        case .succeed where name == "cancel":
            Task { try await self.finish(header, Failure(.cancelled, "cancelled"), vmState: .active) }
        case .succeed: Task { try await self.finish(header, vmState: vmState) }
        case .fail(let failure): Task { try await self.finish(header, failure) }
        }
        return RPCConfirmation()
    }
}
