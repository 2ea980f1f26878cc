import ComputeAPI
import Database
import HTTP
import Model
import Testing

@Suite("Server groups")
struct ServerGroupTests {
    private func make(
        _ cloud: ComputeFixture, _ policy: String, as token: String = "p1/member", rules: JSON? = nil
    ) async -> ComputeFixture.Reply {
        var members: [String: JSON] = ["name": "together", "policy": .string(policy)]
        members["rules"] = rules
        return await cloud.send(
            .post, "os-server-groups", as: token, at: "2.64", .object(["server_group": .object(members)]))
    }

    @Test("One is made, listed, shown and deleted, with the members of each version")
    func life() async throws {
        let cloud = try await ComputeFixture()
        let made = await make(cloud, "anti-affinity", rules: ["max_server_per_host": 3])
        #expect(made.status == 200)
        let group = made.json["server_group"]
        #expect(group?["policy"] == "anti-affinity" && group?["rules"] == ["max_server_per_host": 3])
        #expect(group?["project_id"] == "p1" && group?["user_id"] == "u-p1" && group?["members"] == [])
        let path = "os-server-groups/\(group?["id"]?.text ?? "")"
        let old = await cloud.send(.get, path, at: "2.12").json["server_group"]
        #expect(Set(old?.members?.keys ?? [:].keys) == ["id", "name", "policies", "metadata", "members"])
        #expect(old?["policies"] == ["anti-affinity"] && old?["metadata"] == [:])
        #expect(await cloud.send(.get, "os-server-groups", at: "2.13").json["server_groups"]?[0]?["user_id"] == "u-p1")
        #expect(await cloud.send(.get, "os-server-groups", as: "p2/member").json["server_groups"] == [])
        #expect(await cloud.send(.get, path, as: "p2/member").status == 404)
        #expect(await cloud.send(.get, path, as: "p0/admin").status == 200)
        #expect(await cloud.send(.get, "os-server-groups?all_projects=1", as: "p1/member").status == 403)
        let all = await cloud.send(.get, "os-server-groups?all_projects=1", as: "p0/admin").json["server_groups"]
        #expect(all?.list?.count == 1)
        #expect(await cloud.send(.delete, path, as: "p2/member").status == 404)
        #expect(await cloud.send(.delete, path, as: "p1/reader").status == 403)
        #expect(await cloud.send(.delete, path).status == 204)
        #expect(await cloud.send(.delete, path).status == 404)
    }

    @Test(
        "What is wrong is refused",
        arguments: [
            ("2.64", ["name": "a", "policy": "together"]), ("2.64", ["name": "a"]), ("2.64", ["policy": "affinity"]),
            ("2.64", ["name": "a", "policy": "affinity", "rules": ["max_server_per_host": 2]]),
            ("2.64", ["name": "a", "policy": "anti-affinity", "rules": ["max_server_per_host": 0]]),
            ("2.64", ["name": "a", "policy": "anti-affinity", "rules": ["least": 1]]),
            ("2.64", ["name": "a", "policies": ["affinity"]]), ("2.63", ["name": "a", "policy": "affinity"]),
            ("2.14", ["name": "a", "policies": ["soft-affinity"]]),
            ("2.15", ["name": "a", "policies": ["affinity", "anti-affinity"]]),
            ("2.15", ["name": "a", "policies": []]),
            ("2.15", ["name": "", "policies": ["affinity"]]), ("2.15", ["name": "a", "policies": [1]]),
            ("2.15", ["name": "a", "policies": ["affinity"], "metadata": ["x": "y"]]),
        ] as [(String, JSON)])
    func refusals(version: String, body: JSON) async throws {
        let cloud = try await ComputeFixture()
        #expect(await cloud.send(.post, "os-server-groups", at: version, ["server_group": body]).status == 400)
        #expect(await cloud.send(.get, "os-server-groups").json["server_groups"] == [])
    }

    @Test("Lists come in pages by limit and offset")
    func pages() async throws {
        let cloud = try await ComputeFixture()
        for _ in 1...3 { _ = await make(cloud, "soft-affinity") }
        func count(_ query: String) async -> Int? {
            await cloud.send(.get, "os-server-groups?" + query).json["server_groups"]?.list?.count
        }
        #expect(await [count("limit=2"), count("offset=2"), count("limit=2&offset=2"), count("")] == [2, 1, 1, 3])
        #expect(await cloud.send(.get, "os-server-groups?offset=-1").status == 400)
    }

    @Test("Beyond the quota is 403 with the figures; limits show what is used")
    func quota() async throws {
        let settings = APISettings(quotas: QuotaLimits(serverGroups: 2), operationPatience: .zero)
        let cloud = try await ComputeFixture(settings: settings)
        for _ in 1...2 { #expect(await make(cloud, "affinity").status == 200) }
        let reply = await make(cloud, "affinity")
        #expect(reply.status == 403)
        #expect(
            reply.message
                == "Quota exceeded for server_groups: Requested 1, but already used 2 of 2 server_groups")
        #expect(await make(cloud, "affinity", as: "p2/member").status == 200)
        let limits = await cloud.send(.get, "limits").json["limits"]?["absolute"]
        #expect(limits?["totalServerGroupsUsed"] == 2 && limits?["maxServerGroups"] == 2)
    }
}
