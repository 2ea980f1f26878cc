import Configuration
import Crypto
import Foundation
import HTTP
import Model
import RPC
import Synchronization
import Telemetry

/// A conductor as an agent meets it: a real RPC server on loopback, that remembers what it was told and gives out images.
final class FakeConductor: Sendable {
    struct Heard: Sendable {
        var operations: [ReportOperation.Params] = []
        var instances: [ReportInstance.Params] = []
        /// Every report as it stands after it came, whole or as a change.
        var hosts: [HostReport] = []
        var hostChanges: [ReportHostChange.Params] = []
        var wholeHostReports = 0
        /// How often one instance was asked for.
        var instancesFetched = 0
        var heartbeats: [Heartbeat.Params] = []
        var refusedHeartbeats = 0
        var downloads = 0
        /// The bytes that came whole, by image.
        var uploads: [String: [UInt8]] = [:]
        var uploadAttempts = 0
        /// The evacuations that were answered for.
        var confirmed: [MigrationID] = []
        /// The instances that were asked about.
        var described: [InstanceID] = []
    }

    struct Script: Sendable {
        var placed: [Instance] = []
        /// What the database knows of instances; others it does not know.
        var standings: [DescribeInstances.Standing] = []
        var image: [UInt8] = FakeConductor.image
        var imageStatus = 200
        /// What uploads are answered with, one after the other; then 204.
        var uploadStatuses: [Int] = []
        /// What an image has already.
        var stored: GetImageTicket.StoredBytes?
        var ticketFailure: Failure?
        /// What reports of outcomes are answered with; `nil` takes them.
        var refusal: Failure?
        /// What reports of the host are answered with; `nil` takes them.
        var hostRefusal: Failure?
        /// Whether no base of a change is known, as in a database that was restored.
        var forgetsHosts = false
        /// What the host has to answer for.
        var evacuated: [ListEvacuated.Evacuated] = []
        /// Whether heartbeats are answered with that.
        var mustAnswer = false
        /// What heartbeats are answered with; `nil` takes them.
        var heartbeatRefusal: Failure?
    }

    private struct State: Sendable {
        var heard = Heard()
        var script = Script()
        var server: HTTPServer?
        var port: UInt16 = 0
        var waiters: [Int: Waiter] = [:]
        var nextWaiter = 0
    }

    private struct Waiter: Sendable {
        let condition: @Sendable (Heard) -> Bool
        let continuation: CheckedContinuation<Bool, Never>
    }

    struct NeverHeard: Error, CustomStringConvertible {
        let heard: Heard

        var description: String {
            "heard \(heard.operations.count) outcomes, \(heard.instances.count) states, \(heard.hosts.count) host "
                + "reports, \(heard.heartbeats.count) heartbeats, but never what was waited for"
        }
    }

    static let agentSecret = "agent-secret"
    static let conductorSecret = "conductor-secret"
    static let image = [UInt8](repeating: 7, count: 4_096)

    private let state = Mutex(State())

    /// One that serves at once.
    init() throws { try start() }

    var url: String { "http://127.0.0.1:\(state.withLock { $0.port })" }
    var heard: Heard { state.withLock { $0.heard } }

    func script(_ change: (inout sending Script) -> Void) { state.withLock { change(&$0.script) } }

