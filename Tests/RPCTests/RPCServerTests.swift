import HTTP
import Model
import RPC
import Testing

private func request(_ method: String, _ params: String = "{}", version: String? = nil, id: String = "1") -> String {
    let version = version.map { #","version":"\#($0)""# } ?? ""
    return #"{"jsonrpc":"2.0","id":\#(id),"method":"\#(method)"\#(version),"params":\#(params)}"#
}

@Suite("RPC server", .timeLimit(.minutes(1)))
struct RPCServerTests {
    @Test("A call is answered with its result under its own id", arguments: ["1", "-7", #""text""#, "1.5"])
    func result(id: String) async throws {
        let response = await Rig().post(request("test.double", #"{"value":21}"#, id: id))
        #expect(response.status == 200)
        #expect(
            String(decoding: response.bytes, as: UTF8.self) == #"{"jsonrpc":"2.0","id":\#(id),"result":{"value":42}}"#)
    }

    @Test(
        "What is not one JSON-RPC 2.0 request is refused with the number that the standard gives",
        arguments: [
            ("", -32_700), ("{", -32_700), ("nonsense", -32_600), ("\u{0}", -32_600), ("{}{}", -32_700),
            (#"{"jsonrpc":"2.0","id":1,"method":"test.double","params":{"value":1}"#, -32_700),
            (#"{"jsonrpc":"2.0","id":1,"method":"test.double","x":[}]}"#, -32_700),
            (#"{"jsonrpc":"2.0","id":1,"method":"test.double","x":"#, -32_700),
            (#"{"jsonrpc":"2.0" "id":1}"#, -32_700), (#"{"a\"#, -32_700), ("[]", -32_600),
            ("[" + request("test.double", #"{"value":1}"#) + "]", -32_600), ("42", -32_600), ("{}", -32_600),
            (#"{"id":1,"method":"test.double"}"#, -32_600), (#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, -32_600),
            (#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, -32_600), (#"{"jsonrpc":"2.0","method":"test.double"}"#, -32_600),
            (request("test.double", id: "null"), -32_600), (request("test.double", id: "{}"), -32_600),
            (request("test.double", id: "01"), -32_600), (request("test.double", id: "1x"), -32_600),
            (request("test.double", id: String(repeating: "1", count: 300)), -32_600),
            (#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32_600), (#"{"jsonrpc":"2.0","id":1}"#, -32_600),
            (request("test.double", String(repeating: "[", count: 100_000)), -32_700),
            (request("test.double", String(repeating: "[", count: 65) + String(repeating: "]", count: 65)), -32_700),
        ])
    func malformed(body: String, code: Int) async throws {
        let rig = Rig()
        let answer = try await rig.answer(body)
        #expect(answer["error"]?["code"]?.int == code)
        #expect(answer["jsonrpc"] == "2.0")
        #expect(answer["result"] == nil)
        #expect(rig.deeds.recorded.isEmpty)
    }

    @Test(
        "Parameters that do not fit are named without their values",
        arguments: [
            ("{}", "test.double: params: member value is missing"),
            (#"{"value":"secret"}"#, "test.double: value: not of type"), ("[21]", "test.double: params"),
            (#"{"value":1e999}"#, "test.double"), (#"{"value":tru}"#, "test.double"), ("\"x\"", "test.double"),
        ])
    func parameters(params: String, message: String) async throws {
        let rig = Rig()
        let error = try await rig.answer(request("test.double", params))["error"]
        #expect(error?["code"]?.int == -32_602)
        #expect(error?["data"]?["kind"] == "invalid_parameters")
        #expect(error?["message"]?.text?.hasPrefix(message) == true)
        #expect(error?["message"]?.text?.contains("secret") == false)
        #expect(rig.deeds.recorded.isEmpty)
    }

    @Test("Unknown members are ignored, of the same one twice the last counts, and names may be escaped")
    func unknownMembers() async throws {
        let rig = Rig()
        let body = #"""
             {"x": {"a": [1, "]}", {"b": "\""}]}, "id": 9, "jsonrpc": "2.0", "params": {"value": 1, "new": []},
              "m\u0065thod": "test.double", "params": {"value": 4}}
            """#
        #expect(try await rig.answer(body) == ["jsonrpc": "2.0", "id": 9, "result": ["value": 8]])
        let many = (0..<100).map { #""m\#($0)":0"# }.joined(separator: ",")
        #expect(try await rig.answer("{\(many)}")["error"]?["code"]?.int == -32_700)
    }

    @Test("The receiver takes every minor of its major version, and no other major")
    func versions() async throws {
        let rig = Rig()
        for version in ["1.0", "1.2", "1.99"] {
            let answer = try await rig.answer(request("test.double", #"{"value":1}"#, version: version))
            #expect(answer["result"] != nil)
        }
        for version in ["0.9", "2.0"] {
            let answer = try await rig.answer(request("test.double", #"{"value":1}"#, version: version))
            #expect(answer["error"]?["data"]?["kind"] == "unsupported_version")
        }
        for version in ["", "1", "1.2.3", "a.b"] {
            let answer = try await rig.answer(request("test.double", #"{"value":1}"#, version: version))
            #expect(answer["error"]?["data"]?["kind"] == "invalid_parameters")
        }
    }

    @Test(
        "Without a valid credential nothing is read and nothing is done",
        arguments: [
            nil, PeerCredential(peer: "service:api", secret: "wrong"), PeerCredential(peer: "service:api", secret: ""),
            PeerCredential(peer: "host:h1", secret: "api secret"), PeerCredential(peer: "", secret: "api secret"),
            PeerCredential(peer: String(repeating: "x", count: 2_000), secret: "api secret"),
        ])
    func credentials(credential: PeerCredential?) async throws {
        let rig = Rig()
        let response = await rig.post("not even JSON", credential)
        #expect(response.status == 401)
        #expect(try JSON(parsing: response.bytes)["error"]?["data"]?["kind"] == "unauthenticated")
        #expect(await rig.post(request("test.double", #"{"value":1}"#), credential).status == 401)
        #expect(rig.deeds.recorded.isEmpty)
    }

    @Test("A peer may call what its role is allowed, and no more")
    func roles() async throws {
        let rig = Rig()
        let refused = try await rig.answer(request("test.double", #"{"value":1}"#), Rig.host)
        #expect(refused["error"]?["data"]?["kind"] == "forbidden")
        #expect(rig.deeds.recorded.isEmpty)
        let unknown = try await rig.answer(request("test.none"), Rig.host)
        #expect(unknown["error"]?["data"]?["kind"] == "method_not_found")
        #expect(unknown["error"]?["code"]?.int == -32_601)
    }

    @Test("A revoked credential is refused as soon as the server has forgotten it")
    func revocation() async throws {
        actor Changing: PeerVerifier {
            var isValid = true
            func revoke() { isValid = false }
            func verify(peer: String, secret: String) -> Peer? { isValid ? .service("api") : nil }
        }
        let verifier = Changing()
        let server = RPCServer(
            name: "test", verifier: verifier, idempotency: MemoryIdempotencyStore(), now: { Timestamp(seconds: 1) })
        var router = Router()
        server.mount(on: &router)
        let discover = HTTPRequest(
            .post, "/rpc", headers: ["X-Apus-Peer": "service:api", "Authorization": "Bearer x"],
            body: Array(request("rpc.discover").utf8))
        #expect(await router.handle(discover).status == 200)
        await verifier.revoke()
        server.forgetVerified()
        #expect(await router.handle(discover).status == 401)
    }

    @Test("Failures cross as they are; what was not foreseen tells nothing of itself")
    func failures() async throws {
        let rig = Rig()
        let known = try await rig.answer(
            request("test.fail", #"{"failure":{"kind":"no_valid_host","message":"none","retriable":true}}"#),
            headers: ["X-OpenStack-Request-Id": "req-0f6a5d1c-8a1c-4f0e-9a62-0a5d3b1f2c3d"])
        #expect(
            known["error"]?["data"] == [
                "kind": "no_valid_host", "message": "none", "retriable": true,
                "requestID": "req-0f6a5d1c-8a1c-4f0e-9a62-0a5d3b1f2c3d",
            ])
        let unknown = await rig.post(request("test.fail"))
        let text = String(decoding: unknown.bytes, as: UTF8.self)
        #expect(text.contains("internal_error"))
        #expect(!text.contains("hunter2"))
    }

    @Test("A request id is accepted in its form only; otherwise the server makes one")
    func requestID() async throws {
        let rig = Rig()
        let good = "req-0f6a5d1c-8a1c-4f0e-9a62-0a5d3b1f2c3d"
        let taken = try await rig.answer(request("test.who_am_i"), headers: ["X-OpenStack-Request-Id": good])["result"]
        #expect(taken?["request"]?.text == good)
        #expect(taken?["scope"]?.text == good)
        let made = try await rig.answer(request("test.who_am_i"), headers: ["X-OpenStack-Request-Id": "evil\nline"])
        #expect(made["result"]?["request"]?.text?.hasPrefix("req-") == true)
        #expect(made["result"]?["request"]?.text?.contains("evil") == false)
    }

    @Test("rpc.discover lists every method with version, kind and roles")
    func discovery() async throws {
        let document = try await Rig().answer(request("rpc.discover"))["result"]
        #expect(document?["openrpc"] == "1.3.2")
        let names = document?["methods"]?.list?.compactMap { $0["name"]?.text }
        #expect(names == ["test.double", "test.fail", "test.record", "test.who_am_i"])
        let record = document?["methods"]?[2]
        #expect(record?["x-kind"] == "cast")
        #expect(record?["x-version"] == "1.0")
        #expect(record?["x-roles"] == ["api", "host"])
    }

    @Test("A body over the limit is refused")
    func bodyLimit() async {
        let body = [UInt8](repeating: 0x20, count: RPCServer.bodyLimit + 1)
        #expect(await Rig().router.handle(HTTPRequest(.post, "/rpc", body: body)).status == 413)
    }
}
