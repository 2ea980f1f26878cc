import Database
import HTTP
import Model
import Testing

@testable import ComputeAPI

@Suite("Migrations as clients see them")
struct MigrationListTests {
    private static let least: Set<String> = [
        "id", "status", "instance_uuid", "source_node", "source_compute", "dest_node", "dest_compute", "dest_host",
        "old_instance_type_id", "new_instance_type_id", "created_at", "updated_at",
    ]

    private func list(_ cloud: ComputeFixture, _ version: String) async throws -> [JSON] {
        try await list(cloud, "", version)
    }

    private func list(_ cloud: ComputeFixture, _ query: String, _ version: String) async throws -> [JSON] {
        let reply = try await cloud.get("os-migrations" + query, version: version, as: "admin")
        #expect(reply.status == 200, "\(query) at \(version): \(reply.message)")
        return reply.json["migrations"]?.list ?? []
    }

    @Test("Each version shows just what it is to, and a live one under way where it is found")
    func members() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.resized()
        let number = try await cloud.addLive(server)
        for (version, more) in [
            ("2.1", []), ("2.22", []), ("2.23", ["migration_type"]), ("2.58", ["migration_type"]),
            ("2.59", ["migration_type", "uuid"]), ("2.79", ["migration_type", "uuid"]),
            ("2.80", ["migration_type", "uuid", "user_id", "project_id"]),
        ] as [(String, Set<String>)] {
            let all = try await list(cloud, version)
            #expect(all.count == 2)
            // The newest first.
            let (live, cold) = (try #require(all.first), try #require(all.last))
            let links: Set<String> = more.isEmpty ? [] : ["links"]
            #expect(Set((cold.members ?? [:]).keys) == Self.least.union(more), "\(version)")
            #expect(Set((live.members ?? [:]).keys) == Self.least.union(more).union(links), "\(version)")
        }
        let (live, cold) = (try await list(cloud, "2.80")[0], try await list(cloud, "2.80")[1])
        #expect(cold["source_compute"] == "kvm1" && cold["source_node"] == "kvm1")
        #expect(cold["dest_compute"] == "kvm2" && cold["dest_node"] == "kvm2" && cold["dest_host"] == "192.0.2.5")
        #expect(cold["old_instance_type_id"] == 1 && cold["new_instance_type_id"] == 2)
        #expect(cold["status"] == "finished" && cold["migration_type"] == "resize")
        #expect(cold["user_id"] == "u-p1" && cold["project_id"] == "p1")
        #expect(cold["created_at"] == "2026-01-01T00:00:00.000000")
        let link = live["links"]?.list?.first
        #expect(link?["rel"] == "self")
        #expect(
            link?["href"]?.text
                == "http://cloud:8774/compute/v2.1/servers/\(server.id)/migrations/\(number)")
    }

    @Test("A flavor's id that is no number has one of 31 bits, always the same")
    func flavors() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.database.flavors.create(
            Flavor(id: FlavorID("large-one"), name: "l", vcpus: 1, memoryMiB: 512, rootGiB: 1), now: cloud.clock.now)
        var seen: Set<Int64> = []
        for name in ["a", "b"] {
            let server = try await cloud.placed(name: name)
            #expect(try await cloud.act(server, ["resize": ["flavorRef": "large-one"]]).status == 202)
            let newest = try #require(try await list(cloud, "2.1").first)
            seen.insert(Int64(try #require(newest["new_instance_type_id"]?.int)))
        }
        #expect(seen.count == 1 && seen.allSatisfy { (1...0x7FFF_FFFF).contains($0) })
    }

    @Test("Pages follow one another to the last, which names no next one")
    func pages() async throws {
        let cloud = try await ComputeFixture(settings: APISettings(maxLimit: 2, operationPatience: .zero))
        var servers: [String] = []
        for name in ["a", "b", "c"] {
            let server = try await cloud.placed(name: name)
            #expect(try await cloud.act(server, ["migrate": .null], as: "admin").status == 202)
            servers.insert(server.id.rawValue, at: 0)
        }
        func page(_ query: String) async throws -> (servers: [String], next: String?) {
            let reply = try await cloud.get("os-migrations" + query, version: "2.59", as: "admin")
            let link = reply.json["migrations_links"]?.list?.first
            #expect(link == nil || link?["rel"] == "next")
            let next = link?["href"]?.text.map { "?" + ($0.split(separator: "?").last ?? "") }
            return ((reply.json["migrations"]?.list ?? []).compactMap { $0["instance_uuid"]?.text }, next)
        }
        // Not more than the cloud's limit, whatever is asked for.
        for query in ["?status=pre-migrating", "?status=pre-migrating&limit=100"] {
            let first = try await page(query)
            #expect(first.servers == Array(servers.prefix(2)))
            let next = try #require(first.next)
            #expect(next.contains("status=pre-migrating"))
            let second = try await page(next)
            #expect(second.servers == [servers[2]] && second.next == nil)
        }
        let exact = try await page("?limit=2&host=kvm1&instance_uuid=\(servers[0])")
        #expect(exact.servers == [servers[0]] && exact.next == nil)
        let full = try await page("?limit=1&instance_uuid=\(servers[0])")
        #expect(full.servers == [servers[0]] && full.next == nil, "a full page may be the last")
        let none = try await page("?limit=0")
        #expect(none.servers.isEmpty && none.next == nil)
        // Before 2.59 there are no pages.
        #expect(try await list(cloud, "?limit=1", "2.58").count == 3)
    }

    @Test("More than the store gives at once is reached page by page")
    func many() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        let writes = (0..<1_001).map { index in
            MigrationWrite.insert(
                MigrationRecord(
                    id: MigrationID("m-\(index)"), instance: server, type: .migration, status: .confirmed,
                    sourceHost: HostName("kvm1"), newFlavor: server.flavor.id, userID: server.userID,
                    now: cloud.clock.now))
        }
        _ = try await cloud.database.instances.update(server.id, now: cloud.clock.now, migrations: writes) { _ in }
        let reply = try await cloud.get("os-migrations", version: "2.80", as: "admin")
        #expect(reply.json["migrations"]?.list?.count == 1_000)
        let href = try #require(reply.json["migrations_links"]?.list?.first?["href"]?.text)
        let rest = try await list(cloud, "?" + (href.split(separator: "?").last ?? ""), "2.80")
        #expect(rest.map { $0["uuid"]?.text } == ["m-0"])
    }

    @Test(
        "What a list may be asked grows with the version; anything else is 400 from 2.59 on",
        arguments: [
            ("more=1", "2.58", 200), ("more=1", "2.59", 400), ("changes-since=x", "2.58", 200),
            ("changes-since=x", "2.59", 400), ("changes-since=2026-01-01T00:00:00Z", "2.59", 200),
            ("changes-before=2026-01-01T00:00:00Z", "2.58", 200), ("changes-before=2026-01-01T00:00:00Z", "2.65", 400),
            ("changes-before=2026-01-01T00:00:00Z", "2.66", 200), ("user_id=u", "2.58", 200),
            ("user_id=u", "2.79", 400),
            ("user_id=u", "2.80", 200), ("project_id=p", "2.79", 400), ("hidden=1", "2.80", 200),
            ("limit=x", "2.58", 200),
            ("limit=-1", "2.59", 400), ("status=nonsense&limit=x", "2.59", 400), ("marker=nothing", "2.59", 400),
            ("changes-since=2026-01-02T00:00:00Z&changes-before=2026-01-01T00:00:00Z", "2.66", 400),
        ])
    func query(text: String, version: String, status: Int) async throws {
        let cloud = try await ComputeFixture()
        let reply = try await cloud.get("os-migrations?\(text)", version: version, as: "admin")
        #expect(reply.status == status, "\(reply.message)")
    }

    @Test("Times and owners choose; what an older version does not know chooses nothing")
    func filters() async throws {
        let cloud = try await ComputeFixture()
        let first = try await cloud.placed(name: "first")
        #expect(try await cloud.act(first, ["migrate": .null], as: "admin").status == 202)
        cloud.clock.advance(by: .seconds(100))
        let second = try await cloud.placed(name: "second")
        #expect(try await cloud.act(second, ["resize": ["flavorRef": "2"]]).status == 202)
        let both = [second.id.rawValue, first.id.rawValue]
        for (query, version, wanted) in [
            ("changes-since=2026-01-01T00:00:50Z", "2.59", [both[0]]),
            ("changes-since=2026-01-01T00:00:50Z", "2.58", both),
            ("changes-before=2026-01-01T00:00:50Z", "2.66", [both[1]]),
            ("migration_type=resize", "2.1", [both[0]]), ("migration_type=nonsense", "2.80", []),
            ("user_id=u-p1&project_id=p1", "2.80", both), ("user_id=u-p2", "2.80", []), ("user_id=u-p2", "2.58", both),
            ("source_compute=kvm2", "2.1", []), ("source_compute=kvm1&status=pre-migrating", "2.1", both),
            ("instance_uuid=\(both[1])", "2.1", [both[1]]), ("hidden=true", "2.80", both),
        ] {
            let found = try await list(cloud, "?" + query, version).compactMap { $0["instance_uuid"]?.text }
            #expect(found == wanted, "\(query) at \(version)")
        }
    }

    @Test("Of a server only the live migrations that are under way are shown, by number, from 2.23 on")
    func live() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.resized()
        let other = try await cloud.placed(name: "other")
        let path = "servers/\(server.id)/migrations"
        #expect(try await cloud.get(path, version: "2.80", as: "admin").json["migrations"]?.list == [])
        let number = try await cloud.addLive(server)
        #expect(try await cloud.get(path, version: "2.22", as: "admin").status == 404)
        let places: Set<String> = [
            "id", "status", "server_uuid", "source_node", "source_compute", "dest_node", "dest_compute", "dest_host",
            "created_at", "updated_at", "memory_total_bytes", "memory_processed_bytes", "memory_remaining_bytes",
            "disk_total_bytes", "disk_processed_bytes", "disk_remaining_bytes",
        ]
        for (version, more) in [("2.23", []), ("2.59", ["uuid"]), ("2.80", ["uuid", "user_id", "project_id"])]
            as [(String, Set<String>)]
        {
            let all = try await cloud.get(path, version: version, as: "admin").json["migrations"]?.list ?? []
            let one = try await cloud.get("\(path)/\(number)", version: version, as: "admin").json["migration"]
            #expect(all.count == 1 && all.first == one, "\(version)")
            #expect(Set((one?.members ?? [:]).keys) == places.union(more), "\(version)")
            #expect(one?["id"]?.int == Int(number) && one?["status"] == "running")
            #expect(one?["memory_total_bytes"] == 100 && one?["memory_remaining_bytes"] == 60)
        }
        // The cold one, one of another server, and what is no number.
        let cold = try await list(cloud, "?migration_type=resize", "2.80").first?["id"]?.int
        for wanted in ["\(try #require(cold))", "4711", "x"] {
            #expect(try await cloud.get("\(path)/\(wanted)", version: "2.80", as: "admin").status == 404)
        }
        let elsewhere = "servers/\(other.id)/migrations/\(number)"
        #expect(try await cloud.get(elsewhere, version: "2.80", as: "admin").status == 404)
        #expect(try await cloud.get("servers/x/migrations", version: "2.80", as: "admin").status == 404)
    }

    @Test("Of a server that is not being migrated nothing is aborted or forced: 409, and 404 for none of the server's")
    func refused() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.resized()
        let other = try await cloud.placed(name: "other")
        let number = try #require(try await list(cloud, "2.80").first?["id"]?.int)
        let complete: JSON = ["force_complete": .null]
        func force(_ server: Instance, _ number: String, _ body: JSON, _ version: String) async -> Int {
            await cloud.send(
                .post, "servers/\(server.id)/migrations/\(number)/action", as: "p1/admin", at: version, body
            ).status
        }
        func abort(_ server: Instance, _ number: String, _ version: String) async -> Int {
            await cloud.send(
                .delete, "servers/\(server.id)/migrations/\(number)", as: "p1/admin", at: version
            ).status
        }
        #expect(await force(server, "\(number)", complete, "2.21") == 404)
        #expect(await force(server, "\(number)", complete, "2.22") == 409)
        #expect(await abort(server, "\(number)", "2.23") == 404)
        #expect(await abort(server, "\(number)", "2.24") == 409)
        for (owner, wanted) in [(server, "4711"), (server, "x"), (other, "\(number)")] {
            #expect(await force(owner, wanted, complete, "2.80") == 404)
            #expect(await abort(owner, wanted, "2.80") == 404)
        }
        for body in [[:], ["force_complete": [:]], ["force_complete": .null, "more": 1], ["abort": .null]] as [JSON] {
            #expect(await force(server, "\(number)", body, "2.80") == 400)
        }
        #expect(try await cloud.database.instances.find(server.id) == server)
    }
}

extension ComputeFixture {
    /// A live migration of the server, of which 40 of 100 bytes of memory are carried; its number.
    fileprivate func addLive(_ server: Instance) async throws -> Int64 {
        let id = MigrationID("eeeeeeee-1111-4111-8111-111111111111")
        var record = MigrationRecord(
            id: id, instance: server, type: .liveMigration, status: .running, sourceHost: HostName("kvm2"),
            newFlavor: server.flavor.id, userID: server.userID, now: clock.now)
        record.progress = MigrationProgress(memoryTotal: 100, memoryProcessed: 40, memoryRemaining: 60)
        _ = try await database.instances.update(server.id, now: clock.now, migrations: [.insert(record)]) { _ in }
        return try #require(try await database.migrations.find(id)?.number)
    }
}
