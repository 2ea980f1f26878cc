import HTTP
import Model
import RPC
import Synchronization
import Telemetry
import Testing

@testable import Simulation

/// A conductor that only listens, and the fleet that speaks to it.
final class Play: Sendable {
    struct Heard: Sendable {
        var operations: [ReportOperation.Params] = []
        var hosts: [HostReport] = []
        var changes: [ReportHostChange.Params] = []
        var heartbeats = 0
    }

    let heard = Mutex(Heard())
    let server: HTTPServer
    let fleet: SimulatedFleet
    private let http = HTTPClient()
    let work: Task<Void, Never>

    private struct Anybody: PeerVerifier {
        func verify(peer: String, secret: String) async throws -> Peer? { .host(HostName(String(peer.dropFirst(5)))) }
    }

    init(hosts: Int, _ change: (inout SimulationSettings) -> Void = { _ in }) throws {
        let rpc = RPCServer(
            name: "conductor", verifier: Anybody(), idempotency: MemoryIdempotencyStore(), now: WallClock.now)
        var router = Router()
        rpc.mount(on: &router)
        server = HTTPServer(ServerConfiguration(name: "test", address: "127.0.0.1", port: 0), router: router)
        try server.start()
        var settings = SimulationSettings()
        (settings.buildTime, settings.failureShare) = (.milliseconds(20), 0)
        change(&settings)
        fleet = try SimulatedFleet(
            (1...hosts).map { SimulatedHost(name: HostName("h\($0)"), secret: "s\($0)", conductorSecret: "c\($0)") },
            conductors: ["http://127.0.0.1:\(server.port)"], settings: settings)
        let fleet = fleet
        work = Task { await fleet.run() }
        rpc.register(ReportOperation.self, allowed: [.host]) { [self] params, _ in
            heard.withLock { $0.operations.append(params) }
            return RPCConfirmation()
        }
        rpc.register(ReportHost.self, allowed: [.host]) { [self] params, _ in
            heard.withLock { $0.hosts.append(params.report) }
            return RPCConfirmation()
        }
        rpc.register(ReportHostChange.self, allowed: [.host]) { [self] params, _ in
            heard.withLock { $0.changes.append(params) }
            return .init(isTaken: true)
        }
        rpc.register(Heartbeat.self, allowed: [.host]) { [self] _, _ in
            heard.withLock { $0.heartbeats += 1 }
            return .init(now: WallClock.now())
        }
    }

    func client(of host: Int) -> RPCClient {
        RPCClient(
            http: http,
            peers: [
                PeerAddress(
                    url: fleet.url, credential: PeerCredential(peer: "service:conductor", secret: "c\(host)"))
            ])
    }

    func build(_ id: String, on host: Int, memoryMiB: Int = 512, epoch: Int64 = 1) async throws {
        let flavor = Flavor(id: FlavorID("f"), name: "f", vcpus: 1, memoryMiB: memoryMiB, rootGiB: 1)
        let instance = Instance(
            id: InstanceID(id), projectID: ProjectID("p"), userID: UserID("u"), name: id, hostname: id, flavor: flavor,
            imageID: ImageID("i"), reservationID: "r", createdAt: WallClock.now())
        let image = ImageReference(
            id: ImageID("i"), format: .raw, sizeBytes: 1, virtualSizeBytes: 1, sha512: "")
        _ = try await client(of: host).call(
            BuildInstance.self,
            .init(header: header(id, epoch: epoch), instance: instance, image: image, adminPassword: nil, attempt: 1))
    }

    func header(_ id: String, task: String = "build", epoch: Int64 = 1) -> CommandHeader {
        CommandHeader(
            task: TaskID("\(task)-\(id)"), instance: InstanceID(id), fence: Fence(generation: 1, epoch: epoch))
    }

    /// Waits until `condition` holds of what was heard, at most ten seconds.
    func wait(_ what: String, _ condition: @Sendable (Heard) -> Bool) async throws {
        for _ in 0..<1_000 {
            if heard.withLock({ condition($0) }), fleet.isSettled { return }
            try await AlarmClock().sleep(for: .milliseconds(10))
        }
        Issue.record("\(what): not in ten seconds")
    }

    func end() async {
        work.cancel()
        await work.value
        await http.shutdown()
        await server.stop(grace: .zero)
    }
}

