import ComputeAPI
import Database
import HTTP
import Model
import Scheduling
import Testing

@Suite("The servers of the fleet, for those who think of moving them")
struct FleetServersTests {
    private func servers(_ cloud: ComputeFixture, _ query: String = "") async -> ComputeFixture.Reply {
        await cloud.send(cloud.admin, .get, "/fleet/servers\(query)", as: "p0/admin")
    }

    @Test("Each that is on a host comes with what it asks, its group's policy, and why it stays")
    func listed() async throws {
        let cloud = try await ComputeFixture()
        let made = await cloud.send(
            .post, "os-server-groups", at: "2.64", ["server_group": ["name": "g", "policy": "anti-affinity"]])
        let group = try #require(made.json["server_group"]?["id"]?.text)
        let body = ComputeFixture.server().members ?? [:]
        let hinted = JSON.object(body.merging(["os:scheduler_hints": ["group": .string(group)]]) { $1 })
        let id = try #require(await cloud.send(.post, "servers", hinted).json["server"]?["id"]?.text)
        try await cloud.settle(id)
        let locked = try await cloud.makeActive()
        #expect(await cloud.send(.post, "servers/\(locked)/action", ["lock": .null]).status == 202)
        _ = try await cloud.makeServer()
        let reply = await servers(cloud)
        let rows = try #require(reply.json["servers"]?.list)
        #expect(reply.status == 200 && rows.count == 2 && reply.json["servers_links"] == nil)
        var found: [String: PlacedServer] = [:]
        for row in rows {
            let server = try PlacedServer(document: row)
            found[server.id.rawValue] = server
        }
        #expect(found[id]?.host == HostName("kvm1") && found[id]?.name == "web" && found[id]?.obstacle == nil)
        #expect(found[id]?.request.group == .init(id: ServerGroupID(group), policy: .antiAffinity))
        #expect(found[id]?.request.resources.memoryMiB == 64)
        #expect(found[locked]?.obstacle == .locked && found[locked]?.request.group == nil)
    }

    @Test("They come in pages, in the order of their ids")
    func pages() async throws {
        let cloud = try await ComputeFixture()
        var ids: [String] = []
        for _ in 0..<5 { ids.append(try await cloud.makeActive()) }
        let first = await servers(cloud, "?limit=3")
        let names = first.json["servers"]?.list?.compactMap { $0["id"]?.text } ?? []
        #expect(names == Array(ids.sorted().prefix(3)))
        let next = try #require(first.json["servers_links"]?[0]?["href"]?.text)
        let at = try #require(next.firstRange(of: "?"))
        let second = await servers(cloud, String(next[at.lowerBound...]))
        #expect(second.json["servers"]?.list?.compactMap { $0["id"]?.text } == Array(ids.sorted().suffix(2)))
        #expect(second.json["servers_links"] == nil)
        for query in ["?limit=0", "?limit=x", "?marker=none"] {
            #expect(await servers(cloud, query).status == 400, "\(query)")
        }
        #expect(await cloud.send(cloud.admin, .get, "/fleet/servers", as: "p1/manager").status == 403)
    }
}
