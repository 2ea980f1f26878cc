import HTTP
import Model
import Synchronization
import Testing

@testable import CommandLine

@Suite("A host that is emptied")
struct HostDrainTests {
    @Test("Every server that can be is moved and confirmed; the others are named with their reasons")
    func drained() async throws {
        let cloud = MovingCloud([
            "a": .init(status: "ACTIVE"), "b": .init(status: "SHUTOFF"), "c": .init(status: "PAUSED"),
            "d": .init(status: "ACTIVE", refusal: "No valid host was found."),
            "e": .init(status: "VERIFY_RESIZE"), "f": .init(status: "ACTIVE", isLocked: true),
        ])
        let remarks = Mutex<[String]>([])
        let outcomes = try await cloud.drain { text in remarks.withLock { $0.append(text) } }.run()
        let byID = Dictionary(uniqueKeysWithValues: outcomes.map { ($0.server, $0) })
        #expect(byID["a"]?.host == "kvm2" && byID["b"]?.host == "kvm2")
        #expect(byID["a"]?.reason == nil && byID["c"]?.host == nil)
        #expect(byID["c"]?.reason?.contains("PAUSED") == true)
        #expect(byID["d"]?.reason == "No valid host was found.")
        #expect(byID["e"]?.reason?.contains("confirm") == true)
        #expect(byID["f"]?.reason == "Instance f is locked")
        #expect(cloud.state.withLock { $0.servers["a"]?.status } == "ACTIVE")
        #expect(cloud.state.withLock { $0.servers["b"]?.status } == "SHUTOFF")
        let said = remarks.withLock { $0 }
        #expect(said.count == 6 && said.allSatisfy { $0.contains("/6] ") })
        #expect(cloud.state.withLock { $0.most } <= 2)
    }

    @Test("What runs or is paused is moved so, what is off while it is off; the others are named with their reasons")
    func drainedLive() async throws {
        let cloud = MovingCloud([
            "a": .init(status: "ACTIVE"), "b": .init(status: "SHUTOFF"), "c": .init(status: "PAUSED"),
            "d": .init(status: "ACTIVE", refusal: "kvm2: another processor"), "e": .init(status: "SUSPENDED"),
            "f": .init(status: "ACTIVE", isLocked: true),
        ])
        let remarks = Mutex<[String]>([])
        let drain = cloud.drain(isCold: false) { text in remarks.withLock { $0.append(text) } }
        let byID = Dictionary(uniqueKeysWithValues: try await drain.run().map { ($0.server, $0) })
        for id in ["a", "b", "c"] { #expect(byID[id]?.host == "kvm2" && byID[id]?.reason == nil, "\(id)") }
        #expect(byID["d"]?.reason == "kvm2: another processor")
        #expect(byID["e"]?.reason == "it is SUSPENDED, and only what is ACTIVE, PAUSED or SHUTOFF is moved")
        #expect(byID["f"]?.reason == "Instance f is locked")
        let servers = cloud.state.withLock { $0.servers }
        #expect(servers["a"]?.status == "ACTIVE" && servers["c"]?.status == "PAUSED")
        #expect(servers["b"]?.status == "SHUTOFF" && servers["b"]?.isMigrated == false)
        #expect(cloud.state.withLock { $0.actions["a"] } == ["os-migrateLive"])
        #expect(cloud.state.withLock { $0.actions["b"] } == ["migrate", "confirmResize"])
        #expect(remarks.withLock { $0.contains("a: 50 % is there") })
        #expect(cloud.state.withLock { $0.most } <= 2)
    }

    @Test("Begun again it waits for what is on its way, and moves the rest")
    func resumedLive() async throws {
        let cloud = MovingCloud([
            "a": .init(status: "MIGRATING", task: "os-migrateLive"), "b": .init(status: "ACTIVE"),
            "c": .init(status: "VERIFY_RESIZE", host: "kvm2", isMigrated: true, was: "SHUTOFF"),
        ])
        let outcomes = try await cloud.drain(isCold: false).run()
        #expect(outcomes.count == 3 && outcomes.allSatisfy { $0.host == "kvm2" && $0.reason == nil })
        #expect(cloud.state.withLock { $0.actions["a"] } == nil)
        #expect(cloud.state.withLock { $0.servers["c"]?.status } == "SHUTOFF")
    }

    @Test("Begun again it confirms what it had moved, and moves the rest")
    func resumed() async throws {
        let cloud = MovingCloud([
            "a": .init(status: "VERIFY_RESIZE", host: "kvm2", isMigrated: true), "b": .init(status: "ACTIVE"),
        ])
        let outcomes = try await cloud.drain().run()
        #expect(outcomes.count == 2 && outcomes.allSatisfy { $0.host == "kvm2" && $0.reason == nil })
        #expect(cloud.state.withLock { $0.servers.values.allSatisfy { $0.status == "ACTIVE" } })
    }
}

/// A cloud of two hosts whose moves take two looks.
private final class MovingCloud: Sendable {
    struct Server: Sendable {
        var status: String
        var host = "kvm1"
        var refusal: String?
        var isLocked = false
        /// Whether its migration waits to be confirmed.
        var isMigrated = false
        var task: String?
        var looks = 0
        var was = "ACTIVE"
    }
    struct State: Sendable {
        var servers: [String: Server]
        var most = 0
        /// What was asked of each.
        var actions: [String: [String]] = [:]
    }

