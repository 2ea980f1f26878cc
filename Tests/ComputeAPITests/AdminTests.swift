import ComputeAPI
import Crypto
import Database
import HTTP
import Model
import Testing

@Suite("Apus's own calls")
struct AdminTests {
    private func send(
        _ cloud: ComputeFixture, _ method: HTTPMethod, _ path: String, as token: String = "p0/admin",
        _ body: JSON? = nil
    ) async -> ComputeFixture.Reply {
        await cloud.send(cloud.admin, method, path, as: token, body)
    }

    @Test("A host is enrolled by a token that opens once, for fifteen minutes")
    func enroll() async throws {
        let cloud = try await ComputeFixture()
        let reply = await send(cloud, .post, "/hosts/kvm1/enroll")
        let token = try #require(reply.json["token"]?.text)
        #expect(token.count == 48 && reply.json["expires_at"] == "2026-01-01T00:15:00Z")
        let hash = digest(.sha256, of: Array(token.utf8))
        let now = cloud.clock.now
        #expect(try await cloud.database.credentials.isTokenValid(hash, host: HostName("kvm1"), now: now))
        #expect(
            try await !cloud.database.credentials.isTokenValid(hash, host: HostName("kvm1"), now: now + .seconds(900)))
        let again = await send(cloud, .post, "/hosts", ["host": ["name": "kvm1"]])
        #expect(again.json["host"]?["token"]?.text?.count == 48)
        #expect(try await !cloud.database.credentials.isTokenValid(hash, host: HostName("kvm1"), now: now))
        #expect(await send(cloud, .post, "/hosts/a%20b/enroll").status == 400)
    }

    @Test("With a certificate authority the token carries its fingerprint")
    func fingerprint() async throws {
        let cloud = try await ComputeFixture()
        let authority = ControlPlaneAuthority(settings: cloud.database.settings) { ComputeFixture.start }
        try await authority.establish()
        let token = await send(cloud, .post, "/hosts/kvm1/enroll").json["token"]?.text ?? ""
        let parts = token.split(separator: ".")
        #expect(parts.count == 2 && parts.first?.count == 48)
        #expect(String(parts.last ?? "") == (try await authority.fingerprint()))
    }

    @Test("A host that joined is rotated and revoked; one that has not is not found")
    func rotateAndRevoke() async throws {
        let cloud = try await ComputeFixture()
        #expect(await send(cloud, .post, "/hosts/kvm1/rotate").status == 404)
        #expect(await send(cloud, .delete, "/hosts/kvm1").status == 404)
        let token = await send(cloud, .post, "/hosts/kvm1/enroll").json["token"]?.text ?? ""
        let admission = HostAdmission(
            url: "http://127.0.0.1:8783", hostSecretHash: [1], conductorSecret: "s", certificateFingerprint: nil)
        #expect(
            try await cloud.database.credentials.admit(
                HostName("kvm1"), tokenHash: digest(.sha256, of: Array(token.utf8)), admission, now: cloud.clock.now))
        #expect(await send(cloud, .get, "/hosts").json["hosts"]?[0]?["url"] == "http://127.0.0.1:8783")
        #expect(await send(cloud, .post, "/hosts/kvm1/rotate").json["token"]?.text?.count == 48)
        #expect(await send(cloud, .post, "/hosts/kvm1/revoke").status == 204)
        #expect(try await cloud.database.credentials.secret(toward: HostName("kvm1")) == nil)
        #expect(await send(cloud, .post, "/hosts/kvm1/rotate").status == 409)
        #expect(await send(cloud, .get, "/hosts").json["hosts"]?[0]?["revoked_at"]?.text != nil)
    }

    @Test("Tasks are listed and shown without their state, which may hold a password, and cancelled")
    func tasks() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.makeServer(["adminPass": "very secret"])
        let list = await send(cloud, .get, "/tasks?instance=\(server)")
        let task = try #require(list.json["tasks"]?[0])
        #expect(task["kind"] == "build" && task["status"] == "pending" && task["instance_id"]?.text == server)
        #expect(!String(decoding: list.response.bytes, as: UTF8.self).contains("very secret"))
        let id = try #require(task["id"]?.text)
        #expect(await send(cloud, .get, "/tasks/\(id)").json["task"] == task)
        let cancelled = await send(cloud, .post, "/tasks/\(id)/cancel")
        #expect(cancelled.status == 202 && cancelled.json["task"]?["is_cancel_requested"] == true)
        #expect(await send(cloud, .get, "/tasks/aaaaaaaa-1111-4111-8111-111111111111").status == 404)
        #expect(await send(cloud, .get, "/tasks/x").status == 404)
    }

    @Test("All of it is for administrators", arguments: ["/tasks", "/hosts"])
    func policy(path: String) async throws {
        let cloud = try await ComputeFixture()
        for (method, pattern) in cloud.admin.routes {
            let target = pattern.replacing("{", with: "").replacing("}", with: "")
            for role in ["reader", "member", "manager"] {
                #expect(
                    await send(cloud, method, target, as: "p1/\(role)").status == 403, "\(method.rawValue) \(pattern)")
            }
        }
        #expect(await cloud.send(cloud.admin, .get, path, as: nil).status == 401)
        #expect(await send(cloud, .get, path).status == 200)
    }
}
