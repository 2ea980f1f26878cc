import HTTP
import Model
import RPC
import Telemetry
import Testing

extension RPCClient {
    /// Why the call fails; `nil` when it does not.
    fileprivate func failure<M: RPCMethod>(
        _ method: M.Type, _ params: M.Params, timeout: Duration? = nil
    ) async -> Failure? {
        do {
            _ = try await call(method, params, timeout: timeout)
            return nil
        } catch {
            return error
        }
    }
}

@Suite("RPC client", .timeLimit(.minutes(1)))
struct RPCClientTests {
    /// Servers of rigs on free ports and a client of all of them, in that order.
    private func withClient(
        _ rigs: [Rig], credential: PeerCredential = Rig.api, before: [String] = [], isSpread: Bool = false,
        _ body: (RPCClient) async throws -> Void
    ) async throws {
        var servers: [HTTPServer] = []
        for rig in rigs {
            let server = HTTPServer(ServerConfiguration(), router: rig.router)
            try server.start()
            servers.append(server)
        }
        let http = HTTPClient()
        let urls = before + servers.map { "http://127.0.0.1:\($0.port)" }
        let client = RPCClient(
            http: http, peers: urls.map { PeerAddress(url: $0, credential: credential) }, isSpread: isSpread)
        var failure: (any Error)?
        do { try await body(client) } catch { failure = error }
        await http.shutdown()
        for server in servers { await server.stop(grace: .zero) }
        if let failure { throw failure }
    }

    @Test("A call crosses with its credential, its key and the request id of its task")
    func crossing() async throws {
        try await withClient([Rig()]) { client in
            let double = try await client.call(Double.self, .init(value: 21))
            #expect(double.value == 42)
            let id = RequestScope.makeID()
            let seen = try await RequestScope.$current.withValue(id) {
                try await client.call(WhoAmI.self, .init(), idempotencyKey: "k")
            }
            #expect(seen == .init(peer: "service:api", request: id.rawValue, scope: id.rawValue, key: "k"))
        }
    }

    @Test("The receiver's failure is thrown as it was")
    func failures() async throws {
        try await withClient([Rig()]) { client in
            let failure = Failure(.noValidHost, "12 hosts short of memory", isRetriable: true)
            await #expect(throws: failure) { try await client.call(Fail.self, .init(failure: failure)) }
            await #expect(throws: Failure.self) { try await client.call(Fail.self, .init(failure: nil)) }
        }
        try await withClient([Rig()], credential: PeerCredential(peer: "service:api", secret: "no")) { client in
            #expect(await client.failure(Double.self, .init(value: 1))?.kind == .unauthenticated)
        }
    }

    @Test("A dictionary among the parameters does not make a repetition another request")
    func sameBytes() async throws {
        let rig = Rig()
        try await withClient([rig]) { client in
            let labels = Dictionary(uniqueKeysWithValues: (0..<40).map { ("label \($0)", "\($0)") })
            for _ in 0..<5 {
                _ = try await client.call(Record.self, .init(text: "a", labels: labels), idempotencyKey: "k")
            }
            #expect(rig.deeds.recorded == ["a"])
        }
    }

    @Test("Peers share the calls, and those that are there take over from one that is not")
    func spread() async throws {
        let rigs = [Rig(), Rig()]
        try await withClient(rigs, isSpread: true) { client in
            for value in 1...20 { _ = try await client.call(Double.self, .init(value: value)) }
            #expect(rigs.map(\.deeds.recorded.count) == [10, 10])
        }
        let left = [Rig(), Rig()]
        try await withClient(left, before: ["http://127.0.0.1:1"], isSpread: true) { client in
            for value in 1...20 { _ = try await client.call(Double.self, .init(value: value)) }
            #expect(left.map(\.deeds.recorded.count).reduce(0, +) == 20)
            #expect(left.allSatisfy { $0.deeds.recorded.count >= 5 })
        }
    }

    @Test("Where one peer cannot be connected to, the next is asked")
    func failOver() async throws {
        let rig = Rig()
        try await withClient([rig], before: ["http://127.0.0.1:1", "http://127.0.0.1:2"]) { client in
            for value in 1...3 {
                let result = try await client.call(Double.self, .init(value: value))
                #expect(result.value == value * 2)
            }
            #expect(rig.deeds.recorded.count == 3)
        }
    }

    @Test("With nobody to connect to the failure may be tried again")
    func nobody() async throws {
        try await withClient([], before: ["http://127.0.0.1:1"]) { client in
            let failure = await client.failure(Double.self, .init(value: 1))
            #expect(failure?.kind == .unreachable)
            #expect(failure?.isRetriable == true)
        }
    }

    @Test("A call that takes too long fails as a timeout and is not sent to another peer")
    func timeout() async throws {
        let hold = Gate()
        let (slow, other) = (Rig(hold: hold), Rig())
        try await withClient([slow, other]) { client in
            let failure = await client.failure(Record.self, .init(text: "a"), timeout: .milliseconds(200))
            #expect(failure?.kind == .timeout)
            #expect(failure?.isRetriable == true)
            #expect(other.deeds.recorded.isEmpty)
            await hold.open()
        }
    }

    @Test(
        "No credential travels beyond this machine in plaintext",
        arguments: [
            "http://192.168.7.1:8781", "http://example.org", "http://127.0.0.1.example.org:80", "http://[::2]:1",
            "http://127.0.0.1@example.org/", "http://localhost.example.org", "ftp://127.0.0.1",
            "HTTP://example.org", "http://127.0.0.1:80@example.org/", "http:/\\example.org", "http://[::1]example.org",
        ])
    func plaintext(url: String) async throws {
        #expect(throws: Failure.self) { try requireConfidentiality(of: url, isPlaintextAllowed: false) }
        let http = HTTPClient()
        let client = RPCClient(http: http, peers: [PeerAddress(url: url, credential: Rig.api)])
        #expect(await client.failure(Double.self, .init(value: 1))?.kind == .forbidden)
        await http.shutdown()
    }

    @Test(
        "Loopback and TLS are confidential",
        arguments: [
            "http://127.0.0.1:8781", "http://127.9.9.9", "http://localhost:1", "http://[::1]:8781",
            "https://example.org",
            "http://127.0.0.1:1/path",
        ])
    func confidential(url: String) throws {
        try requireConfidentiality(of: url, isPlaintextAllowed: false)
        try requireConfidentiality(of: "http://example.org", isPlaintextAllowed: true)
    }

    @Test("An answer that is no JSON-RPC is a failure, not a crash")
    func strangeAnswers() async throws {
        let answers = [
            (200, "<html>"), (502, ""), (200, "{}"), (200, "[1]"),
            (200, #"{"jsonrpc":"2.0","id":99,"result":{"value":2}}"#),
        ]
        for (status, body) in answers {
            var router = Router()
            router.on(.post, "/rpc") { _ in .text(status, body) }
            let server = HTTPServer(ServerConfiguration(), router: router)
            try server.start()
            let http = HTTPClient()
            let client = RPCClient(
                http: http, peers: [PeerAddress(url: "http://127.0.0.1:\(server.port)", credential: Rig.api)])
            let failure = await client.failure(Double.self, .init(value: 1))
            #expect(failure?.kind == (status == 502 ? .unreachable : .internalError), "\(body)")
            await http.shutdown()
            await server.stop(grace: .zero)
        }
    }
}
