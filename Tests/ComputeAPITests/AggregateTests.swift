import Database
import HTTP
import Model
import Tasks
import Testing

@Suite("Aggregates and zones")
struct AggregateTests {
    private func cloud() async throws -> ComputeFixture {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        try await cloud.addHost("kvm2", uuid: "6f9619ff-8b86-4011-b42d-00c04fc964f0")
        return cloud
    }

    private func send(
        _ cloud: ComputeFixture, _ method: HTTPMethod, _ path: String, at version: String = "2.41", _ body: JSON? = nil
    ) async -> ComputeFixture.Reply {
        await cloud.send(method, path, as: "p0/admin", at: version, body)
    }

    private func make(_ cloud: ComputeFixture, _ name: String, zone: String? = nil) async -> Int {
        let more: [String: JSON] = zone.map { ["availability_zone": .string($0)] } ?? [:]
        let body = JSON.object(["aggregate": .object(["name": .string(name)].merging(more) { $1 })])
        return await send(cloud, .post, "os-aggregates", body).json["aggregate"]?["id"]?.int ?? -1
    }

    private func add(_ cloud: ComputeFixture, _ host: String, to id: Int) async -> ComputeFixture.Reply {
        await send(cloud, .post, "os-aggregates/\(id)/action", ["add_host": ["host": .string(host)]])
    }

    @Test("Each host of an aggregate gets a task that caches the images named, for a client of 2.81")
    func images() async throws {
        let cloud = try await cloud()
        let id = await make(cloud, "warm")
        for host in ["kvm1", "kvm2"] { #expect(await add(cloud, host, to: id).status == 200) }
        let path = "os-aggregates/\(id)/images"
        func ask(_ body: JSON, at version: String = "2.81", as token: String = "p0/admin") async -> Int {
            await cloud.send(.post, path, as: token, at: version, body).status
        }
        let wanted: JSON = ["cache": [["id": .string(ComputeFixture.image)]]]
        #expect(await ask(wanted, at: "2.80") == 404)
        #expect(await ask(wanted, as: "p1/member") == 403)
        let twice: JSON = ["cache": [["id": .string(ComputeFixture.image)], ["id": .string(ComputeFixture.image)]]]
        let many = JSON.array(Array(repeating: ["id": .string(ComputeFixture.image)], count: 65))
        for bad in [
            [:], ["cache": []], ["cache": "all"], ["cache": [["id": 7]]], ["cache": [["id": "x"]]], ["cache": [[:]]],
            ["cache": [["id": "00000000-0000-4000-8000-000000000000"]]], twice, .object(["cache": many]),
            ["cache": [["id": .string(ComputeFixture.image), "more": 1]]],
            ["cache": [["id": .string(ComputeFixture.image)]], "x": 1],
        ] as [JSON] {
            #expect(await ask(bad) == 400, "\(bad)")
        }
        #expect(
            await send(cloud, .post, "os-aggregates/77/images", at: "2.81", wanted).status == 404)
        #expect(try await cloud.database.tasks.list(instance: nil, unfinishedOnly: false, limit: 9).isEmpty)

        #expect(await ask(wanted) == 202)
        let tasks = try await cloud.database.tasks.list(instance: nil, unfinishedOnly: true, limit: 9)
        let states = try tasks.map { try TaskEngine.state(CacheImagesTaskState.self, of: $0) }
        #expect(Set(states.map(\.host.rawValue)) == ["kvm1", "kvm2"])
        #expect(states.allSatisfy { $0.images.map(\.id.rawValue) == [ComputeFixture.image] && $0.cached == 0 })
        #expect(tasks.allSatisfy { $0.kind == TaskKind.cacheImages })
    }

