import Foundation
import HTTP
import Model
import RPC
import Synchronization
import Telemetry
import Testing

@testable import Compute

@Suite("An agent that is too old for the control plane")
struct TooOldTests {
    /// As a conductor puts it; the id makes the test's lines known among others'.
    private func refusal() -> Failure {
        Failure(.unsupportedVersion, "the agent of host host1 has version 1: upgrade the host (\(UUID().uuidString))")
    }

    @Test("It says so once in its log, keeps its guests and waits; when it is listened to again it goes on")
    func heartbeats() async throws {
        let (log, refusal) = (LogLines.shared, refusal())
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            let task = try await agent.build(instance)
            #expect(try await agent.conductor.outcome(of: task).failure == nil)
            let refused = agent.conductor.heard.refusedHeartbeats
            agent.conductor.script { $0.heartbeatRefusal = refusal }
            // More than one, of which only the first is worth a line; and none of them ends the agent.
            _ = try await agent.conductor.until { $0.refusedHeartbeats >= refused + 3 }
            let lines = log.lines { $0.contains(refusal.message) && $0.contains("agent.heartbeat") }
            #expect(lines.count == 1)
            #expect(lines.first?.contains(" ERROR ") == true)
            #expect(lines.first?.contains("the control plane does not work with this agent") == true)
            #expect(try await agent.core.journal.guest(instance.id) != nil)
            let heard = agent.conductor.heard.heartbeats.count
            agent.conductor.script { $0.heartbeatRefusal = nil }
            _ = try await agent.conductor.until { $0.heartbeats.count > heard + 1 }
            // Told once more only after it was heard in between.
            agent.conductor.script { $0.heartbeatRefusal = refusal }
            let again = agent.conductor.heard.refusedHeartbeats
            _ = try await agent.conductor.until { $0.refusedHeartbeats >= again + 3 }
            #expect(log.lines { $0.contains(refusal.message) && $0.contains("agent.heartbeat") }.count == 2)
            agent.conductor.script { $0.heartbeatRefusal = nil }
        }
    }

    private struct Anybody: PeerVerifier {
        func verify(peer: String, secret: String) async throws -> Peer? { .host(HostName("host1")) }
    }

    @Test("Its registration is refused with the same sentence in its log, and is not given up for good")
    func registration() async throws {
        let (log, refusal) = (LogLines.shared, refusal())
        let asked = Mutex(0)
        let (heard, tell) = AsyncStream.makeStream(of: Void.self)
        let rpc = RPCServer(
            name: "conductor", verifier: Anybody(), idempotency: MemoryIdempotencyStore(), now: WallClock.now)
        rpc.register(RegisterAgent.self, allowed: [.host]) { _, _ in
            let isFirst = asked.withLock { asked in
                asked += 1
                return asked == 1
            }
            tell.yield()
            if isFirst { throw refusal }
            return .init(oldest: 1, current: 3)
        }
        var router = Router()
        rpc.mount(on: &router)
        let server = HTTPServer(ServerConfiguration(name: "conductor", address: "127.0.0.1", port: 0), router: router)
        try server.start()
        let http = HTTPClient()
        let client = RPCClient(
            http: http,
            peers: [
                PeerAddress(
                    url: "http://127.0.0.1:\(server.port)",
                    credential: PeerCredential(peer: "host:host1", secret: "any"))
            ])
        let registration = Registration(host: HostName("host1"), client: client, patience: .milliseconds(20))
        await registration.run(PeerManifest(release: 1, methods: [:]))
        var answers = heard.makeAsyncIterator()
        for _ in 0..<2 { await answers.next() }
        #expect(asked.withLock { $0 } == 2)
        let lines = log.lines { $0.contains(refusal.message) }
        #expect(lines.count == 1 && lines.first?.contains(" ERROR ") == true)
        #expect(lines.first?.contains("the control plane does not work with this agent") == true)
        await http.shutdown()
        await server.stop(grace: .zero)
    }
}