@Suite("Hosts that are played")
struct SimulatedFleetTests {
    @Test(
        "A build is claimed at once, reported when it is over, and what the host uses follows; a deletion gives it back"
    )
    func life() async throws {
        let play = try Play(hosts: 2)
        try await play.fleet.introduce()
        #expect(play.heard.withLock { $0.hosts.count } == 2)
        try await play.build("a", on: 2)
        #expect(play.fleet.holdings()[HostName("h2")]?.instances == [InstanceID("a")])
        try await play.wait("the end of the build") { $0.operations.count == 1 && !$0.changes.isEmpty }
        let built = play.heard.withLock { $0.operations[0] }
        #expect(built.host == HostName("h2") && built.failure == nil && built.vmState == .active)
        #expect(play.fleet.takeBuilt() == [InstanceID("a")] && play.fleet.takeBuilt().isEmpty)
        let used = play.heard.withLock { $0.changes.compactMap { $0.usage?.used }.last }
        #expect(used == play.fleet.holdings()[HostName("h2")]?.used && used?.vcpus == 1)
        _ = try await play.client(of: 2).call(DeleteInstance.self, .init(header: play.header("a", task: "delete")))
        try await play.wait("the end of the deletion") { $0.operations.count == 2 }
        #expect(play.fleet.holdings()[HostName("h2")]?.instances == [])
        #expect(play.fleet.counts.builds == 1 && play.fleet.counts.deletions == 1)
        await play.end()
    }

    @Test("What does not fit is refused with the amounts, an older command by its fence, and a repeated one is one")
    func refusals() async throws {
        let play = try Play(hosts: 1)
        do {
            try await play.build("a", on: 1, memoryMiB: 1 << 20)
            Issue.record("it fits")
        } catch {
            #expect((error as? Failure)?.kind == .insufficientResources && "\(error)".contains("1048576 MiB"))
        }
        try await play.build("b", on: 1, epoch: 3)
        do {
            try await play.build("b", on: 1, epoch: 2)
            Issue.record("an older command is taken")
        } catch {
            #expect((error as? Failure)?.kind == .conflict)
        }
        try await play.build("b", on: 1, epoch: 4)
        try await play.wait("the end of the build") { !$0.operations.isEmpty }
        #expect(play.fleet.counts.builds == 1 && play.fleet.counts.refusedBuilds == 1)
        // The build may have ended before it was told again.
        let told = play.heard.withLock { $0.operations.last?.header.fence.epoch }
        #expect(told == 3 || told == 4)
        await play.end()
    }

    @Test("A guest that is deleted while it is being built is not built, and a build that fails leaves nothing")
    func failures() async throws {
        let slow = try Play(hosts: 1) { $0.buildTime = .milliseconds(400) }
        try await slow.build("a", on: 1)
        _ = try await slow.client(of: 1).call(DeleteInstance.self, .init(header: slow.header("a", task: "delete")))
        try await slow.wait("both ends") { $0.operations.count == 2 }
        let outcomes = slow.heard.withLock { $0.operations }.map { $0.failure?.kind }
        #expect(Set(outcomes) == [nil, .cancelled] && slow.fleet.holdings()[HostName("h1")]?.instances == [])
        await slow.end()
        let broken = try Play(hosts: 1) { $0.failureShare = 1 }
        try await broken.build("a", on: 1)
        try await broken.wait("the end") { $0.operations.first?.failure?.kind == .internalError }
        #expect(broken.fleet.holdings()[HostName("h1")]?.instances == [])
        await broken.end()
    }

    @Test("Beats and reports come by themselves; a host that is away does neither, takes no command, and comes back")
    func beats() async throws {
        let play = try Play(hosts: 1) {
            ($0.heartbeatInterval, $0.reportInterval) = (.milliseconds(20), .milliseconds(50))
            ($0.deathsPerMinute, $0.absence) = (120, .milliseconds(300))
        }
        try await play.wait("beats and reports") { $0.heartbeats > 3 && $0.hosts.count + $0.changes.count > 2 }
        var isMissed = false
        for number in 0..<2_000 where !isMissed {
            do {
                try await play.build("i\(number)", on: 1)
                try await AlarmClock().sleep(for: .milliseconds(5))
            } catch {
                isMissed = (error as? Failure)?.kind == .unreachable
            }
        }
        #expect(isMissed && play.fleet.counts.deaths > 0 && play.fleet.counts.missedCommands > 0)
        let before = play.heard.withLock { $0.heartbeats }
        try await play.wait("beats after the absence") { $0.heartbeats > before + 3 }
        await play.end()
    }
}