    @Test("One is made, shown, renamed, given hosts and metadata, and deleted when it is empty")
    func life() async throws {
        let cloud = try await cloud()
        let made = await send(cloud, .post, "os-aggregates", ["aggregate": ["name": "fast"]])
        #expect(made.status == 200)
        let brief: Set<String> = [
            "id", "uuid", "name", "availability_zone", "created_at", "updated_at", "deleted", "deleted_at",
        ]
        #expect(Set(made.json["aggregate"]?.members?.keys ?? [:].keys) == brief)
        let path = "os-aggregates/\(made.json["aggregate"]?["id"]?.int ?? -1)"
        let old = await send(cloud, .get, path, at: "2.40").json["aggregate"]
        #expect(
            Set(old?.members?.keys ?? [:].keys) == brief.subtracting(["uuid"]).union(["hosts", "metadata"]))
        let renamed = await send(cloud, .put, path, ["aggregate": ["name": "faster"]])
        #expect(renamed.json["aggregate"]?["name"] == "faster" && renamed.json["aggregate"]?["updated_at"] != .null)
        let action = path + "/action"
        let set = await send(
            cloud, .post, action, ["set_metadata": ["metadata": ["ssd": "true", "rack": "1"]]])
        #expect(set.json["aggregate"]?["metadata"] == ["ssd": "true", "rack": "1"])
        let unset = await send(cloud, .post, action, ["set_metadata": ["metadata": ["rack": .null]]])
        #expect(unset.json["aggregate"]?["metadata"] == ["ssd": "true"])
        let added = await send(cloud, .post, action, ["add_host": ["host": "kvm1"]])
        #expect(added.status == 200 && added.json["aggregate"]?["hosts"] == ["kvm1"])
        #expect(await send(cloud, .post, action, ["add_host": ["host": "kvm1"]]).status == 409)
        #expect(await send(cloud, .post, action, ["add_host": ["host": "none"]]).status == 404)
        #expect(await send(cloud, .post, action, ["remove_host": ["host": "kvm2"]]).status == 404)
        #expect(await send(cloud, .delete, path).status == 400)
        #expect(await send(cloud, .post, action, ["remove_host": ["host": "kvm1"]]).json["aggregate"]?["hosts"] == [])
        #expect(await send(cloud, .delete, path).status == 200)
        #expect(await send(cloud, .get, path).status == 404)
        #expect(await send(cloud, .get, "os-aggregates").json["aggregates"] == [])
    }

    @Test(
        "What is wrong is refused",
        arguments: [
            (HTTPMethod.post, "os-aggregates", ["aggregate": ["name": ""]], 400),
            (.post, "os-aggregates", ["aggregate": ["name": "kept"]], 409),
            (.post, "os-aggregates", ["aggregate": ["name": "a", "availability_zone": "x:y"]], 400),
            (.post, "os-aggregates", ["aggregate": ["name": "a", "availability_zone": ""]], 400),
            (.post, "os-aggregates", ["aggregate": ["name": 5]], 400), (.post, "os-aggregates", [:], 400),
            (.get, "os-aggregates/name", .null, 400), (.get, "os-aggregates/-1", .null, 404),
            (.delete, "os-aggregates/99", .null, 404), (.put, "os-aggregates/1", ["aggregate": [:]], 400),
            (.put, "os-aggregates/99", ["aggregate": ["name": "b"]], 404),
            (.post, "os-aggregates/1/action", ["dance": [:]], 400), (.post, "os-aggregates/1/action", [:], 400),
            (.post, "os-aggregates/1/action", ["add_host": [:]], 400),
            (.post, "os-aggregates/1/action", ["add_host": ["host": "kvm1", "x": "y"]], 400),
            (.post, "os-aggregates/1/action", ["set_metadata": ["metadata": ["a": 5]]], 400),
            (.post, "os-aggregates/1/action", ["set_metadata": ["metadata": ["": "a"]]], 400),
            (.post, "os-aggregates/1/action", ["set_metadata": [:]], 400),
        ] as [(HTTPMethod, String, JSON, Int)])
    func refusals(method: HTTPMethod, path: String, body: JSON, status: Int) async throws {
        let cloud = try await cloud()
        #expect(await make(cloud, "kept") == 1)
        #expect(await send(cloud, method, path, body.isNull ? nil : body).status == status)
    }

    @Test("An aggregate with a zone names that of its hosts, services and servers; servers may be asked for in it")
    func zones() async throws {
        let cloud = try await cloud()
        let east = await make(cloud, "east", zone: "east")
        #expect(await add(cloud, "kvm2", to: east).status == 200)
        let zones = await cloud.send(.get, "os-availability-zone").json["availabilityZoneInfo"]?.list ?? []
        #expect(zones.map { $0["zoneName"]?.text } == ["east", "nova"])
        let services = await send(cloud, .get, "os-services").json["services"]?.list ?? []
        #expect(services.map { $0["zone"]?.text } == ["nova", "east"])
        let detail = await send(cloud, .get, "os-availability-zone/detail").json["availabilityZoneInfo"]?.list ?? []
        #expect(detail.first?["hosts"]?.members?.keys.sorted() == ["kvm2"])
        let id = try await cloud.makeServer(["availability_zone": "east"])
        #expect(try await cloud.instance(id)?.availabilityZone == "east")
        let refused = await cloud.send(.post, "servers", ComputeFixture.server(["availability_zone": "west"]))
        #expect(refused.status == 400)
        let plain = try await cloud.makeActive()
        func zone(_ id: String) async -> String? {
            await cloud.send(.get, "servers/\(id)").json["server"]?["OS-EXT-AZ:availability_zone"]?.text
        }
        #expect(await zone(plain) == "nova")
        #expect(await zone(id) == "east")
        let set = await send(cloud, .put, "os-aggregates/\(east)", ["aggregate": ["availability_zone": "west"]])
        #expect(set.json["aggregate"]?["availability_zone"] == "west")
    }

    @Test("A host is in one zone only, and servers never change theirs")
    func conflicts() async throws {
        let cloud = try await cloud()
        let (east, west, plain) = (
            await make(cloud, "east", zone: "east"), await make(cloud, "west", zone: "west"), await make(cloud, "plain")
        )
        #expect(await add(cloud, "kvm2", to: east).status == 200)
        let second = await add(cloud, "kvm2", to: west)
        #expect(second.status == 409 && second.message.contains("east"))
        #expect(await add(cloud, "kvm2", to: plain).status == 200)
        let body: JSON = ["set_metadata": ["metadata": ["availability_zone": "west"]]]
        #expect(await send(cloud, .post, "os-aggregates/\(plain)/action", body).status == 409)
        // kvm1 gets a server.
        _ = try await cloud.makeActive()
        let busy = await add(cloud, "kvm1", to: east)
        #expect(busy.status == 409 && busy.message.contains("1 server"))
        #expect(await add(cloud, "kvm1", to: plain).status == 200)
        #expect(await send(cloud, .post, "os-aggregates/\(plain)/action", body).status == 409)
        let same: JSON = ["set_metadata": ["metadata": ["availability_zone": "nova"]]]
        #expect(await send(cloud, .post, "os-aggregates/\(plain)/action", same).status == 409)
        #expect(
            await send(cloud, .post, "os-aggregates/\(plain)/action", ["remove_host": ["host": "kvm2"]]).status == 200)
        #expect(await send(cloud, .post, "os-aggregates/\(plain)/action", same).status == 200)
    }

    @Test("Others than administrators see none of it")
    func policy() async throws {
        let cloud = try await cloud()
        let id = await make(cloud, "kept")
        for (method, path) in [
            (HTTPMethod.get, "os-aggregates"), (.post, "os-aggregates"), (.get, "os-aggregates/\(id)"),
            (.put, "os-aggregates/\(id)"), (.delete, "os-aggregates/\(id)"),
        ] {
            #expect(await cloud.send(method, path, as: "p1/manager", ["aggregate": ["name": "x"]]).status == 403)
        }
        for action in ["add_host", "remove_host", "set_metadata"] {
            let reply = await cloud.send(.post, "os-aggregates/\(id)/action", as: "p1/manager", [action: [:]])
            #expect(reply.status == 403)
        }
    }

    @Test("A host that is deleted leaves its aggregates; what was read before is not shown then")
    func forgotten() async throws {
        let cloud = try await cloud()
        let id = await make(cloud, "fast", zone: "fast")
        _ = await add(cloud, "kvm2", to: id)
        #expect(try await cloud.database.aggregates.table().zones == [HostName("kvm2"): "fast"])
        let services = await send(cloud, .get, "os-services?host=kvm2", at: "2.53").json["services"]?[0]
        #expect(await send(cloud, .delete, "os-services/\(services?["id"]?.text ?? "")", at: "2.53").status == 204)
        #expect(await send(cloud, .get, "os-aggregates/\(id)").json["aggregate"]?["hosts"] == [])
        #expect(try await cloud.database.aggregates.table().zones.isEmpty)
    }
}