    private static let origin = "http://cloud:8774"
    let state: Mutex<State>

    init(_ servers: [String: Server]) { state = Mutex(State(servers: servers)) }

    func drain(
        isCold: Bool = true, _ remark: @escaping @Sendable (String) -> Void = { _ in }
    ) -> HostDrain {
        let settings = CloudSettings(
            authURL: "\(Self.origin)/identity", username: "u", password: "right", projectName: "p", origin: "a test")
        let client = CloudClient(settings: settings) { [self] request throws(HTTPClientError) in answer(request) }
        return HostDrain(
            host: "kvm1", parallel: 2, isCold: isCold, timeout: .seconds(30), client: client, remark: remark)
    }

    private func answer(_ request: ClientRequest) -> ClientResponse {
        let path = String(request.url.dropFirst(Self.origin.count))
        guard path.hasPrefix("/compute/v2.1") else { return login() }
        let parts = path.dropFirst("/compute/v2.1".count).split(separator: "?")
        let words = (parts.first ?? "").split(separator: "/").map(String.init)
        switch (request.method, words.count) {
        case (.get, 1): return response(200, ["migrations": .array(migrations())])
        case (.get, 2) where words[1] == "detail": return response(200, ["servers": .array(servers())])
        case (.get, 2): return look(words[1])
        case (.post, 3): return act(words[1], request)
        case (.get, 3):
            return response(200, ["instanceActions": [["action": "migrate", "request_id": "r1", "message": "Error"]]])
        default:
            let refusal = state.withLock { $0.servers[words[1]]?.refusal }
            return response(200, ["instanceAction": ["events": [["details": .string(refusal ?? "")]]]])
        }
    }

    private func migrations() -> [JSON] {
        state.withLock { state in
            state.servers.filter(\.value.isMigrated).map { ["instance_uuid": .string($0.key)] }
        }
    }

    private func servers() -> [JSON] {
        state.withLock { state in
            state.servers.filter { $0.value.host == "kvm1" }.map { ["id": .string($0.key), "name": .string($0.key)] }
        }
    }

    private func look(_ id: String) -> ClientResponse {
        state.withLock { state in
            guard var server = state.servers[id] else { return response(404, ["itemNotFound": ["message": "gone"]]) }
            server.looks += 1
            if server.task != nil, server.looks > 2 { server.end() }
            state.servers[id] = server
            state.most = max(state.most, state.servers.values.count { $0.task != nil })
            return response(
                200,
                [
                    "server": [
                        "id": .string(id), "name": .string(id), "status": .string(server.status),
                        "progress": .integer(Int64(server.task == nil ? 100 : server.looks * 30)),
                        "OS-EXT-STS:task_state": server.task.map { .string($0) } ?? .null,
                        "OS-EXT-SRV-ATTR:host": .string(server.host),
                    ]
                ])
        }
    }

    private func act(_ id: String, _ request: ClientRequest) -> ClientResponse {
        guard case .bytes(let bytes) = request.body, let name = (try? JSON(parsing: bytes))?.members?.keys.first else {
            return response(400, ["badRequest": ["message": "what?"]])
        }
        return state.withLock { state in
            if state.servers[id]?.isLocked == true {
                return response(409, ["conflictingRequest": ["message": .string("Instance \(id) is locked")]])
            }
            let before = state.servers[id]?.status ?? ""
            state.actions[id, default: []].append(name)
            if name == "migrate" || name == "os-migrateLive" { state.servers[id]?.was = before }
            if name == "os-migrateLive" { state.servers[id]?.status = "MIGRATING" }
            state.servers[id]?.task = name
            state.servers[id]?.looks = 0
            return response(202, .null)
        }
    }

    private func login() -> ClientResponse {
        var made = response(
            201,
            [
                "token": [
                    "catalog": [
                        [
                            "type": "compute",
                            "endpoints": [
                                ["interface": "public", "region": "R", "url": .string(Self.origin + "/compute/v2.1")]
                            ],
                        ]
                    ]
                ]
            ])
        made.headers["X-Subject-Token"] = "t"
        return made
    }

    private func response(_ status: Int, _ body: JSON) -> ClientResponse {
        ClientResponse(status: status, headers: [:], body: body.isNull ? [] : body.serialized())
    }
}

extension MovingCloud.Server {
    fileprivate mutating func end() {
        if task == "migrate", refusal == nil {
            (status, host, isMigrated) = ("VERIFY_RESIZE", "kvm2", true)
        } else if task == "os-migrateLive" {
            status = was
            if refusal == nil { host = "kvm2" }
        } else if task == "confirmResize" {
            (status, isMigrated) = (was, false)
        }
        task = nil
    }
}
