import ComputeAPI
import Database
import HTTP
import Model
import Tasks
import Testing

@Suite("What the versions from 2.66 on change, each at its version and not before")
struct LaterVersionTests {
    private func show(_ cloud: ComputeFixture, _ id: String, _ version: String, as token: String = "p1/member") async
        -> JSON
    {
        await cloud.send(.get, "servers/\(id)", as: token, at: version).json["server"] ?? .null
    }

    private func names(_ cloud: ComputeFixture, _ query: String, _ version: String, as token: String = "p1/member")
        async
        -> String
    {
        let reply = await cloud.send(.get, "servers?" + query, as: token, at: version)
        let names = reply.json["servers"]?.list?.compactMap { $0["name"]?.text }
        return names?.sorted().joined(separator: ",") ?? "\(reply.status)"
    }

    @Test("2.66: servers and their actions are listed up to a time")
    func changesBefore() async throws {
        let cloud = try await ComputeFixture()
        let old = try await cloud.makeServer(["name": "old"])
        cloud.clock.advance(by: .seconds(3_600))
        _ = try await cloud.makeServer(["name": "new"])
        #expect(await names(cloud, "changes-before=2026-01-01T00:00:00Z", "2.66") == "old")
        #expect(await names(cloud, "changes-before=2026-01-01T00:00:00Z", "2.65") == "new,old")
        #expect(
            await names(cloud, "changes-since=2026-01-01T00:00:00Z&changes-before=2026-01-01T02:00:00Z", "2.66")
                == "new,old")
        #expect(
            await names(cloud, "changes-since=2026-01-02T00:00:00Z&changes-before=2026-01-01T00:00:00Z", "2.66")
                == "400")
        #expect(await names(cloud, "changes-before=yesterday", "2.66") == "400")
        func actions(_ query: String, _ version: String) async -> Int {
            let reply = await cloud.send(.get, "servers/\(old)/os-instance-actions?" + query, at: version)
            return reply.json["instanceActions"]?.list?.count ?? -reply.status
        }
        #expect(await actions("changes-before=2025-01-01T00:00:00Z", "2.66") == 0)
        #expect(await actions("changes-before=2025-01-01T00:00:00Z", "2.65") == 1)
        #expect(await actions("changes-before=2026-01-01T00:00:00Z", "2.66") == 1)
    }

    @Test("2.70: an interface shows its tag")
    func interfaceTag() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        _ = try await cloud.database.instances.update(InstanceID(id), now: cloud.clock.now) {
            $0.interfaces = [NetworkInterface(network: "default", macAddress: "fa:16:3e:00:00:01", tag: "outside")]
        }
        func nic(_ version: String) async -> JSON? {
            await cloud.send(.get, "servers/\(id)/os-interface", at: version).json["interfaceAttachments"]?[0]
        }
        #expect(await nic("2.70")?["tag"] == "outside")
        let before = await nic("2.69")
        #expect(before != nil && before?["tag"] == nil)
    }

    @Test("2.71: a server alone shows its group, a list does not")
    func groups() async throws {
        let cloud = try await ComputeFixture()
        let made = await cloud.send(
            .post, "os-server-groups", at: "2.64", ["server_group": ["name": "g", "policy": "affinity"]])
        let group = made.json["server_group"]?["id"]?.text ?? ""
        var body = ComputeFixture.server()
        body = .object((body.members ?? [:]).merging(["os:scheduler_hints": ["group": .string(group)]]) { $1 })
        let id = await cloud.send(.post, "servers", body).json["server"]?["id"]?.text ?? ""
        #expect(await show(cloud, id, "2.71")["server_groups"] == [.string(group)])
        #expect(await show(cloud, id, "2.70")["server_groups"] == nil)
        #expect(await show(cloud, try await cloud.makeServer(), "2.71")["server_groups"] == [])
        let listed = await cloud.send(.get, "servers/detail", at: "2.71").json["servers"]?[0]
        #expect(listed != nil && listed?["server_groups"] == nil)
        let put = await cloud.send(.put, "servers/\(id)", at: "2.71", ["server": ["name": "n"]])
        #expect(put.json["server"]?["server_groups"] == [.string(group)])
    }

    @Test("2.73: a lock has a reason, and servers are listed by it")
    func lockReason() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive(["name": "held"])
        _ = try await cloud.makeActive(["name": "free"])
        func lock(_ argument: JSON, _ version: String) async -> Int {
            await cloud.send(.post, "servers/\(id)/action", at: version, ["lock": argument]).status
        }
        #expect(await lock(["locked_reason": "moving house"], "2.72") == 400)
        #expect(await lock(["locked_reason": ""], "2.73") == 400)
        #expect(await lock(["locked_reason": .string(String(repeating: "x", count: 256))], "2.73") == 400)
        #expect(await lock(["locked_reason": "moving house"], "2.73") == 202)
        #expect(await show(cloud, id, "2.73")["locked_reason"] == "moving house")
        #expect(await show(cloud, id, "2.72")["locked_reason"] == nil)
        #expect(await names(cloud, "locked=true", "2.73") == "held")
        #expect(await names(cloud, "locked=false", "2.73") == "free")
        #expect(await names(cloud, "locked=true", "2.72") == "free,held")
        #expect(await names(cloud, "locked=perhaps", "2.73") == "400")
        _ = try await cloud.makeActive(["name": "tricky", "metadata": ["a": #"{"lock":{"#]])
        func sorted(_ direction: String, _ version: String) async -> [String]? {
            let reply = await cloud.send(.get, "servers?sort_key=locked&sort_dir=\(direction)", at: version)
            return reply.json["servers"]?.list?.compactMap { $0["name"]?.text }
        }
        #expect(await sorted("desc", "2.73")?.first == "held")
        #expect(await sorted("asc", "2.73")?.last == "held")
        #expect(await sorted("asc", "2.72") == nil)
        #expect(await lock(.null, "2.73") == 202)
        #expect(await show(cloud, id, "2.73")["locked_reason"] == .null)
    }

    @Test("2.74: administrators ask for a host, which the filters must admit")
    func requestedHost() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        func make(_ more: [String: JSON], as token: String = "p1/admin", at version: String = "2.74") async
            -> ComputeFixture.Reply
        {
            let body = ComputeFixture.server(more.merging(["networks": "none"]) { $1 })
            return await cloud.send(.post, "servers", as: token, at: version, body)
        }
        let made = await make(["host": "kvm1", "hypervisor_hostname": "kvm1"])
        #expect(made.status == 202)
        let id = made.json["server"]?["id"]?.text ?? ""
        let wanted = RequestedDestination(host: HostName("kvm1"), node: "kvm1", isForced: false)
        #expect(try await cloud.instance(id)?.destination == wanted)
        #expect(await make(["hypervisor_hostname": "kvm1"]).status == 202)
        #expect(await make(["host": "kvm1"], at: "2.73").status == 400)
        #expect(await make(["host": "kvm1"], as: "p1/member").status == 403)
        #expect(await make(["host": "kvm9"]).status == 400)
        #expect(await make(["hypervisor_hostname": "kvm9"]).status == 400)
        #expect(await make(["host": "kvm1", "availability_zone": "nova:kvm1"]).status == 400)
        #expect(await make(["host": 7]).status == 400)
    }

    @Test(
        "2.75: unknown query parameters are refused, where they were passed over",
        arguments: [
            "servers", "servers/detail", "flavors", "flavors/detail", "os-keypairs", "os-hypervisors", "os-services",
            "os-server-groups", "limits", "os-quota-sets/p1",
        ])
    func unknownQuery(path: String) async throws {
        let cloud = try await ComputeFixture()
        func status(_ query: String, _ version: String) async -> Int {
            await cloud.send(.get, path + "?" + query, as: "p1/admin", at: version).status
        }
        #expect(await status("colour=red", "2.74") == 200)
        #expect(await status("colour=red", "2.75") == 400)
        #expect(await status("_=1", "2.75") == 200)
    }

    @Test("2.75: a changed server is shown as any other, no swap is 0, a hypervisor without servers has none")
    func cleanups() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        let id = try await cloud.makeActive()
        let full = Set((await show(cloud, id, "2.75")).members?.keys ?? [:].keys)
        let put = await cloud.send(.put, "servers/\(id)", at: "2.75", ["server": ["name": "n"]]).json["server"]
        #expect(Set(put?.members?.keys ?? [:].keys) == full)
        let before = await cloud.send(.put, "servers/\(id)", at: "2.74", ["server": ["name": "n"]]).json["server"]
        #expect(before?["OS-EXT-STS:vm_state"] == nil && put?["OS-EXT-STS:vm_state"] == "active")
        let rebuilt = await cloud.send(
            .post, "servers/\(id)/action", at: "2.75", ["rebuild": ["imageRef": .string(ComputeFixture.image)]])
        #expect(Set(rebuilt.json["server"]?.members?.keys ?? [:].keys) == full.union(["adminPass", "user_data"]))
        #expect(await cloud.send(.get, "flavors/42", at: "2.75").json["flavor"]?["swap"] == 0)
        #expect(await cloud.send(.get, "flavors/42", at: "2.74").json["flavor"]?["swap"] == "")
        func hypervisor(_ version: String) async -> JSON? {
            await cloud.send(.get, "os-hypervisors?with_servers=1", as: "p1/admin", at: version).json["hypervisors"]?[0]
        }
        try await cloud.addHost("kvm0", uuid: "6f9619ff-8b86-4011-b42d-00c04fc964f1")
        let all = await cloud.send(.get, "os-hypervisors?with_servers=1", as: "p1/admin", at: "2.75").json[
            "hypervisors"]
        #expect(all?.list?.first { $0["hypervisor_hostname"] == "kvm0" }?["servers"] == [])
        let old = await cloud.send(.get, "os-hypervisors?with_servers=1", as: "p1/admin", at: "2.74").json[
            "hypervisors"]
        let bare = old?.list?.first { $0["hypervisor_hostname"] == "kvm0" }
        #expect(bare != nil && bare?["servers"] == nil)
    }

    @Test("2.77 and 2.91: an offloaded server comes back in a zone, or on a host")
    func unshelve() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        func offloaded() async throws -> String {
            let id = try await cloud.makeActive()
            _ = try await cloud.database.instances.update(InstanceID(id), now: cloud.clock.now) {
                ($0.vmState, $0.host) = (.shelvedOffloaded, nil)
                $0.shelved = ShelvedRecord(imageID: ImageID(ComputeFixture.image), host: nil, at: cloud.clock.now)
            }
            return id
        }
        func unshelve(_ id: String, _ argument: JSON, _ version: String, as token: String = "p1/admin") async -> Int {
            await cloud.send(.post, "servers/\(id)/action", as: token, at: version, ["unshelve": argument]).status
        }
        let id = try await offloaded()
        #expect(await unshelve(id, ["availability_zone": "nova"], "2.76") == 400)
        #expect(await unshelve(id, ["availability_zone": "mars"], "2.77") == 400)
        #expect(await unshelve(id, [:], "2.77") == 400)
        #expect(await unshelve(id, ["availability_zone": .null], "2.77") == 400)
        #expect(await unshelve(id, ["host": "kvm1"], "2.90") == 400)
        #expect(await unshelve(id, ["host": "kvm9"], "2.91") == 400)
        #expect(await unshelve(id, ["host": "kvm1"], "2.91", as: "p1/member") == 403)
        #expect(await unshelve(id, ["availability_zone": "nova"], "2.77") == 202)
        #expect(try await cloud.instance(id)?.availabilityZone == "nova")
        let other = try await offloaded()
        #expect(await unshelve(other, ["host": "kvm1", "availability_zone": .null], "2.91") == 202)
        let wanted = RequestedDestination(host: HostName("kvm1"), node: nil, isForced: false)
        #expect(try await cloud.instance(other)?.destination == wanted)
        #expect(try await cloud.instance(other)?.availabilityZone == nil)
        #expect(await unshelve(try await offloaded(), .null, "2.91") == 202)
        let shelved = try await cloud.makeActive()
        try await cloud.settle(shelved, .shelved, power: .shutdown)
        #expect(await unshelve(shelved, ["availability_zone": "nova"], "2.77") == 409)
    }

    @Test("2.78: a server's cells, and for administrators where they are")
    func topology() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        func topology(_ version: String, as token: String) async -> ComputeFixture.Reply {
            await cloud.send(.get, "servers/\(id)/topology", as: token, at: version)
        }
        #expect(await topology("2.77", as: "p1/admin").status == 404)
        let told = await topology("2.78", as: "p1/admin").json
        #expect(
            told == [
                "nodes": [
                    [
                        "memory_mb": 256, "siblings": [], "vcpu_set": [0, 1], "host_node": 1,
                        "cpu_pinning": ["0": 5, "1": 4],
                    ],
                    ["memory_mb": 256, "siblings": [], "vcpu_set": [2], "host_node": 0, "cpu_pinning": [:]],
                ], "pagesize_kb": 2_048,
            ])
        let own = await topology("2.78", as: "p1/reader").json["nodes"]?[0]
        #expect(own == ["memory_mb": 256, "siblings": [], "vcpu_set": [0, 1]])
        let waiting = try await cloud.makeServer()
        #expect(
            await cloud.send(.get, "servers/\(waiting)/topology", at: "2.78").json == [
                "nodes": [], "pagesize_kb": .null,
            ])
    }

    @Test("2.83: everybody filters by states, keys and zones")
    func openFilters() async throws {
        let cloud = try await ComputeFixture()
        _ = try await cloud.makeActive(["name": "on"])
        let off = try await cloud.makeActive(["name": "off"])
        try await cloud.settle(off, .stopped, power: .shutdown)
        for query in ["vm_state=stopped", "power_state=4"] {
            #expect(await names(cloud, query, "2.83") == "off", "\(query)")
            #expect(await names(cloud, query, "2.82") == "off,on", "\(query)")
        }
        #expect(await names(cloud, "created_at=2026-01-01T00:00:00Z", "2.83") == "off,on")
        #expect(await names(cloud, "created_at=2025-01-01T00:00:00Z", "2.83") == "")
        #expect(await names(cloud, "launched_at=never", "2.83") == "400")
        #expect(await names(cloud, "host=nowhere", "2.83") == "off,on", "a host is for administrators to ask for")
    }

    @Test("2.84: an event says why")
    func details() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        #expect(await cloud.send(.post, "servers/\(id)/action", ["lock": .null]).status == 202)
        let action = await cloud.send(.get, "servers/\(id)/os-instance-actions").json["instanceActions"]?.list?
            .first { $0["action"] == "lock" }
        let path = "servers/\(id)/os-instance-actions/\(action?["request_id"]?.text ?? "")"
        let event = await cloud.send(.get, path, at: "2.84").json["instanceAction"]?["events"]?[0]
        #expect(event != nil && event?["details"] == .null)
        let old = await cloud.send(.get, path, at: "2.83").json["instanceAction"]?["events"]?[0]
        #expect(old != nil && old?["details"] == nil)
        let request = RequestID(action?["request_id"]?.text ?? "")
        let now = cloud.clock.now + .seconds(1)
        let failed = InstanceEvent(
            name: "later", host: nil, startedAt: now, finishedAt: now, result: "Error", details: "no room")
        _ = try await cloud.database.instances.update(
            InstanceID(id), now: now,
            finishing: ActionEnd(requestID: request, at: now, failed: true, event: failed)
        ) { _ in }
        let events = await cloud.send(.get, path, at: "2.84").json["instanceAction"]?["events"]?.list
        #expect(events?.first { $0["event"] == "later" }?["details"] == "no room")
    }

    @Test("2.86: extra specs of known namespaces are known, and mean something")
    func extraSpecs() async throws {
        let cloud = try await ComputeFixture()
        func set(_ name: String, _ value: String, _ version: String = "2.86") async -> Int {
            let body: JSON = ["extra_specs": .object([name: .string(value)])]
            return await cloud.send(.post, "flavors/42/os-extra_specs", as: "p0/admin", at: version, body).status
        }
        for (name, value) in [
            ("hw:cpu_polciy", "dedicated"), ("quota:cpus", "1"), ("os:boot", "1"), ("trait:HW_CPU", "maybe"),
            ("trait1:lower", "required"), ("group_policy", "some"), ("hide_hypervisor_id", "perhaps"),
        ] {
            #expect(await set(name, value) == 400, "\(name)")
            #expect(await set(name, value, "2.85") == 200, "\(name)")
        }
        for (name, value) in [
            ("hw:cpu_policy", "dedicated"), ("hw:numa_cpus.0", "0,1"), ("trait:HW_CPU_X86_AVX", "required"),
            ("trait_a:CUSTOM_X", "forbidden"), ("group_policy", "isolate"), ("hide_hypervisor_id", "true"),
            ("aggregate_instance_extra_specs:ssd", "true"), ("capabilities:cpu_info:arch", "x86_64"), ("own", "any"),
            ("company:own", "any"), ("resources:VGPU", "1"),
        ] {
            #expect(await set(name, value) == 200, "\(name)")
        }
    }

    @Test("2.88: a hypervisor shows how long it has been up; the routes for that and for sums end")
    func hypervisors() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        let id = "6f9619ff-8b86-4011-b42d-00c04fc964ff"
        func get(_ path: String, _ version: String) async -> ComputeFixture.Reply {
            await cloud.send(.get, "os-hypervisors" + path, as: "p1/admin", at: version)
        }
        let shown = await get("/" + id, "2.88").json["hypervisor"]
        #expect(shown?["uptime"]?.text?.contains("up 1 day, 1:01") == true)
        #expect(shown?["memory_mb"] == 16_384, "what people look for stays")
        #expect(await get("/" + id, "2.87").json["hypervisor"]?["uptime"] == nil)
        for path in ["/statistics", "/\(id)/uptime"] {
            #expect(await get(path, "2.87").status == 200)
            #expect(await get(path, "2.88").status != 200)
        }
    }

    @Test("2.90 and 2.94: a guest gets the host name that is asked for, later with a domain")
    func hostnames() async throws {
        let cloud = try await ComputeFixture()
        func make(_ name: JSON, _ version: String, _ more: [String: JSON] = [:]) async -> ComputeFixture.Reply {
            let fields = more.merging(["hostname": name, "networks": "none"]) { $1 }
            return await cloud.send(.post, "servers", at: version, ComputeFixture.server(fields))
        }
        #expect(await make("web", "2.89").status == 400)
        for bad in ["", "-a", "a-", "a.b", "a_b", "ä", .string(String(repeating: "a", count: 64)), 7] as [JSON] {
            #expect(await make(bad, "2.90").status == 400, "\(bad)")
        }
        #expect(await make("a..b", "2.94").status == 400)
        let made = await make("front-1", "2.90")
        let id = made.json["server"]?["id"]?.text ?? ""
        #expect(await show(cloud, id, "2.90")["OS-EXT-SRV-ATTR:hostname"] == "front-1")
        #expect(await show(cloud, id, "2.89")["OS-EXT-SRV-ATTR:hostname"] == nil)
        #expect(await show(cloud, id, "2.89", as: "p1/admin")["OS-EXT-SRV-ATTR:hostname"] == "front-1")
        let put = await cloud.send(.put, "servers/\(id)", at: "2.94", ["server": ["hostname": "front.example.org"]])
        #expect(put.json["server"]?["OS-EXT-SRV-ATTR:hostname"] == "front.example.org")
        let many = await make("node.example.org", "2.94", ["min_count": 2, "return_reservation_id": true])
        let reservation = many.json["reservation_id"]?.text ?? ""
        let listed = await cloud.send(.get, "servers/detail?reservation_id=\(reservation)", at: "2.94").json["servers"]
        #expect(
            Set(listed?.list?.compactMap { $0["OS-EXT-SRV-ATTR:hostname"]?.text } ?? []) == [
                "node-1.example.org", "node-2.example.org",
            ])
    }

    @Test("2.92: keys are imported only, under names that addresses can be")
    func keyPairs() async throws {
        let cloud = try await ComputeFixture()
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk0zCLYDHEiN5vJEmSpmk7jWwjtRVSLOCyDVcCLJz2V me"
        func make(_ fields: [String: JSON], _ version: String) async -> Int {
            await cloud.send(.post, "os-keypairs", at: version, ["keypair": .object(fields)]).status
        }
        #expect(await make(["name": "me@example.org", "public_key": .string(key)], "2.91") == 400)
        #expect(await make(["name": "me@example.org", "public_key": .string(key)], "2.92") == 201)
        #expect(await make(["name": "made"], "2.92") == 400)
        #expect(await make(["name": "me/you", "public_key": .string(key)], "2.92") == 400)
    }

    @Test("2.96, 2.98, 2.100: a server shows its zone, its image's properties and its hints")
    func later() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        let id = try await cloud.makeActive()
        _ = try await cloud.database.instances.update(InstanceID(id), now: cloud.clock.now) {
            $0.availabilityZone = "nova"
            $0.imageProperties = ["hw_disk_bus": "virtio"]
            $0.schedulerHints = ["cidr": ["/24"], "same_host": ["a", "b"]]
        }
        #expect(await show(cloud, id, "2.96")["pinned_availability_zone"] == "nova")
        #expect(await show(cloud, id, "2.95")["pinned_availability_zone"] == nil)
        let free = try await cloud.makeActive()
        #expect(await show(cloud, free, "2.96")["pinned_availability_zone"] == .null)
        #expect(await show(cloud, free, "2.96")["OS-EXT-AZ:availability_zone"] == "nova")
        #expect(await show(cloud, id, "2.98")["image"]?["properties"] == ["hw_disk_bus": "virtio"])
        #expect(await show(cloud, id, "2.97")["image"]?["properties"] == nil)
        #expect(await show(cloud, id, "2.100")["scheduler_hints"] == ["cidr": "/24", "same_host": ["a", "b"]])
        #expect(await show(cloud, id, "2.99")["scheduler_hints"] == nil)
        #expect(await show(cloud, free, "2.100")["scheduler_hints"] == [:])
    }
}
