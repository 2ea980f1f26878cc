import ComputeAPI
import Database
import HTTP
import Identity
import Model
import Testing

@Suite("Flavors")
struct FlavorTests {
    @Test("The seeded flavors are listed by id, in pages, and filtered by what they have")
    func list() async throws {
        let cloud = try await ComputeFixture()
        func names(_ query: String, as token: String = "p1/member") async -> String {
            let reply = await cloud.send(.get, "flavors?" + query, as: token)
            return reply.json["flavors"]?.list?.compactMap { $0["name"]?.text?.dropFirst(3).first }.map(String.init)
                .joined() ?? "\(reply.status)"
        }
        #expect(await names("") == "tsmlnm")
        #expect(await names("minRam=2048") == "sml")
        #expect(await names("minDisk=40&minRam=1") == "ml")
        #expect(await names("limit=2&marker=2") == "ml")
        #expect(await names("sort_key=memory_mb&sort_dir=desc&limit=2") == "lm")
        for bad in ["limit=x", "limit=-1", "marker=nothing", "minRam=x", "sort_key=secret", "sort_dir=up"] {
            #expect(await names(bad) == "400", "\(bad)")
        }
        let page = await cloud.send(.get, "flavors/detail?limit=1")
        #expect(
            page.json["flavors_links"]?[0]?["href"] == "http://cloud:8774/compute/v2.1/flavors/detail?limit=1&marker=1")
    }

    @Test(
        "A flavor has exactly the members of its version",
        arguments: [("2.1", []), ("2.55", ["description"]), ("2.61", ["description", "extra_specs"])]
            as [(String, Set<String>)])
    func members(version: String, more: Set<String>) async throws {
        let cloud = try await ComputeFixture()
        let base: Set<String> = [
            "id", "name", "links", "ram", "vcpus", "disk", "swap", "OS-FLV-EXT-DATA:ephemeral",
            "OS-FLV-DISABLED:disabled",
            "os-flavor-access:is_public", "rxtx_factor",
        ]
        let shown = await cloud.send(.get, "flavors/42", at: version).json["flavor"]
        #expect(Set(shown?.members?.keys ?? [:].keys) == base.union(more))
        #expect(shown?["swap"] == "" && shown?["ram"] == 64)
        let detailed = await cloud.send(.get, "flavors/detail?limit=1", at: version).json["flavors"]?[0]
        #expect(Set(detailed?.members?.keys ?? [:].keys) == base.union(more))
    }

    @Test("Administrators make flavors, with ids of many kinds, and remove them")
    func create() async throws {
        let cloud = try await ComputeFixture()
        func create(_ more: [String: JSON], at version: String = "2.62") async -> ComputeFixture.Reply {
            let least: [String: JSON] = ["name": "f", "ram": "64", "vcpus": 1, "disk": 0]
            return await cloud.send(
                .post, "flavors", as: "p0/admin", at: version, ["flavor": .object(least.merging(more) { $1 })])
        }
        for (index, id) in [JSON.integer(7), "auto", .null, "my id", "x-1"].enumerated() {
            let reply = await create(["name": .string("f\(index)"), "id": id, "swap": 8, "description": "d"])
            #expect(reply.status == 200 && reply.json["flavor"]?["swap"] == 8, "\(id)")
            let made = reply.json["flavor"]?["id"]?.text ?? ""
            #expect(await cloud.send(.get, "flavors/\(PercentEncoding.encode(made))").status == 200)
            #expect(await cloud.send(.delete, "flavors/\(PercentEncoding.encode(made))", as: "p0/admin").status == 202)
            #expect(await cloud.send(.get, "flavors/\(PercentEncoding.encode(made))").status == 404)
        }
        for bad in [
            ["vcpus": 0], ["ram": 0], ["disk": -1], ["name": ""], ["ram": "much"], ["rxtx_factor": 0], ["id": ""],
            ["id": " x"],
            ["name": .string(String(repeating: "x", count: 256))], ["colour": "red"], ["swap": -1],
            ["os-flavor-access:is_public": 7],
        ] as [[String: JSON]] {
            #expect(await create(bad).status == 400, "\(bad)")
        }
        #expect(await create(["description": "d"], at: "2.54").status == 400)
        #expect(await create(["name": "m1.nano"]).status == 409)
        #expect(await create(["id": "42"]).status == 409)
    }

    @Test("A private flavor is there for the projects that have access, and only as long")
    func access() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.database.identity.insert(
            ProjectRecord(id: ProjectID("p1"), domainID: "default", name: "p1", createdAt: ComputeFixture.start))
        for (id, isPublic) in [("p", false), ("q", false), ("open", true)] {
            let body: JSON = [
                "flavor": [
                    "name": .string(id), "id": .string(id), "ram": 1, "vcpus": 1, "disk": 1,
                    "os-flavor-access:is_public": .bool(isPublic),
                ]
            ]
            #expect(await cloud.send(.post, "flavors", as: "p0/admin", body).status == 200)
        }
        func act(
            _ action: String, _ tenant: JSON, on id: String = "p", as token: String = "p0/admin",
            at version: String = "2.7"
        ) async -> ComputeFixture.Reply {
            await cloud.send(
                .post, "flavors/\(id)/action", as: token, at: version,
                .object([action: .object(["tenant": tenant])]))
        }
        #expect(await cloud.send(.get, "flavors/p/os-flavor-access", as: "p0/admin").json == ["flavor_access": []])
        let granted = await act("addTenantAccess", "p1")
        #expect(granted.status == 200)
        #expect(granted.json == ["flavor_access": [["flavor_id": "p", "tenant_id": "p1"]]])
        #expect(await act("addTenantAccess", "p1").status == 409)
        #expect(await act("addTenantAccess", "nobody").status == 400)
        #expect(await act("addTenantAccess", 7).status == 400)
        #expect(await act("addTenantAccess", "p1", on: "nothing").status == 404)
        #expect(await act("addTenantAccess", "p2", as: "p1/member").status == 403)
        #expect(await act("lendTenantAccess", "p1").status == 400)
        // The list of a public flavor is a matter of the first versions only.
        #expect(await act("addTenantAccess", "p1", on: "open").status == 409)
        #expect(await act("addTenantAccess", "p1", on: "open", at: "2.6").status == 200)
        #expect(await cloud.send(.get, "flavors/open/os-flavor-access", as: "p0/admin").status == 404)
        #expect(await cloud.send(.get, "flavors/p/os-flavor-access", as: "p1/member").status == 403)

        #expect(await cloud.send(.get, "flavors/p").status == 200)
        #expect(await cloud.send(.get, "flavors/q").status == 404)
        #expect(await cloud.send(.get, "flavors?is_public=false").json["flavors"]?.list?.count == 8)
        #expect(await cloud.send(.get, "flavors/p", as: "p2/member").status == 404)
        #expect(await cloud.send(.get, "flavors", as: "p2/member").json["flavors"]?.list?.count == 7)
        #expect(await cloud.send(.post, "servers", ComputeFixture.server(["flavorRef": "p"])).status == 202)

        #expect(await act("removeTenantAccess", "p1").json == ["flavor_access": []])
        #expect(await act("removeTenantAccess", "p1").status == 404)
        #expect(await cloud.send(.get, "flavors/p").status == 404)
        #expect(await cloud.send(.post, "servers", ComputeFixture.server(["flavorRef": "p"])).status == 400)
        // A later flavor of the same id is not that of the project's.
        #expect(await act("addTenantAccess", "p1").status == 200)
        #expect(await cloud.send(.delete, "flavors/p", as: "p0/admin").status == 202)
        #expect(try await cloud.database.flavorAccess.projects(of: FlavorID("p")).isEmpty)
    }

    @Test("A private flavor is there for administrators only")
    func privateFlavor() async throws {
        let cloud = try await ComputeFixture()
        let body: JSON = [
            "flavor": ["name": "p", "id": "p", "ram": 1, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": false]
        ]
        #expect(await cloud.send(.post, "flavors", as: "p0/admin", body).status == 200)
        #expect(await cloud.send(.get, "flavors/p").status == 404)
        #expect(await cloud.send(.get, "flavors?is_public=None").json["flavors"]?.list?.count == 6)
        #expect(await cloud.send(.get, "flavors?is_public=None", as: "p0/admin").json["flavors"]?.list?.count == 7)
        #expect(await cloud.send(.get, "flavors?is_public=false", as: "p0/admin").json["flavors"]?.list?.count == 1)
        #expect(await cloud.send(.get, "flavors?is_public=perhaps", as: "p0/admin").status == 400)
        #expect(await cloud.send(.post, "servers", ComputeFixture.server(["flavorRef": "p"])).status == 400)
    }

    @Test("Extra specs are merged, replaced one by one and removed")
    func extraSpecs() async throws {
        let cloud = try await ComputeFixture()
        let path = "flavors/42/os-extra_specs"
        let added = await cloud.send(.post, path, as: "p0/admin", ["extra_specs": ["hw:a": "1", "b": 2]])
        #expect(added.json == ["extra_specs": ["hw:a": "1", "b": "2"]])
        #expect(await cloud.send(.put, path + "/b", as: "p0/admin", ["b": "3"]).json == ["b": "3"])
        #expect(await cloud.send(.get, path).json == ["extra_specs": ["hw:a": "1", "b": "3"]])
        #expect(await cloud.send(.get, path + "/hw:a").json == ["hw:a": "1"])
        #expect(await cloud.send(.put, path + "/b", as: "p0/admin", ["c": "3"]).status == 400)
        #expect(await cloud.send(.put, path + "/b", as: "p0/admin", ["b": "3", "c": "4"]).status == 400)
        #expect(await cloud.send(.post, path, as: "p0/admin", ["extra_specs": ["ö": "1"]]).status == 400)
        #expect(await cloud.send(.post, path, as: "p0/admin", ["extra_specs": ["a": [:]]]).status == 400)
        let flaw = await cloud.send(.put, path + "/hw:cpu_cores", as: "p0/admin", ["hw:cpu_cores": "many"])
        #expect(flaw.status == 400)
        #expect(flaw.message.contains("hw:cpu_cores (flavor extra spec) = 'many': a whole number from 1 is wanted"))
        #expect(await cloud.send(.delete, path + "/b", as: "p0/admin").status == 200)
        #expect(await cloud.send(.get, path + "/b").status == 404)
        #expect(await cloud.send(.delete, path + "/b", as: "p0/admin").status == 404)
        #expect(await cloud.send(.get, "flavors/nothing/os-extra_specs").status == 404)
    }
}
