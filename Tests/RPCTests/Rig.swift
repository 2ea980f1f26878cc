import HTTP
import Model
import RPC
import Synchronization
import Telemetry

enum Double: RPCMethod {
    struct Params: Codable, Sendable { var value: Int }
    struct Result: Codable, Sendable, Equatable { var value: Int }
    static let name = "test.double"
    static let kind = RPCKind.call
    static let summary = "Doubles a number."
    static let version = RPCVersion(1, 2)
}

enum Record: RPCMethod {
    struct Params: Codable, Sendable {
        var text: String
        var labels: [String: String] = [:]
    }
    typealias Result = RPCConfirmation
    static let name = "test.record"
    static let kind = RPCKind.cast
    static let summary = "Records a text."
}

enum WhoAmI: RPCMethod {
    struct Params: Codable, Sendable {}
    struct Result: Codable, Sendable, Equatable {
        var peer: String
        var request: String?
        var scope: String?
        var key: String?
    }
    static let name = "test.who_am_i"
    static let kind = RPCKind.call
    static let summary = "Says what the receiver knows of the caller."
}

enum Fail: RPCMethod {
    struct Params: Codable, Sendable { var failure: Failure? }
    typealias Result = RPCConfirmation
    static let name = "test.fail"
    static let kind = RPCKind.call
    static let summary = "Fails."
}

/// Knows one secret a peer.
struct Secrets: PeerVerifier {
    let known: [String: String]

    func verify(peer: String, secret: String) async throws -> Peer? {
        guard known[peer] == secret else { return nil }
        return peer.hasPrefix("host:")
            ? .host(HostName(String(peer.dropFirst(5)))) : .service(String(peer.dropFirst(8)))
    }
}

/// What the handlers of a test server have done.
final class Deeds: Sendable {
    private let texts = Mutex<[String]>([])
    var recorded: [String] { texts.withLock { $0 } }
    func record(_ text: String) { texts.withLock { $0.append(text) } }
}

/// Opens once; whoever waits goes on then.
actor Gate {
    private var isOpen = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func open() {
        isOpen = true
        for continuation in waiting { continuation.resume() }
        waiting = []
    }

    func pass() async {
        guard !isOpen else { return }
        await withCheckedContinuation { waiting.append($0) }
    }
}

struct Rig {
    static let api = PeerCredential(peer: "service:api", secret: "api secret")
    static let host = PeerCredential(peer: "host:h1", secret: "host secret")

    let deeds = Deeds()
    let rpc: RPCServer
    let router: Router

    /// - Parameter hold: what `test.record` waits for after it has recorded.
    init(store: any IdempotencyStore = MemoryIdempotencyStore(), hold: Gate? = nil) {
        let deeds = deeds
        rpc = RPCServer(
            name: "test",
            verifier: Secrets(known: [Rig.api.peer: Rig.api.secret, Rig.host.peer: Rig.host.secret]),
            idempotency: store, now: { Timestamp(seconds: 1_000) })
        rpc.register(Double.self, allowed: [.api]) { params, _ in
            deeds.record("double")
            return .init(value: params.value * 2)
        }
        rpc.register(Record.self, allowed: [.api, .host]) { params, _ in
            deeds.record(params.text)
            await hold?.pass()
            if params.text == "bad" { throw Failure(.storage, "full", isRetriable: true) }
            return .init()
        }
        rpc.register(WhoAmI.self, allowed: [.api, .host]) { _, call in
            .init(
                peer: call.peer.description, request: call.requestID.rawValue,
                scope: RequestScope.current?.rawValue, key: call.idempotencyKey)
        }
        rpc.register(Fail.self, allowed: [.api]) { params, _ in
            if let failure = params.failure { throw failure }
            throw Unexpected()
        }
        var router = Router()
        rpc.mount(on: &router)
        self.router = router
    }

    struct Unexpected: Error { let password = "hunter2" }

    /// Posts a body as it is.
    func post(_ body: String, _ credential: PeerCredential? = api, headers: HTTPFields = [:]) async -> HTTPResponse {
        var headers = headers
        if let credential {
            headers["X-Apus-Peer"] = credential.peer
            headers["Authorization"] = "Bearer \(credential.secret)"
        }
        return await router.handle(HTTPRequest(.post, "/rpc", headers: headers, body: Array(body.utf8)))
    }

    func answer(_ body: String, _ credential: PeerCredential? = api, headers: HTTPFields = [:]) async throws -> JSON {
        try JSON(parsing: await post(body, credential, headers: headers).bytes)
    }
}
