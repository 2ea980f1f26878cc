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
        var shown = try #require(await send(cloud, .get, "/tasks/\(id)").json["task"]?.members)
        #expect(shown.removeValue(forKey: "children") == [])
        #expect(JSON.object(shown) == task)
        let cancelled = await send(cloud, .post, "/tasks/\(id)/cancel")
        #expect(cancelled.status == 202 && cancelled.json["task"]?["is_cancel_requested"] == true)
        #expect(await send(cloud, .get, "/tasks/aaaaaaaa-1111-4111-8111-111111111111").status == 404)
        #expect(await send(cloud, .get, "/tasks/x").status == 404)
    }

    @Test("A host shows what it has that nobody can place")
    func strays() async throws {
        let cloud = try await ComputeFixture()
        #expect(await send(cloud, .post, "/hosts", ["host": ["name": "kvm1"]]).status < 300)
        try await cloud.addHost()
        let none = await send(cloud, .get, "/hosts").json["hosts"]?[0]?["strays"]
        #expect(none?["orphans"] == ["count": 0, "instances": []])
        var report = try #require(try await cloud.database.hosts.find(HostName("kvm1"))).report
        report.sequence += 1
        report.strays = HostStrays(orphans: .init((0..<30).map { InstanceID("i\($0 + 10)") }))
        try await cloud.database.hosts.record(report, now: cloud.clock.now)
        let some = await send(cloud, .get, "/hosts").json["hosts"]?[0]?["strays"]
        #expect(some?["orphans"]?["count"] == 30 && some?["orphans"]?["instances"]?[0] == "i10")
        #expect(some?["orphans"]?["instances"]?.list?.count == HostStrays.Finding.limit)
        #expect(some?["unknown"]?["count"] == 0)
    }

    @Test("Tasks come in pages, newest first, each but the last with a link to the next")
    func taskPages() async throws {
        let cloud = try await ComputeFixture(settings: .init(quotas: .init(instances: -1, cores: -1, memoryMiB: -1)))
        for _ in 0..<5 {
            _ = try await cloud.makeServer()
            cloud.clock.advance(by: .seconds(1))
        }
        let whole = await send(cloud, .get, "/tasks").json
        let all = whole["tasks"]?.list?.compactMap { $0["id"]?.text } ?? []
        #expect(all.count == 5 && whole["tasks_links"] == nil)
        var (paged, sizes): ([String], [Int]) = ([], [])
        var path: String? = "/tasks?limit=2&all=true"
        while let next = path, sizes.count < 9 {
            let page = await send(cloud, .get, next).json
            let ids = page["tasks"]?.list?.compactMap { $0["id"]?.text } ?? []
            (paged, sizes) = (paged + ids, sizes + [ids.count])
            path = page["tasks_links"]?[0]?["href"]?.text.flatMap { link in
                link.firstRange(of: "/tasks").map { String(link[$0.lowerBound...]) }
            }
        }
        #expect(paged == all && sizes == [2, 2, 1])
        #expect(await send(cloud, .get, "/tasks?limit=5").json["tasks_links"] == nil)
        for query in ["limit=0", "limit=-1", "limit=x", "marker=none"] {
            #expect(await send(cloud, .get, "/tasks?\(query)").status == 400, "\(query)")
        }
    }

    @Test("The fleet comes with the options that the scheduler has told")
    func fleetOptions() async throws {
        let cloud = try await ComputeFixture()
        #expect(await send(cloud, .get, "/fleet").json["options"] == nil)
        let options = ["filter_scheduler.ram_weight_multiplier": "-1.0"]
        try await PublishedOptions(settings: cloud.database.settings).publish(options)
        let fleet = await send(cloud, .get, "/fleet")
        #expect(fleet.status == 200 && fleet.json["options"] == .object(options.mapValues { .string($0) }))
    }

    @Test("What placing a server anew would ask is told, with the host that it is on")
    func placing() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let reply = await send(cloud, .get, "/fleet/servers/\(id)")
        let server = try #require(try await cloud.instance(id))
        #expect(reply.status == 200 && reply.json["host"]?.text == server.host?.rawValue)
        let request = reply.json["request"]
        #expect(request?["instances"] == [.string(id)])
        #expect(request?["flavor"]?["vcpus"]?.int == server.flavor.vcpus)
        #expect(request?["project_id"]?.text == server.projectID.rawValue)
        #expect(request?["other_flavor_hosts"] == nil && request?["image_property_counts"] == nil)
        try await PublishedOptions(settings: cloud.database.settings).publish([
            "filter_scheduler.enabled_filters": "ComputeFilter,TypeAffinityFilter",
            "filter_scheduler.image_props_weight_multiplier": "1.0",
        ])
        let more = await send(cloud, .get, "/fleet/servers/\(id)").json["request"]
        #expect(more?["other_flavor_hosts"] == [] && more?["image_property_counts"] != nil)
        for wanted in [makeUUID(), "x"] {
            #expect(await send(cloud, .get, "/fleet/servers/\(wanted)").status == 404)
        }
    }

    @Test("What servers have asked for is told in the order in which they did, with those that are gone")
    func trace() async throws {
        let cloud = try await ComputeFixture()
        let group = await cloud.send(
            .post, "os-server-groups", at: "2.64", ["server_group": ["name": "g", "policy": "affinity"]])
        let id = try #require(group.json["server_group"]?["id"]?.text)
        let body = ComputeFixture.server(["min_count": 2]).members ?? [:]
        let both = JSON.object(body.merging(["os:scheduler_hints": ["group": .string(id)]]) { $1 })
        #expect(await cloud.send(.post, "servers", both).status == 202)
        cloud.clock.advance(by: .seconds(1))
        let last = try await cloud.makeActive()
        cloud.clock.advance(by: .seconds(1))
        let now = cloud.clock.now
        _ = try await cloud.database.instances.update(InstanceID(last), now: now) {
            ($0.vmState, $0.deletedAt) = (.deleted, now)
        }
        let events = try #require(await send(cloud, .get, "/fleet/trace").json["events"]?.list)
        #expect(events.count == 3)
        let first = events[0]["request"]
        #expect(first?["instances"]?.list?.count == 2 && first?["flavor"]?["memory_mib"] == 64)
        #expect(first?["group"]?["id"]?.text == id && first?["group"]?["policy"] == "affinity")
        #expect(events[1]["request"]?["instances"] == [.string(last)] && events[1]["request"]?["group"] == nil)
        #expect(events[2] == ["delete": .string(last)])
        let newest = await send(cloud, .get, "/fleet/trace?limit=1").json["events"]?.list
        #expect(newest == Array(events[1...]))
        for limit in ["0", "-1", "many", "100001"] {
            #expect(await send(cloud, .get, "/fleet/trace?limit=\(limit)").status == 400, "\(limit)")
        }
    }

    @Test("All of it is for administrators", arguments: ["/tasks", "/hosts"])
    func policy(path: String) async throws {
        let cloud = try await ComputeFixture()
        for (method, pattern) in cloud.admin.routes where !pattern.hasPrefix("/servers") {
            let target = pattern.replacing("{", with: "").replacing("}", with: "")
            for role in ["reader", "member", "manager"] {
                #expect(
                    await send(cloud, method, target, as: "p1/\(role)").status == 403, "\(method.rawValue) \(pattern)")
            }
        }
        #expect(await cloud.send(cloud.admin, .get, path, as: nil).status == 401)
        #expect(await send(cloud, .get, path).status == 200)
    }

    @Test("A host is shown with its record, its service, and what it says itself of who holds what")
    func showHost() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost("kvm1")
        let reply = await send(cloud, .get, "/hosts/kvm1")
        let host = reply.json["host"]
        #expect(reply.status == 200 && host?["report"]?["uuid"]?.text != nil)
        #expect(host?["now"]?["limit"]?["vcpus"] == 32 && host?["claims_error"] == .null)
        #expect(host?["claims"]?[0]?["resources"]?["memory_mib"] == 128)
        #expect(host?["events"]?[0]?["change"] == "claimed")
        #expect(await send(cloud, .get, "/hosts/kvm1?events=0").json["host"]?["events"]?.list?.isEmpty == true)
        #expect(await send(cloud, .get, "/hosts/kvm1?events=1001").status == 400)
        #expect(await send(cloud, .get, "/hosts/kvm1?events=x").status == 400)
        #expect(await send(cloud, .get, "/hosts/kvm9").status == 404)
        #expect(await send(cloud, .get, "/hosts/kvm1", as: "p1/member").status == 403)
    }

    @Test("Of a host out of reach the record is shown, and why the rest is not")
    func showLostHost() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost("kvm2")
        let host = await send(cloud, .get, "/hosts/kvm2").json["host"]
        #expect(host?["claims_error"]?.text == "host kvm2 does not answer" && host?["claims"] == nil)
        #expect(host?["report"]?["total"]?["vcpus"] != nil)
    }
}
