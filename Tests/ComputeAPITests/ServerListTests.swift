import ComputeAPI
import Database
import HTTP
import Model
import Testing

@Suite("Listing servers")
struct ServerListTests {
    private func fill(_ cloud: ComputeFixture) async throws {
        for (name, more) in [
            ("web-1", ["tags": ["red"]]), ("web-2", ["tags": ["red", "big"], "flavorRef": "84"]), ("db", [:]),
            ("old", [:]),
        ] as [(String, [String: JSON])] {
            cloud.clock.advance(by: .seconds(60))
            let all = more.merging(["name": .string(name), "networks": "none"]) { $1 }
            let id = try await cloud.makeActive(at: "2.52", all)
            if name == "db" { try await cloud.settle(id, .stopped, power: .shutdown) }
            guard name == "old" else { continue }
            let now = cloud.clock.now
            _ = try await cloud.database.instances.update(InstanceID(id), now: now) { instance in
                instance.vmState = .deleted
                instance.deletedAt = now
            }
        }
    }

    private func names(
        _ cloud: ComputeFixture, _ query: String, as token: String = "p1/member", at version: String = "2.62"
    ) async
        -> [String]
    {
        let reply = await cloud.send(.get, "servers?" + query, as: token, at: version)
        return reply.json["servers"]?.list?.compactMap { $0["name"]?.text } ?? ["\(reply.status)"]
    }

    @Test(
        "Filters choose, newest first",
        arguments: [
            ("", ["db", "web-2", "web-1"]), ("name=web", ["web-2", "web-1"]), ("name=%5Eweb-1%24", ["web-1"]),
            ("status=ACTIVE", ["web-2", "web-1"]), ("status=shutoff", ["db"]),
            ("status=active&status=SHUTOFF", ["db", "web-2", "web-1"]),
            ("status=error", []), ("flavor=84", ["web-2"]), ("flavor=unknown", []),
            ("image=aaaaaaaa-1111-4111-8111-111111111111", ["db", "web-2", "web-1"]), ("image=x", []),
            ("tags=red,big", ["web-2"]), ("tags-any=big,small", ["web-2"]), ("not-tags=red,big", ["db", "web-1"]),
            ("not-tags-any=red", ["db"]), ("limit=1", ["db"]), ("limit=0", []),
            ("deleted=False", ["db", "web-2", "web-1"]),
            ("deleted=True", ["db", "web-2", "web-1"]), ("host=elsewhere", ["db", "web-2", "web-1"]),
            ("changes-since=2026-01-01T00:04:00Z", ["old"]),
            ("sort_key=display_name&sort_dir=asc", ["db", "web-1", "web-2"]),
            ("sort_dir=asc", ["web-1", "web-2", "db"]), ("unknown=1", ["db", "web-2", "web-1"]), ("ip=10", []),
            ("project_id=p2", ["db", "web-2", "web-1"]),
        ])
    func filters(query: String, expected: [String]) async throws {
        let cloud = try await ComputeFixture()
        try await fill(cloud)
        #expect(await names(cloud, query) == expected)
    }

    @Test(
        "Administrators filter by more",
        arguments: [
            ("deleted=True", ["old"]), ("status=deleted", ["old"]), ("host=kvm1", ["db", "web-2", "web-1"]),
            ("host=x", []),
            ("vm_state=stopped", ["db"]), ("all_tenants=1&project_id=p2", []),
            ("all_tenants=1&tenant_id=p1&name=db", ["db"]),
        ])
    func adminFilters(query: String, expected: [String]) async throws {
        let cloud = try await ComputeFixture()
        try await fill(cloud)
        #expect(await names(cloud, query, as: "p1/admin") == expected)
    }

    @Test(
        "What cannot be read is 400, what is not allowed 403",
        arguments: [
            ("limit=x", 400), ("limit=-1", 400), ("marker=x", 400),
            ("marker=aaaaaaaa-1111-4111-8111-111111111111", 400),
            ("changes-since=yesterday", 400), ("name=(", 400), ("ip=%5B", 400), ("sort_dir=up", 400),
            ("sort_key=secret", 400),
            ("all_tenants=maybe", 400), ("status=strange", 400), ("status=deleted", 403), ("sort_key=host", 403),
        ])
    func refusals(query: String, status: Int) async throws {
        let cloud = try await ComputeFixture()
        #expect(await cloud.send(.get, "servers?" + query, at: "2.62").status == status)
        #expect(await cloud.send(.get, "servers/detail?" + query, at: "2.62").status == status)
    }

    @Test("An unknown status is an empty list below 2.38")
    func oldStatus() async throws {
        let cloud = try await ComputeFixture()
        try await fill(cloud)
        #expect(await names(cloud, "status=strange", at: "2.37").isEmpty)
    }

    @Test("Following the links gives every server once", arguments: ["servers", "servers/detail"])
    func pages(path: String) async throws {
        let cloud = try await ComputeFixture()
        try await fill(cloud)
        var target = path + "?limit=2&name=."
        var seen: [String] = []
        for _ in 0..<4 {
            let reply = await cloud.send(.get, target)
            seen += reply.json["servers"]?.list?.compactMap { $0["name"]?.text } ?? []
            guard let next = reply.json["servers_links"]?[0]?["href"]?.text else { break }
            #expect(next.hasPrefix("http://cloud:8774/compute/v2.1/\(path)?"))
            target = String(next.dropFirst("http://cloud:8774/compute/v2.1/".count))
        }
        #expect(seen == ["db", "web-2", "web-1"])
    }
}
