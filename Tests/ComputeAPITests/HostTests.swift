import ComputeAPI
import Database
import HTTP
import Model
import Testing

@Suite("Services and hypervisors")
struct HostTests {
    private static let uuid = "6f9619ff-8b86-4011-b42d-00c04fc964ff"

    private func cloud() async throws -> ComputeFixture {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        try await cloud.database.services.record([
            ServiceHeartbeat(host: HostName("ctl"), binary: "nova-conductor", version: 1, at: cloud.clock.now)
        ])
        return cloud
    }

    private func send(
        _ cloud: ComputeFixture, _ method: HTTPMethod, _ path: String, at version: String = "2.1", _ body: JSON? = nil
    ) async -> ComputeFixture.Reply {
        await cloud.send(method, path, as: "p0/admin", at: version, body)
    }

    @Test("Services tell zone, status and state; one not heard of is down")
    func services() async throws {
        let cloud = try await cloud()
        let service = await send(cloud, .get, "os-services?binary=nova-compute").json["services"]?[0]
        #expect(
            Set(service?.members?.keys ?? [:].keys)
                == ["id", "binary", "host", "zone", "status", "state", "updated_at", "disabled_reason"])
        #expect(service?["id"]?.int != nil && service?["zone"] == "nova" && service?["state"] == "up")
        let all = await send(cloud, .get, "os-services", at: "2.53").json["services"]?.list ?? []
        #expect(all.map { $0["zone"]?.text } == ["nova", "internal"])
        #expect(all.allSatisfy { $0["forced_down"] == false && $0["id"]?.text?.count == 36 })
        cloud.clock.advance(by: .seconds(26))
        #expect(await send(cloud, .get, "os-services?host=kvm1").json["services"]?[0]?["state"] == "down")
        #expect(await send(cloud, .get, "os-services?host=none").json["services"] == [])
    }

    @Test("From 2.53 a service is changed by its uuid")
    func changeByUUID() async throws {
        let cloud = try await cloud()
        let services = await send(cloud, .get, "os-services", at: "2.53").json["services"]?.list ?? []
        let compute = try #require(services.first?["id"]?.text)
        let conductor = try #require(services.last?["id"]?.text)
        let path = "os-services/\(compute)"
        let disabled = await send(cloud, .put, path, at: "2.53", ["status": "disabled", "disabled_reason": "why"])
        #expect(
            disabled.json["service"]?["status"] == "disabled" && disabled.json["service"]?["disabled_reason"] == "why")
        let down = await send(cloud, .put, path, at: "2.53", ["forced_down": true])
        #expect(down.json["service"]?["state"] == "down" && down.json["service"]?["disabled_reason"] == "why")
        let enabled = await send(cloud, .put, path, at: "2.53", ["status": "enabled", "forced_down": false])
        #expect(enabled.json["service"]?["disabled_reason"] == .null && enabled.json["service"]?["state"] == "up")
        for body in [
            [:], ["status": "asleep"], ["disabled_reason": "x"], ["status": "enabled", "disabled_reason": "x"],
            ["x": 1],
        ] as [JSON] {
            #expect(await send(cloud, .put, path, at: "2.53", body).status == 400)
        }
        #expect(await send(cloud, .put, "os-services/\(conductor)", at: "2.53", ["status": "disabled"]).status == 400)
        #expect(await send(cloud, .put, "os-services/\(Self.uuid)", at: "2.53", ["status": "disabled"]).status == 404)
        #expect(
            await send(cloud, .put, "os-services/enable", at: "2.53", ["host": "kvm1", "binary": "nova-compute"]).status
                == 400)
    }

    @Test("Up to 2.52 a service is changed by host and binary")
    func changeByName() async throws {
        let cloud = try await cloud()
        let name: [String: JSON] = ["host": "kvm1", "binary": "nova-compute"]
        let disabled = await send(cloud, .put, "os-services/disable", .object(name))
        #expect(disabled.json["service"] == ["host": "kvm1", "binary": "nova-compute", "status": "disabled"])
        let logged = await send(
            cloud, .put, "os-services/disable-log-reason", .object(name.merging(["disabled_reason": "r"]) { $1 }))
        #expect(logged.json["service"]?["disabled_reason"] == "r")
        #expect(await send(cloud, .put, "os-services/enable", .object(name)).json["service"]?["status"] == "enabled")
        let forced = await send(
            cloud, .put, "os-services/force-down", at: "2.11", .object(name.merging(["forced_down": true]) { $1 }))
        #expect(forced.json["service"]?["forced_down"] == true)
        #expect(await send(cloud, .put, "os-services/force-down", at: "2.10", .object(name)).status == 404)
        #expect(await send(cloud, .put, "os-services/enable", ["host": "x", "binary": "nova-compute"]).status == 404)
        #expect(await send(cloud, .put, "os-services/dance", .object(name)).status == 404)
        #expect(await send(cloud, .put, "os-services/enable", ["host": "kvm1"]).status == 400)
    }

    @Test("A hypervisor shows what it has and has promised, by the id of the version")
    func hypervisors() async throws {
        let cloud = try await cloud()
        let old = try #require(await send(cloud, .get, "os-hypervisors/detail").json["hypervisors"]?[0])
        #expect(old["id"] == 1 && old["cpu_info"]?.text?.hasPrefix("{") == true)
        #expect(old["free_ram_mb"] == 15_872 && old["free_disk_gb"] == 80 && old["vcpus_used"] == 1)
        #expect(old["service"]?["id"]?.int != nil && old["state"] == "up" && old["host_ip"] == "192.0.2.5")
        let new = try #require(await send(cloud, .get, "os-hypervisors/\(Self.uuid)", at: "2.53").json["hypervisor"])
        #expect(new["id"]?.text == Self.uuid && new["cpu_info"]?["topology"]?["cores"] == 1)
        #expect(await send(cloud, .get, "os-hypervisors/1").status == 200)
        #expect(await send(cloud, .get, "os-hypervisors/2").status == 404)
        #expect(await send(cloud, .get, "os-hypervisors/kvm1", at: "2.53").status == 400)
        let uptime = await send(cloud, .get, "os-hypervisors/1/uptime").json["hypervisor"]?["uptime"]
        #expect(uptime == " 00:00:00 up 1 day, 1:01")
        let brief = await send(cloud, .get, "os-hypervisors").json["hypervisors"]?[0]
        #expect(Set(brief?.members?.keys ?? [:].keys) == ["id", "hypervisor_hostname", "state", "status"])
    }

    @Test("Sums, searches, servers and pages")
    func lists() async throws {
        let cloud = try await cloud()
        try await cloud.addHost("kvm2", uuid: "7f9619ff-8b86-4011-b42d-00c04fc964ff")
        let server = try await cloud.makeActive()
        let sums = await send(cloud, .get, "os-hypervisors/statistics").json["hypervisor_statistics"]
        #expect(sums?["count"] == 2 && sums?["memory_mb"] == 32_768 && sums?["vcpus_used"] == 2)
        #expect(await send(cloud, .get, "os-hypervisors/kvm/search").json["hypervisors"]?.list?.count == 2)
        #expect(await send(cloud, .get, "os-hypervisors/none/search").status == 404)
        let on = await send(cloud, .get, "os-hypervisors/kvm1/servers").json["hypervisors"]?[0]
        #expect(on?["servers"]?[0]?["uuid"]?.text == server)
        #expect(await send(cloud, .get, "os-hypervisors/kvm1/servers", at: "2.53").status == 404)
        let pattern = await send(
            cloud, .get, "os-hypervisors?hypervisor_hostname_pattern=kvm2&with_servers=true", at: "2.53")
        #expect(pattern.json["hypervisors"]?.list?.count == 1 && pattern.json["hypervisors"]?[0]?["servers"] == nil)
        let page = await send(cloud, .get, "os-hypervisors?limit=1", at: "2.33")
        #expect(page.json["hypervisors"]?.list?.count == 1 && page.json["hypervisors_links"]?[0]?["rel"] == "next")
        #expect(await send(cloud, .get, "os-hypervisors?marker=1", at: "2.33").json["hypervisors"]?[0]?["id"] == 2)
    }

    @Test("A list that is asked for again tells what has changed, of the server and of its host, to each in their form")
    func listsAgain() async throws {
        let cloud = try await cloud()
        let id = try await cloud.makeActive()
        let other = try await cloud.makeActive()
        func compare(_ what: String) async {
            for (role, version) in [("member", "2.1"), ("member", "2.47"), ("admin", "2.1"), ("admin", "2.69")] {
                let list = await cloud.send(.get, "servers/detail", as: "p1/\(role)", at: version)
                let shown = await cloud.send(.get, "servers/\(id)", as: "p1/\(role)", at: version)
                let entry = list.json["servers"]?.list?.first { $0["id"]?.text == id }
                #expect(entry != nil && entry == shown.json["server"], "\(what), \(role), \(version)")
            }
        }
        await compare("at first")
        await compare("again")
        _ = await cloud.send(.put, "servers/\(id)", ["server": ["name": "renamed"]])
        await compare("renamed")
        try await cloud.settle(id, .error, power: .crashed)
        await compare("in error")
        cloud.clock.advance(by: .seconds(60))
        await compare("its host down")
        _ = await cloud.send(.delete, "servers/\(other)")
        await compare("the other deleted")
    }

    @Test("Zones, limits and host_status follow what the services say")
    func zonesAndLimits() async throws {
        let cloud = try await cloud()
        let zones = await cloud.send(.get, "os-availability-zone")
        #expect(
            zones.json == [
                "availabilityZoneInfo": [["zoneName": "nova", "zoneState": ["available": true], "hosts": .null]]
            ])
        let detail = await send(cloud, .get, "os-availability-zone/detail").json["availabilityZoneInfo"]?.list ?? []
        #expect(detail.map { $0["zoneName"]?.text } == ["internal", "nova"])
        #expect(detail.last?["hosts"]?["kvm1"]?["nova-compute"]?["available"] == true)
        let id = try await cloud.makeActive()
        func status() async -> JSON? {
            await cloud.send(.get, "servers/\(id)", as: "p1/admin", at: "2.16").json["server"]?["host_status"]
        }
        #expect(await status() == "UP")
        cloud.clock.advance(by: .seconds(60))
        #expect(await status() == "UNKNOWN")
        let limits = await cloud.send(.get, "limits").json["limits"]?["absolute"]
        #expect(limits?["totalInstancesUsed"] == 1 && limits?["totalRAMUsed"] == 64 && limits?["maxTotalCores"] == 20)
        #expect(
            limits?["maxImageMeta"] != nil && limits?["maxPersonality"] != nil && limits?["maxSecurityGroups"] != nil)
        let newer = await cloud.send(.get, "limits", at: "2.57").json["limits"]?["absolute"]
        #expect(newer?["maxImageMeta"] == nil && newer?["maxPersonality"] == nil && newer?["maxSecurityGroups"] == nil)
        #expect(await cloud.send(.get, "limits?tenant_id=p2").status == 403)
        #expect(
            await cloud.send(.get, "limits?tenant_id=p2", as: "p1/admin").json["limits"]?["absolute"]?[
                "totalInstancesUsed"] == 0)
    }

    @Test("A compute service without servers is deleted with its host's record; one with servers is not")
    func deleteService() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost("kvm1")
        try await cloud.addHost("kvm2", uuid: "6f9619ff-8b86-4011-b42d-00c04fc964aa")
        _ = try await cloud.makeActive()
        func service(_ host: String) async throws -> String {
            try #require(
                try await cloud.database.services.find(host: HostName(host), binary: "nova-compute")?.uuid)
        }
        let (used, idle) = (try await service("kvm1"), try await service("kvm2"))
        let refused = await cloud.send(.delete, "os-services/\(used)", as: "p0/admin", at: "2.53")
        #expect(refused.status == 409 && refused.message.contains("1 instance on host kvm1"))
        #expect(await cloud.send(.delete, "os-services/\(idle)", as: "p0/admin", at: "2.53").status == 204)
        #expect(try await cloud.database.hosts.find(HostName("kvm2")) == nil)
        #expect(try await cloud.database.hosts.find(HostName("kvm1")) != nil)
        #expect(await cloud.send(.delete, "os-services/\(idle)", as: "p0/admin", at: "2.53").status == 404)
        #expect(await cloud.send(.delete, "os-services/x", as: "p0/admin", at: "2.53").status == 400)
    }
}
