import HTTP
import Model
import RPC
import Synchronization
import Testing

/// A method that has come to its second form: `tone` and `echo` were not in the first.
private enum Tell: RPCMethod {
    struct Params: Codable, Sendable, Hashable {
        var text: String
        var tone: String?
    }
    struct Result: Codable, Sendable, Hashable {
        var heard: String
        var echo: String?
    }
    static let name = "test.tell"
    static let kind = RPCKind.call
    static let summary = "Says something."
    static let version = RPCVersion(1, 1)
    static func backport(_ params: Params, to version: RPCVersion) throws(Failure) -> Params {
        guard params.tone != "urgent" else { throw Failure(.unsupportedVersion, "\(version) knows no urgency") }
        return Params(text: params.text)
    }
    static func backport(result: Result, to version: RPCVersion) -> Result { Result(heard: result.heard) }
}

@Suite("Versions", .timeLimit(.minutes(1)))
struct VersionTests {
    private static let older = PeerManifest(release: 1, methods: ["test.tell": RPCVersion(1, 0)])

    private func serve(_ body: (RPCClient, Rig, Box) async throws -> Void) async throws {
        let rig = Rig()
        let heard = Box()
        rig.rpc.register(Tell.self, allowed: [.api]) { params, call in
            heard.calls.withLock { $0.append((params, call)) }
            return .init(heard: params.text, echo: params.text)
        }
        let server = HTTPServer(ServerConfiguration(), router: rig.router)
        try server.start()
        let http = HTTPClient()
        let client = RPCClient(
            http: http, peers: [PeerAddress(url: "http://127.0.0.1:\(server.port)", credential: Rig.api)])
        var failure: (any Error)?
        do { try await body(client, rig, heard) } catch { failure = error }
        await http.shutdown()
        await server.stop(grace: .zero)
        if let failure { throw failure }
    }

    fileprivate final class Box: Sendable {
        let calls = Mutex<[(Tell.Params, RPCCall)]>([])
    }

    @Test("A peer gets parameters and answers in the form that it knows; one of today gets all")
    func forms() async throws {
        try await serve { client, _, heard in
            let told = Tell.Params(text: "a", tone: "low")
            let new = try await client.call(Tell.self, told, idempotencyKey: "k")
            #expect(new.echo == "a")
            let old = try await client.call(Tell.self, told, idempotencyKey: "k", manifest: Self.older)
            #expect(old == Tell.Result(heard: "a"))
            heard.calls.withLock { calls in
                #expect(calls.map(\.0.tone) == ["low", nil])
                #expect(calls.map(\.1.version) == [RPCVersion(1, 1), RPCVersion(1, 0)])
                // Not one request in two forms, which would be refused as a mismatch.
                #expect(calls.map(\.1.idempotencyKey) == ["k", "k@1.0"])
            }
        }
    }

    @Test("What an older peer cannot do, or another major, is refused before anything is sent")
    func refusals() async throws {
        try await serve { client, _, heard in
            let manifests = [
                (Self.older, "1.0 knows no urgency"), (PeerManifest(release: 1, methods: [:]), "has no test.tell"),
                (PeerManifest(release: 3, methods: ["test.tell": RPCVersion(2, 0)]), "has test.tell as 2.0"),
            ]
            for (manifest, message) in manifests {
                let failure = await #expect(throws: Failure.self) {
                    try await client.call(Tell.self, .init(text: "a", tone: "urgent"), manifest: manifest)
                }
                #expect(failure?.kind == .unsupportedVersion && failure?.message.contains(message) == true)
            }
            // A later minor than ours takes ours.
            let later = PeerManifest(release: 3, methods: ["test.tell": RPCVersion(1, 7)])
            let answer = try await client.call(Tell.self, .init(text: "b"), manifest: later)
            #expect(answer.heard == "b")
            #expect(heard.calls.withLock { $0.count } == 1)
        }
    }

    @Test("A server says what it understands")
    func manifest() throws {
        let manifest = Rig().rpc.manifest
        #expect(manifest.release == AgentVersion.current)
        #expect(
            manifest.methods["test.double"] == RPCVersion(1, 2) && manifest.methods["test.fail"] == RPCVersion(1, 0))
        try manifest.check()
    }

    @Test(
        "What no peer can say of itself is refused",
        arguments: [
            PeerManifest(release: 0, methods: [:]), PeerManifest(release: 1, methods: ["": RPCVersion(1, 0)]),
            PeerManifest(release: 1, methods: ["a": RPCVersion(-1, 0)]),
            PeerManifest(release: 1, methods: [String(repeating: "a", count: 101): RPCVersion(1, 0)]),
            PeerManifest(
                release: 1,
                methods: Dictionary(uniqueKeysWithValues: (0...1_000).map { ("m\($0)", RPCVersion(1, 0)) })),
        ])
    func strange(manifest: PeerManifest) {
        #expect(throws: Failure.self) { try manifest.check() }
    }
}
