import ComputeAPI
import Crypto
import HTTP
import Model
import Testing

@Suite("Key pairs")
struct KeyPairTests {
    private static let publicKey =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl someone@example"

    @Test("A key is made, given out once, and written into servers")
    func create() async throws {
        let cloud = try await ComputeFixture()
        let reply = await cloud.send(.post, "os-keypairs", at: "2.2", ["keypair": ["name": "k 1_-"]])
        #expect(reply.status == 201)
        let pair = try #require(reply.json["keypair"])
        #expect(pair["private_key"]?.text?.hasPrefix("-----BEGIN") == true && pair["type"] == "ssh")
        let publicKey = try #require(pair["public_key"]?.text)
        #expect(pair["fingerprint"]?.text == (try SSHPublicKey(authorizedKey: publicKey)).fingerprintMD5)
        let shown = await cloud.send(.get, "os-keypairs/k%201_-", at: "2.2").json["keypair"]
        #expect(shown?["private_key"] == nil && shown?["public_key"]?.text == publicKey)
        #expect(shown?["deleted"] == false && shown?["id"]?.int != nil && shown?["user_id"] == "u-p1")
        let server = try await cloud.makeServer(["key_name": "k 1_-"])
        #expect(try await cloud.instance(server)?.publicKey == publicKey)
    }

    @Test(
        "Codes and members follow the version",
        arguments: [("2.1", 200, 202, false), ("2.2", 201, 204, true)])
    func versions(version: String, created: Int, deleted: Int, hasType: Bool) async throws {
        let cloud = try await ComputeFixture()
        let body: JSON = ["keypair": ["name": "k", "public_key": .string(Self.publicKey)]]
        let reply = await cloud.send(.post, "os-keypairs", at: version, body)
        #expect(reply.status == created)
        #expect((reply.json["keypair"]?["type"] != nil) == hasType)
        let listed = await cloud.send(.get, "os-keypairs", at: version).json["keypairs"]?[0]?["keypair"]
        #expect(
            Set(listed?.members?.keys ?? [:].keys)
                == Set(["name", "public_key", "fingerprint"] + (hasType ? ["type"] : [])))
        #expect(await cloud.send(.post, "os-keypairs", at: version, body).status == 409)
        #expect(await cloud.send(.delete, "os-keypairs/k", at: version).status == deleted)
        #expect(await cloud.send(.delete, "os-keypairs/k", at: version).status == 404)
        #expect(await cloud.send(.get, "os-keypairs/k", at: version).status == 404)
    }

    @Test(
        "Bad names, keys and members are 400",
        arguments: [
            ["name": ""], ["name": "a.b"], ["name": "ö"], ["name": " a"], ["name": 1],
            ["name": .string(String(repeating: "k", count: 256))],
            ["name": "k", "public_key": "ssh-rsa nothing"], ["name": "k", "public_key": ""],
            ["name": "k", "colour": "red"],
            ["name": "k", "public_key": .string("ssh-rsa " + String(repeating: "A", count: 20_000))],
            ["name": "k", "type": "pgp"],
        ] as [[String: JSON]])
    func refused(body: [String: JSON]) async throws {
        let cloud = try await ComputeFixture()
        #expect(await cloud.send(.post, "os-keypairs", at: "2.10", ["keypair": .object(body)]).status == 400)
    }

    @Test("A user's keys are the user's; administrators name another user from 2.10 on")
    func owners() async throws {
        let cloud = try await ComputeFixture()
        let body: JSON = ["keypair": ["name": "k", "public_key": .string(Self.publicKey)]]
        #expect(await cloud.send(.post, "os-keypairs", at: "2.10", body).status == 201)
        #expect(await cloud.send(.get, "os-keypairs/k", as: "p2/member").status == 404)
        #expect(await cloud.send(.get, "os-keypairs/k?user_id=u-p1", as: "p2/member", at: "2.10").status == 403)
        #expect(await cloud.send(.get, "os-keypairs/k?user_id=u-p1", as: "p2/admin", at: "2.10").status == 200)
        #expect(await cloud.send(.get, "os-keypairs?user_id=u-p1", as: "p1/member", at: "2.10").status == 200)
        #expect(await cloud.send(.delete, "os-keypairs/k?user_id=u-p1", as: "p2/manager", at: "2.10").status == 403)
    }

    @Test("The quota of keys is per user, and lists come in pages from 2.35")
    func quota() async throws {
        let cloud = try await ComputeFixture(settings: APISettings(quotas: .init(keyPairs: 2)))
        for (name, status) in [("a", 201), ("b", 201), ("c", 403)] {
            let body: JSON = ["keypair": ["name": .string(name), "public_key": .string(Self.publicKey)]]
            #expect(await cloud.send(.post, "os-keypairs", at: "2.35", body).status == status)
        }
        let page = await cloud.send(.get, "os-keypairs?limit=1", at: "2.35")
        #expect(page.json["keypairs"]?.list?.count == 1 && page.json["keypairs_links"]?[0]?["rel"] == "next")
        #expect(
            await cloud.send(.get, "os-keypairs?limit=1&marker=a", at: "2.35").json["keypairs"]?[0]?["keypair"]?["name"]
                == "b")
        #expect(await cloud.send(.get, "os-keypairs?limit=1", at: "2.34").json["keypairs"]?.list?.count == 2)
    }
}