    /// Serves, on the port that it had before.
    func start() throws {
        let server = RPCServer(
            name: "conductor", verifier: HostVerifier(), idempotency: MemoryIdempotencyStore(), now: WallClock.now)
        server.register(Heartbeat.self, allowed: [.host]) { params, _ in
            if let refusal = self.state.withLock({ $0.script.heartbeatRefusal }) {
                self.hear { $0.refusedHeartbeats += 1 }
                throw refusal
            }
            if self.state.withLock({ $0.script.mustAnswer && !$0.script.evacuated.isEmpty }) {
                return Heartbeat.Result(now: WallClock.now(), mustAnswer: true)
            }
            self.hear { $0.heartbeats.append(params) }
            return Heartbeat.Result(now: WallClock.now())
        }
        server.register(ListEvacuated.self, allowed: [.host]) { _, _ in
            ListEvacuated.Result(evacuated: self.state.withLock { $0.script.evacuated })
        }
        server.register(ConfirmEvacuated.self, allowed: [.host]) { params, _ in
            self.script { script in script.evacuated.removeAll { params.migrations.contains($0.migration) } }
            self.hear { $0.confirmed += params.migrations }
            return RPCConfirmation()
        }
        server.register(ReportHost.self, allowed: [.host]) { params, _ in
            if let refusal = self.state.withLock({ $0.script.hostRefusal }) { throw refusal }
            self.hear { heard in
                heard.hosts.append(params.report)
                heard.wholeHostReports += 1
            }
            return RPCConfirmation()
        }
        server.register(ReportHostChange.self, allowed: [.host]) { params, _ in
            if let refusal = self.state.withLock({ $0.script.hostRefusal }) { throw refusal }
            let isForgotten = self.state.withLock { $0.script.forgetsHosts }
            let isTaken = Mutex(false)
            self.hear { heard in
                heard.hostChanges.append(params)
                guard !isForgotten, var report = heard.hosts.last, report.sequence == params.base else { return }
                isTaken.withLock { $0 = true }
                guard let usage = params.usage else { return }
                report.apply(usage)
                report.renew(sequence: params.sequence, measuredAt: params.measuredAt)
                heard.hosts.append(report)
            }
            return ReportHostChange.Result(isTaken: isTaken.withLock { $0 })
        }
        server.register(ReportInstance.self, allowed: [.host]) { params, _ in
            self.hear { $0.instances.append(params) }
            return RPCConfirmation()
        }
        server.register(ReportOperation.self, allowed: [.host]) { params, _ in
            if let refusal = self.state.withLock({ $0.script.refusal }) { throw refusal }
            self.hear { $0.operations.append(params) }
            return RPCConfirmation()
        }
        server.register(ListHostInstances.self, allowed: [.host]) { _, _ in
            ListHostInstances.Result(instances: self.state.withLock { $0.script.placed })
        }
        server.register(GetHostInstance.self, allowed: [.host]) { params, _ in
            self.hear { $0.instancesFetched += 1 }
            guard let found = self.state.withLock({ $0.script.placed.first { $0.id == params.instance } }) else {
                throw Failure(.notFound, "instance \(params.instance) is not on host \(params.host)")
            }
            return GetHostInstance.Result(instance: found)
        }
        server.register(DescribeInstances.self, allowed: [.host]) { params, _ in
            self.hear { $0.described += params.instances }
            let known = self.state.withLock { $0.script.standings }
            return DescribeInstances.Result(instances: known.filter { params.instances.contains($0.instance) })
        }
        server.register(GetImageTicket.self, allowed: [.host]) { params, _ in
            let script = self.state.withLock { $0.script }
            if params.isUpload == true, let failure = script.ticketFailure { throw failure }
            return GetImageTicket.Result(
                url: "\(self.url)/images/\(params.image)", ticket: "ticket-\(params.instance)",
                expiresAt: WallClock.now() + .seconds(60), stored: params.isUpload == true ? script.stored : nil)
        }
        server.register(GetCacheTicket.self, allowed: [.host]) { params, _ in
            GetCacheTicket.Result(
                url: "\(self.url)/images/\(params.image)", ticket: "ticket-\(params.task)",
                expiresAt: WallClock.now() + .seconds(60))
        }
        var router = Router()
        server.mount(on: &router)
        router.on(.get, "/images/{id}") { request in
            guard request.headers["X-Apus-Ticket"]?.hasPrefix("ticket-") == true else { return HTTPResponse(403) }
            self.hear { $0.downloads += 1 }
            let script = self.state.withLock { $0.script }
            return HTTPResponse(script.imageStatus, body: .bytes(script.imageStatus == 200 ? script.image : []))
        }
        router.on(.put, "/images/{id}") { request in
            guard request.headers["X-Apus-Ticket"]?.hasPrefix("ticket-") == true else { return HTTPResponse(403) }
            let status = self.state.withLock { state in
                state.script.uploadStatuses.isEmpty ? 204 : state.script.uploadStatuses.removeFirst()
            }
            let bytes = request.bytes
            self.hear { heard in
                heard.uploadAttempts += 1
                if status == 204 { heard.uploads[request.parameters["id"] ?? ""] = bytes }
            }
            return HTTPResponse(status)
        }
        let http = HTTPServer(ServerConfiguration(port: state.withLock { $0.port }), router: router)
        try http.start()
        state.withLock { state in
            state.server = http
            state.port = http.port
        }
    }

    /// Stops answering; the port refuses connections.
    func stop() async {
        let server = state.withLock { state in
            defer { state.server = nil }
            return state.server
        }
        await server?.stop(grace: .zero)
    }

    /// Waits until what was heard satisfies `condition`; gives up after a time no healthy machine needs.
    @discardableResult
    func until(_ condition: @escaping @Sendable (Heard) -> Bool) async throws -> Heard {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        let deadline = Task {
            try await Task.sleep(for: .seconds(60))
            state.withLock { $0.waiters.removeValue(forKey: id) }?.continuation.resume(returning: false)
        }
        defer { deadline.cancel() }
        let isHeard = await withCheckedContinuation { continuation in
            let isThere = state.withLock { state in
                if condition(state.heard) { return true }
                state.waiters[id] = Waiter(condition: condition, continuation: continuation)
                return false
            }
            if isThere { continuation.resume(returning: true) }
        }
        guard isHeard else { throw NeverHeard(heard: heard) }
        return heard
    }

    /// Waits for the outcome of a task's command.
    func outcome(of task: TaskID, fence: Fence? = nil) async throws -> ReportOperation.Params {
        let heard = try await until { heard in
            heard.operations.contains { $0.header.task == task && (fence == nil || $0.header.fence == fence) }
        }
        guard
            let found = heard.operations.last(where: {
                $0.header.task == task && (fence == nil || $0.header.fence == fence)
            })
        else { throw NeverHeard(heard: heard) }
        return found
    }

    private func hear(_ change: (inout sending Heard) -> Void) {
        let ready = state.withLock { state in
            change(&state.heard)
            let ready = state.waiters.filter { $0.value.condition(state.heard) }
            for id in ready.keys { state.waiters[id] = nil }
            return Array(ready.values)
        }
        for waiter in ready { waiter.continuation.resume(returning: true) }
    }

    private struct HostVerifier: PeerVerifier {
        func verify(peer: String, secret: String) async throws -> Peer? {
            peer == "host:host1" && secret == FakeConductor.agentSecret ? .host(HostName("host1")) : nil
        }
    }
}
