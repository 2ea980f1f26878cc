import ComputeAPI
import Database
import HTTP
import Images
import Model
import Tasks
import Testing

@Suite("Making servers")
struct ServerCreateTests {
    @Test("One call leaves the instance, its action and its build task, and answers where it is")
    func create() async throws {
        let cloud = try await ComputeFixture()
        let reply = await cloud.send(
            .post, "servers", ComputeFixture.server(["adminPass": "pw", "metadata": ["a": "b"]]))
        #expect(reply.status == 202)
        let id = try #require(reply.json["server"]?["id"]?.text)
        #expect(
            Set(reply.json["server"]?.members?.keys ?? [:].keys) == ["id", "links", "OS-DCF:diskConfig", "adminPass"])
        #expect(reply.json["server"]?["adminPass"] == "pw")
        #expect(reply.response.headers["Location"] == "http://cloud:8774/compute/v2.1/servers/\(id)")
        let instance = try #require(try await cloud.instance(id))
        #expect((instance.vmState, instance.taskState) == (.building, .scheduling))
        #expect(instance.projectID == ProjectID("p1") && instance.userID == UserID("u-p1"))
        #expect(instance.metadata == ["a": "b"] && instance.networks == .auto && instance.number > 0)
        let actions = try await cloud.database.actions.list(InstanceID(id))
        #expect(actions.map(\.kind) == [.create])
        #expect(actions.first?.requestID.rawValue == reply.response.headers["x-openstack-request-id"])
        let tasks = try await cloud.database.tasks.list(instance: InstanceID(id), unfinishedOnly: true, limit: 10)
        #expect(tasks.map(\.kind) == [TaskKind.build])
        #expect(tasks.first?.generation == instance.fence.generation)
        let state = try #require(tasks.first.flatMap { try? JSON(parsing: $0.state) })
        #expect(state["adminPassword"] == "pw" && state["instance"]?.text == id)
        #expect(state["image"]?["id"]?.text == ComputeFixture.image)
    }

    @Test("A password is made up where none is asked for, and another one each time")
    func password() async throws {
        let cloud = try await ComputeFixture()
        var seen: Set<String> = []
        for _ in 0..<3 {
            let reply = await cloud.send(.post, "servers", ComputeFixture.server())
            seen.insert(reply.json["server"]?["adminPass"]?.text ?? "")
        }
        #expect(seen.count == 3 && seen.allSatisfy { $0.count == 12 })
    }

    @Test("What flavor and image cannot ask of a guest together is refused by property, value and reason")
    func hardware() async throws {
        let cloud = try await ComputeFixture()
        _ = try await cloud.database.flavors.update(FlavorID("42")) { $0.extraSpecs["hw:cpu_realtime"] = "yes" }
        let reply = await cloud.send(.post, "servers", ComputeFixture.server())
        #expect(reply.status == 400)
        #expect(
            reply.message.hasSuffix(
                "hw:cpu_realtime (flavor extra spec) = 'yes': real-time scheduling is not available yet"))
        #expect(try await cloud.database.instances.list(InstanceQuery()).isEmpty)
    }

    @Test("A PCI alias that the API does not know is refused, where it knows any; without a list hosts decide")
    func aliases() async throws {
        var settings = APISettings(operationPatience: .zero)
        settings.pciAliases = ["gpu"]
        for (known, wanted, status) in [
            (settings, "tpu:1", 400), (settings, "gpu:1", 202), (APISettings(operationPatience: .zero), "tpu:1", 202),
        ] {
            let cloud = try await ComputeFixture(settings: known)
            _ = try await cloud.database.flavors.update(FlavorID("42")) {
                $0.extraSpecs["pci_passthrough:alias"] = wanted
            }
            let reply = await cloud.send(.post, "servers", ComputeFixture.server())
            #expect(reply.status == status)
            if status == 400 { #expect(reply.message == "PCI alias tpu is not defined") }
        }
    }

    @Test(
        "Bad requests are refused with nothing left behind",
        arguments: [
            ["name": ""], ["name": "  "], ["name": 7], ["name": " x"], ["name": "a\u{0}b"],
            ["name": .string(String(repeating: "x", count: 256))], ["name": .null], ["flavorRef": "999"],
            ["flavorRef": -1], ["flavorRef": .null], ["flavorRef": ["x"]], ["imageRef": "nope"], ["imageRef": 5],
            ["imageRef": "bbbbbbbb-1111-4111-8111-111111111111"], ["imageRef": ""], ["adminPass": 1],
            ["key_name": "nothing"], ["metadata": ["a": 1]], ["metadata": ["": "x"]], ["metadata": "x"],
            ["metadata": ["k": .string(String(repeating: "v", count: 256))]], ["min_count": 0], ["max_count": 0],
            ["min_count": ""], ["min_count": "two"], ["min_count": 3, "max_count": 2], ["max_count": 100_000],
            ["accessIPv4": "300.1.1.1"], ["accessIPv6": "10.0.0.1"], ["user_data": "no base64!"],
            ["user_data": .string(String(repeating: "A", count: 65_536))], ["config_drive": "perhaps"],
            ["availability_zone": "mars"], ["block_device_mapping": []], ["no_such_member": 1], ["description": "x"],
            ["tags": ["x"]], ["networks": "auto"], ["networks": [["uuid": "x"]]],
            ["networks": [["uuid": "bbbbbbbb-1111-4111-8111-111111111111"]]], ["networks": 5],
            ["security_groups": [["name": "web"]]], ["OS-DCF:diskConfig": "SOMETIMES"],
            [
                "block_device_mapping_v2": [
                    ["source_type": "volume", "boot_index": 0, "uuid": .string(ComputeFixture.image)]
                ]
            ],
            ["block_device_mapping_v2": [["boot_index": 0]]],
        ] as [[String: JSON]])
    func refused(more: [String: JSON]) async throws {
        let cloud = try await ComputeFixture()
        let reply = await cloud.send(.post, "servers", ComputeFixture.server(more))
        #expect(reply.status == 400, "\(more): \(reply.message)")
        #expect(reply.json["badRequest"]?["code"] == 400)
        #expect(try await cloud.database.instances.list(InstanceQuery()).isEmpty)
        #expect(try await cloud.database.tasks.list(instance: nil, unfinishedOnly: false, limit: 10).isEmpty)
    }

    @Test(
        "What is no JSON object with a server is 400",
        arguments: [
            "", "{", "[]", "{}", "null", #"{"server":[]}"#, #"{"server":{}}"#,
            #"{"server":{"name":"x","imageRef":"","flavorRef":"42"},"more":1}"#,
        ])
    func malformed(body: String) async throws {
        let cloud = try await ComputeFixture()
        #expect(await cloud.send(.post, "servers", raw: body).status == 400)
    }

    @Test("A body over the limit is 413")
    func tooLarge() async throws {
        let cloud = try await ComputeFixture()
        let body = "{\"server\":\"" + String(repeating: "x", count: 1_100_000) + "\"}"
        let reply = await cloud.send(.post, "servers", raw: body)
        #expect(reply.status == 413 && reply.json["overLimit"] != nil)
    }

    @Test("The image must be active, visible and fit the flavor")
    func images() async throws {
        let cloud = try await ComputeFixture()
        func add(_ number: Int, _ change: (inout ImageRecord) -> Void) async throws -> JSON {
            let id = "cccccccc-1111-4111-8111-11111111111\(number)"
            var image = try #require(try await cloud.images.find(ImageID(ComputeFixture.image)))
            image = ImageRecord(
                id: ImageID(id), name: image.name, status: .active, visibility: .public, owner: ProjectID("p0"),
                diskFormat: .raw, containerFormat: "bare", sizeBytes: 1, virtualSizeBytes: 512, checksum: "c",
                sha512: "s", createdAt: ComputeFixture.start)
            change(&image)
            try await cloud.images.insert(image)
            return .string(id)
        }
        let cases: [(JSON, String)] = [
            (try await add(1) { $0.status = .queued }, "not active"),
            (try await add(2) { $0.visibility = .private }, "Can not find"),
            (try await add(3) { $0.virtualSizeBytes = (1 << 30) + 1 }, "disk is too small"),
            (try await add(4) { $0.minDiskGiB = 2 }, "minimum size"),
            (try await add(5) { $0.minMemoryMiB = 65 }, "memory is too small"),
        ]
        for (image, text) in cases {
            let reply = await cloud.send(.post, "servers", ComputeFixture.server(["imageRef": image]))
            #expect(reply.status == 400 && reply.message.contains(text), "\(reply.message)")
        }
    }

    @Test("The client's own boot disk is accepted as a block device")
    func bootDisk() async throws {
        let cloud = try await ComputeFixture()
        let disk: JSON = [
            "uuid": .string(ComputeFixture.image), "boot_index": 0, "source_type": "image", "destination_type": "local",
            "delete_on_termination": true,
        ]
        for reference in [JSON.string(ComputeFixture.image), ""] {
            let body = ComputeFixture.server(["imageRef": reference, "block_device_mapping_v2": [disk]])
            #expect(await cloud.send(.post, "servers", body).status == 202)
        }
    }

    @Test(
        "Networks: absent is auto below 2.37, required from then on",
        arguments: [
            ("2.1", nil, 202), ("2.36", [], 202), ("2.36", "none", 400), ("2.37", nil, 400), ("2.37", "auto", 202),
            ("2.37", "none", 202), ("2.62", "any", 400),
            ("2.62", [["port": "bbbbbbbb-1111-4111-8111-111111111111"]], 400),
        ] as [(String, JSON?, Int)])
    func networks(version: String, networks: JSON?, status: Int) async throws {
        let cloud = try await ComputeFixture()
        var more: [String: JSON] = [:]
        more["networks"] = networks
        let reply = await cloud.send(.post, "servers", at: version, ComputeFixture.server(more))
        #expect(reply.status == status)
        guard let id = reply.json["server"]?["id"]?.text else { return }
        #expect(try await cloud.instance(id)?.networks == (networks == "none" ? NetworkRequest.none : .auto))
    }

    @Test("Several at once get numbered names, one reservation, and all or none are made")
    func several() async throws {
        let cloud = try await ComputeFixture()
        let body = ComputeFixture.server(["min_count": 2, "max_count": "3", "return_reservation_id": true])
        let reply = await cloud.send(.post, "servers", body)
        #expect(reply.status == 202)
        let reservation = try #require(reply.json["reservation_id"]?.text)
        #expect(reply.json.members?.count == 1 && reservation.hasPrefix("r-"))
        let made = try await cloud.database.instances.list(InstanceQuery())
        #expect(made.map(\.name).sorted() == ["web-1", "web-2", "web-3"])
        #expect(Set(made.map(\.reservationID)) == [reservation])
        #expect(try await cloud.database.tasks.list(instance: nil, unfinishedOnly: true, limit: 10).count == 4)
    }

    @Test("Quotas are counted live, name what is short, and shrink a range that does not fit whole")
    func quotas() async throws {
        let cloud = try await ComputeFixture(
            settings: APISettings(quotas: .init(instances: 3, cores: 4, memoryMiB: 300)))
        let range = await cloud.send(.post, "servers", ComputeFixture.server(["min_count": 1, "max_count": 10]))
        #expect(range.status == 202)
        #expect(try await cloud.database.instances.list(InstanceQuery()).count == 3)
        let over = await cloud.send(.post, "servers", ComputeFixture.server())
        #expect(over.status == 403 && over.message.contains("instances") && over.json["forbidden"] != nil)
        #expect(
            await cloud.send(.post, "servers", as: "p2/member", ComputeFixture.server(["flavorRef": "1"])).status == 403
        )
        #expect(
            await cloud.send(.post, "servers", as: "p2/member", ComputeFixture.server(["flavorRef": "84"])).status
                == 202)
    }

    @Test("Of many creates at the same time exactly as many succeed as the quota has room for")
    func race() async throws {
        let cloud = try await ComputeFixture()
        let statuses = await withTaskGroup { group in
            for _ in 0..<20 { group.addTask { await cloud.send(.post, "servers", ComputeFixture.server()).status } }
            return await group.reduce(into: [Int: Int]()) { $0[$1, default: 0] += 1 }
        }
        #expect(statuses == [202: 10, 403: 10])
    }

    @Test(
        "Host names are made of names",
        arguments: [
            ("Web Server_1.example", "web-server-1-example"), ("--x--", "x"),
            (String(repeating: "a", count: 80), String(repeating: "a", count: 63)),
            ("ÍñstáÑcé", "stc"),
        ])
    func hostnames(name: String, expected: String) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeServer(["name": .string(name)])
        #expect(try await cloud.instance(id)?.hostname == expected)
    }

    private func hinted(_ hints: JSON) -> JSON {
        .object(["server": ComputeFixture.server()["server"] ?? .null, "os:scheduler_hints": hints])
    }

    @Test(
        "Hints that nobody can follow are refused",
        arguments: [
            (["group": "x"], 400), (["group": "8d3d17a5-8b4f-4a1e-9d0d-8a3d3f0a0b11"], 400), (["same_host": "x"], 400),
            (["same_host": []], 400), (["different_host": ["8d3d17a5-8b4f-4a1e-9d0d-8a3d3f0a0b11", 5]], 400),
            (["query": "{"], 400), (["query": "[\"like\", 1]"], 400), (["query": 5], 400),
            (["build_near_host_ip": "here"], 400), (["cidr": "24"], 400), (["cidr": "/129"], 400),
            (["target_cell": "c"], 501), ([1], 400), (["x": 5], 400),
        ] as [(JSON, Int)])
    func badHints(hints: JSON, status: Int) async throws {
        let cloud = try await ComputeFixture()
        #expect(await cloud.send(.post, "servers", hinted(hints)).status == status)
        #expect(await cloud.send(.get, "servers").json["servers"] == [])
    }

    @Test("Hints that can be followed are kept, a query as its text")
    func hints() async throws {
        let cloud = try await ComputeFixture()
        let other = "8D3D17A5-8B4F-4A1E-9D0D-8A3D3F0A0B11"
        let reply = await cloud.send(
            .post, "servers",
            hinted([
                "same_host": .string(other), "different_host": [.string(other)], "query": [">=", "$free_ram_mb", 1],
                "build_near_host_ip": "10.0.0.1", "cidr": "/16", "own": ["a", "b"],
            ]))
        let instance = try await cloud.instance(reply.json["server"]?["id"]?.text ?? "")
        #expect(
            instance?.schedulerHints == [
                "same_host": [other.lowercased()], "different_host": [other.lowercased()],
                "query": [#"[">=","$free_ram_mb",1]"#], "build_near_host_ip": ["10.0.0.1"], "cidr": ["/16"],
                "own": ["a", "b"],
            ])
    }

    @Test("A server joins the group of its hint, as far as the quota goes, and leaves it when it is deleted")
    func group() async throws {
        let settings = APISettings(quotas: QuotaLimits(serverGroupMembers: 2), operationPatience: .zero)
        let cloud = try await ComputeFixture(settings: settings)
        func make(_ token: String) async -> String {
            let made = await cloud.send(
                .post, "os-server-groups", as: token, at: "2.15",
                ["server_group": ["name": "g", "policies": ["anti-affinity"]]])
            return made.json["server_group"]?["id"]?.text ?? ""
        }
        let group = await make("p1/member")
        var ids: [String] = []
        for _ in 1...2 {
            let made = await cloud.send(.post, "servers", hinted(["group": .string(group)]))
            ids.append(made.json["server"]?["id"]?.text ?? "")
        }
        let third = await cloud.send(.post, "servers", hinted(["group": .string(group)]))
        #expect(
            third.status == 403 && third.message.contains("server_group_members: Requested 1, but already used 2 of 2"))
        func members() async -> JSON? {
            await cloud.send(.get, "os-server-groups/\(group)").json["server_group"]?["members"]
        }
        #expect(await members() == .array(ids.map { .string($0) }))
        let moment = cloud.clock.now
        _ = try await cloud.database.instances.update(InstanceID(ids[0]), now: moment) { $0.deletedAt = moment }
        #expect(await members() == [.string(ids[1])])
        #expect(await cloud.send(.post, "servers", as: "p2/member", hinted(["group": .string(group)])).status == 400)
        let foreign = await make("p2/member")
        #expect(await cloud.send(.post, "servers", as: "p1/admin", hinted(["group": .string(foreign)])).status == 400)
    }

    @Test("Administrators may name the host, and nobody a host that there is not")
    func forcedHost() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        func make(_ zone: String, as token: String = "p1/admin") async -> ComputeFixture.Reply {
            await cloud.send(.post, "servers", as: token, ComputeFixture.server(["availability_zone": .string(zone)]))
        }
        #expect(await make("nova:kvm1", as: "p1/member").status == 403)
        for zone in ["nova:none", "nova:", "mars:kvm1", "nova:kvm1:node:more", "::"] {
            #expect(await make(zone).status == 400, "\(zone)")
        }
        for (zone, expected) in [
            ("nova:kvm1", RequestedDestination(host: HostName("kvm1"), node: nil, isForced: true)),
            (":kvm1:node", RequestedDestination(host: HostName("kvm1"), node: "node", isForced: true)),
            ("nova::node", RequestedDestination(host: nil, node: "node", isForced: true)),
        ] {
            let id = await make(zone).json["server"]?["id"]?.text ?? ""
            #expect(try await cloud.instance(id)?.destination == expected)
        }
    }
}
