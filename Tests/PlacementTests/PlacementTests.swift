import Database
import HTTP
import Model
import Testing

@testable import Placement

private let kvm1 = PlacementFixture.kvm1
private let kvm2 = PlacementFixture.kvm2
private let server = "33333333-3333-4333-8333-333333333333"

@Suite("The Placement API, to look at")
struct PlacementTests {
    /// Every path with the version that it begins at.
    static let paths: [(String, Int)] = [
        ("/resource_providers", 0), ("/resource_providers/\(kvm1)", 0), ("/resource_providers/\(kvm1)/inventories", 0),
        ("/resource_providers/\(kvm1)/inventories/VCPU", 0), ("/resource_providers/\(kvm1)/usages", 0),
        ("/resource_providers/\(kvm1)/allocations", 0), ("/resource_providers/\(kvm1)/aggregates", 1),
        ("/resource_providers/\(kvm1)/traits", 6), ("/resource_classes", 2), ("/resource_classes/VCPU", 2),
        ("/traits", 6), ("/traits/COMPUTE_NODE", 6), ("/allocations/\(server)", 0), ("/usages?project_id=p", 9),
        ("/allocation_candidates?resources=VCPU:1", 10),
    ]

    @Test("Each path is there from its version on, for administrators and services alone", arguments: paths)
    func frame(path: String, since: Int) async throws {
        let cloud = try await PlacementFixture()
        for roles in ["admin", "service", "member,admin"] {
            let reply = await cloud.send(.get, path, at: "1.\(since)", as: roles)
            #expect((200...204).contains(reply.status), "\(roles)")
            #expect(reply.response.headers["OpenStack-API-Version"] == "placement 1.\(since)")
            #expect(reply.response.headers["Vary"] == "OpenStack-API-Version")
            #expect(reply.response.headers["x-openstack-request-id"]?.hasPrefix("req-") == true)
        }
        if since > 0 { #expect(await cloud.send(.get, path, at: "1.\(since - 1)").status == 404) }
        #expect(await cloud.send(.get, path, at: "1.14").response.headers["Last-Modified"] == nil)
        let newer = await cloud.send(.get, path, at: "1.15")
        #expect(newer.response.headers["Last-Modified"] == "Thu, 01 Jan 2026 00:00:00 GMT")
        #expect(newer.response.headers["Cache-Control"] == "no-cache")
        for roles in ["reader", "manager,member", ""] {
            let reply = await cloud.send(.get, path, as: roles)
            #expect(reply.status == 403 && reply.error?["status"] == 403)
        }
        let anonymous = await cloud.send(.get, path, as: nil)
        #expect(anonymous.status == 401 && anonymous.error?["title"] == "Unauthorized")
        #expect(anonymous.response.headers["WWW-Authenticate"] != nil)
    }

    @Test("Nothing can be written, and the answer says why", arguments: paths)
    func writes(path: String, since: Int) async throws {
        let cloud = try await PlacementFixture()
        for method in [HTTPMethod.put, .post, .delete] {
            let reply = await cloud.send(method, path)
            #expect(reply.status == 405 && reply.error?["detail"]?.text?.contains("only read") == true)
            #expect(reply.response.headers["Allow"] == "GET, HEAD")
            #expect(await cloud.send(method, path, as: "member").status == 403)
            #expect(await cloud.send(method, path, as: nil).status == 401)
        }
    }

    @Test("What is only ever written elsewhere is refused in the same words; what is not there is 404")
    func elsewhere() async throws {
        let cloud = try await PlacementFixture()
        for path in ["/allocations", "/reshaper"] {
            let reply = await cloud.send(.post, path)
            #expect(reply.status == 405 && reply.error?["detail"]?.text?.contains("only read") == true)
        }
        let unknown = await cloud.send(.get, "/nothing")
        #expect(unknown.status == 404 && unknown.error?["title"] == "Not Found")
        #expect(await cloud.send(.get, "/nothing", as: nil).status == 401)
    }

    @Test("The versions need no token, and follow from the table of changes")
    func versions() async throws {
        let cloud = try await PlacementFixture()
        let root = await cloud.send(.get, "/", at: nil, as: nil)
        #expect(root.status == 200)
        let version = root.json["versions"]?[0]
        #expect(version?["id"] == "v1.0" && version?["status"] == "CURRENT")
        #expect(version?["min_version"] == "1.0" && version?["max_version"] == "1.39")
        #expect(version?["links"]?[0]?["href"] == "http://cloud/placement/")
        #expect(PlacementVersion.changes.map(\.minor) == Array(1...39))
    }

    @Test(
        "A request has the version that it asks for",
        arguments: [
            (nil, 200, "placement 1.0"), ("1.29", 200, "placement 1.29"), ("latest", 200, "placement 1.39"),
            ("1.40", 406, nil), ("2.0", 406, nil), ("1", 400, nil), ("1.x", 400, nil), ("one", 400, nil),
        ] as [(String?, Int, String?)])
    func negotiation(version: String?, status: Int, echoed: String?) async throws {
        let cloud = try await PlacementFixture()
        let reply = await cloud.send(.get, "/resource_providers", at: version)
        #expect(reply.status == status)
        #expect(reply.response.headers["OpenStack-API-Version"] == echoed)
        if status == 406 { #expect(reply.error?["max_version"] == "1.39" && reply.error?["min_version"] == "1.0") }
    }

    @Test("Errors have what clients look for, a code from 1.23 on")
    func errors() async throws {
        let cloud = try await PlacementFixture()
        let reply = await cloud.send(.get, "/resource_providers/\(server)", at: "1.23")
        #expect(reply.status == 404)
        let id = reply.response.headers["x-openstack-request-id"] ?? ""
        #expect(
            reply.error == [
                "status": 404, "title": "Not Found",
                "detail": .string("No resource provider with uuid \(server) found"),
                "request_id": .string(id), "code": "placement.resource_provider.not_found",
            ])
        let older = await cloud.send(.get, "/resource_providers/\(server)", at: "1.22")
        #expect(older.error?["code"] == nil && older.error?["detail"] != nil)
    }

    // MARK: - Providers

    @Test("A host is a provider: its uuid, the hypervisor's name, and links that grow with the versions")
    func provider() async throws {
        let cloud = try await PlacementFixture()
        let list = await cloud.send(.get, "/resource_providers", at: "1.0").json["resource_providers"]
        #expect(list?.list?.count == 2)
        let first = try #require(list?[0])
        #expect(first["uuid"] == .string(kvm1) && first["name"] == "kvm1.example" && first["generation"]?.int != nil)
        #expect(first.members?.count == 4)
        func links(_ version: String) async -> [String] {
            let shown = await cloud.send(.get, "/resource_providers/\(kvm1)", at: version).json
            return shown["links"]?.list?.compactMap { $0["rel"]?.text } ?? []
        }
        #expect(await links("1.0") == ["self", "inventories", "usages"])
        #expect(await links("1.11") == ["self", "inventories", "usages", "aggregates", "traits", "allocations"])
        let newer = await cloud.send(.get, "/resource_providers/\(kvm1.uppercased())", at: "1.14").json
        #expect(newer["root_provider_uuid"] == .string(kvm1) && newer["parent_provider_uuid"] == .null)
        let link = newer["links"]?[1]?["href"]?.text ?? ""
        #expect(link == "/placement/resource_providers/\(kvm1)/inventories")
        #expect(await cloud.send(.get, String(link.dropFirst("/placement".count))).status == 200)
    }

    @Test("Inventories and usages are the host's own: total, reserved, ratio; claims without what is reserved")
    func inventories() async throws {
        let cloud = try await PlacementFixture()
        let path = "/resource_providers/\(kvm1)"
        let shown = await cloud.send(.get, path + "/inventories").json
        #expect(
            shown["inventories"]?["MEMORY_MB"] == [
                "total": 16_384, "reserved": 512, "min_unit": 1, "max_unit": 16_384, "step_size": 1,
                "allocation_ratio": 1.0,
            ])
        #expect(shown["inventories"]?["VCPU"]?["allocation_ratio"]?.double == 4)
        #expect(shown["inventories"]?["DISK_GB"]?["total"] == 100 && shown["inventories"]?.members?.count == 3)
        let generation = try #require(shown["resource_provider_generation"])
        let one = await cloud.send(.get, path + "/inventories/VCPU").json
        #expect(one["total"] == 8 && one["resource_provider_generation"] == generation)
        #expect(await cloud.send(.get, path + "/inventories/VGPU").status == 404)
        #expect(
            await cloud.send(.get, path + "/usages").json == [
                "resource_provider_generation": generation,
                "usages": ["VCPU": 6, "MEMORY_MB": 2_048, "DISK_GB": 20],
            ])
    }

    @Test("A host that reports nothing, or nonsense, breaks nothing")
    func absurd() async throws {
        let cloud = try await PlacementFixture()
        try await cloud.record(
            PlacementFixture.report(
                "kvm3", "44444444-4444-4444-8444-444444444444",
                total: Resources(vcpus: .max, memoryMiB: 0, diskGiB: -5),
                reserved: Resources(vcpus: .min, memoryMiB: 1, diskGiB: 1),
                used: Resources(vcpus: .max, memoryMiB: 0, diskGiB: 0)))
        let shown = await cloud.send(.get, "/resource_providers/44444444-4444-4444-8444-444444444444/inventories")
        #expect(shown.json["inventories"]?.members?.count == 1)
        #expect(await cloud.names("resources=VCPU:1") == ["kvm1.example", "kvm2.example", "kvm3.example"])
        #expect(await cloud.send(.get, "/allocation_candidates?resources=VCPU:1").status == 200)
        try await cloud.database.hosts.delete(HostName("kvm3"), now: PlacementFixture.start)
        #expect(await cloud.names("") == ["kvm1.example", "kvm2.example"])
    }

    @Test("Traits are those of the report, those of every host, and that the service is disabled")
    func traits() async throws {
        let cloud = try await PlacementFixture()
        func traits(_ path: String) async -> [String] {
            await cloud.send(.get, path).json["traits"]?.list?.compactMap(\.text) ?? []
        }
        let own = ["COMPUTE_NODE", "CUSTOM_FAST", "HW_CPU_X86_AVX2", "OWNER_NOVA"]
        let disabled = ["COMPUTE_NODE", "COMPUTE_STATUS_DISABLED", "OWNER_NOVA"]
        #expect(await traits("/resource_providers/\(kvm1)/traits") == own)
        #expect(await traits("/resource_providers/\(kvm2)/traits") == disabled)
        #expect(await traits("/traits") == Set(own + disabled).sorted())
        #expect(await traits("/traits?name=in:OWNER_NOVA,NONE") == ["OWNER_NOVA"])
        #expect(await traits("/traits?name=startswith:HW_") == ["HW_CPU_X86_AVX2"])
        #expect(await traits("/traits?associated=false").isEmpty)
        #expect(await traits("/traits?associated=true&name=startswith:C").count == 3)
        for query in ["name=HW", "associated=perhaps", "colour=red", "name=in:A&name=in:B"] {
            #expect(await cloud.send(.get, "/traits?" + query).status == 400, "\(query)")
        }
        #expect(await cloud.send(.get, "/traits/CUSTOM_FAST").status == 204)
        #expect(await cloud.send(.get, "/traits/CUSTOM_SLOW").status == 404)
        let aggregates = await cloud.send(.get, "/resource_providers/\(kvm1)/aggregates").json
        #expect(aggregates["aggregates"] == [] && aggregates["resource_provider_generation"] != nil)
        let older = await cloud.send(.get, "/resource_providers/\(kvm1)/aggregates", at: "1.18").json
        #expect(older == ["aggregates": []])
    }

    @Test("A provider is in the aggregates of its host, and found by them")
    func aggregates() async throws {
        let cloud = try await PlacementFixture()
        let moment = Timestamp(seconds: 1_767_225_600)
        let store = cloud.database.aggregates
        let first = try await store.create(name: "fast", uuid: server, availabilityZone: nil, now: moment)
        _ = try await store.create(name: "empty", uuid: kvm2, availabilityZone: nil, now: moment)
        let host = try #require(try await cloud.database.hosts.find(uuid: kvm1)?.report.host)
        _ = try await store.add(host, to: first.id, defaultZone: "nova", now: moment)
        let shown = await cloud.send(.get, "/resource_providers/\(kvm1)/aggregates").json
        #expect(shown["aggregates"] == [.string(server)])
        #expect(await cloud.names("member_of=\(server)") == ["kvm1.example"])
        #expect(await cloud.names("member_of=in:\(kvm2),\(server)") == ["kvm1.example"])
        #expect(await cloud.names("member_of=\(server)&member_of=\(kvm2)") == [])
        #expect(await cloud.names("member_of=!\(server)") == ["kvm2.example"])
    }

    @Test("Resource classes are listed and found by name")
    func classes() async throws {
        let cloud = try await PlacementFixture()
        let classes = await cloud.send(.get, "/resource_classes").json["resource_classes"]?.list ?? []
        let names = Set(classes.compactMap { $0["name"]?.text })
        #expect(names.isSuperset(of: ["VCPU", "PCPU", "MEMORY_MB", "DISK_GB"]))
        let shown = await cloud.send(.get, "/resource_classes/DISK_GB").json
        #expect(shown["links"]?[0]?["href"] == "/placement/resource_classes/DISK_GB")
        #expect(await cloud.send(.get, "/resource_classes/BEER").status == 404)
    }

    @Test(
        "Providers are found by name, uuid, tree, traits, room and aggregates",
        arguments: [
            ("name=kvm1.example", 1), ("name=none", 0), ("uuid=\(kvm2)", 2), ("uuid=\(server)", 0),
            ("in_tree=\(kvm1)", 1), ("in_tree=\(server)", 0), ("required=CUSTOM_FAST", 1),
            ("required=!CUSTOM_FAST", 2), ("required=COMPUTE_NODE,!COMPUTE_STATUS_DISABLED", 1),
            ("required=in:CUSTOM_FAST,COMPUTE_STATUS_DISABLED", 3), ("required=COMPUTE_NODE&required=OWNER_NOVA", 3),
            ("required=HW_CPU_X86_AVX512F", 0), ("member_of=\(server)", 0), ("member_of=in:\(server),\(kvm1)", 0),
            ("member_of=!\(server)", 3), ("member_of=!in:\(server),\(kvm1)", 3), ("resources=VCPU:8", 3),
            ("resources=VCPU:9", 0), ("resources=MEMORY_MB:13824,DISK_GB:80", 3), ("resources=MEMORY_MB:13825", 0),
            ("resources=DISK_GB:81", 0), ("resources=VGPU:1", 0), ("", 3),
        ])
    func filters(query: String, found: Int) async throws {
        let cloud = try await PlacementFixture()
        let expected = [[], ["kvm1.example"], ["kvm2.example"], ["kvm1.example", "kvm2.example"]][found]
        #expect(await cloud.names(query) == expected)
    }

    @Test(
        "A query that is none is 400, with the parameter's name; so is one of a later version",
        arguments: [
            ("colour=red", "1.39"), ("uuid=x", "1.39"), ("in_tree=x", "1.39"), ("resources=VCPU", "1.39"),
            ("resources=VCPU:0", "1.39"), ("resources=VCPU:-1", "1.39"), ("resources=VCPU:1,VCPU:1", "1.39"),
            ("resources=BEER:1", "1.39"), ("resources=", "1.39"), ("resources=VCPU:99999999999999999999", "1.39"),
            ("required=", "1.39"), ("required=lower", "1.39"), ("required=CUSTOM_NONE", "1.39"),
            ("required=in:", "1.39"), ("member_of=x", "1.39"), ("member_of=!in:x", "1.39"), ("name=a&name=b", "1.39"),
            ("required=A&required=B", "1.38"), ("required=in:A,B", "1.38"), ("required=!A", "1.21"),
            ("required=A", "1.17"), ("in_tree=\(kvm1)", "1.13"), ("resources=VCPU:1", "1.3"),
            ("member_of=\(kvm1)", "1.2"), ("member_of=\(kvm1)&member_of=\(kvm1)", "1.23"),
            ("member_of=!\(kvm1)", "1.31"),
        ])
    func badFilters(query: String, version: String) async throws {
        let cloud = try await PlacementFixture()
        let reply = await cloud.send(.get, "/resource_providers?" + query, at: version)
        #expect(reply.status == 400 && reply.error?["detail"]?.text?.isEmpty == false)
    }

    // MARK: - Allocations

    @Test("A server's allocation is what its flavor takes of its host, as long as it has a place there")
    func allocations() async throws {
        let cloud = try await PlacementFixture()
        try await cloud.addInstance(server, on: "kvm1")
        let resources: JSON = ["VCPU": 2, "MEMORY_MB": 2_048, "DISK_GB": 22]
        let shown = await cloud.send(.get, "/allocations/\(server)").json
        #expect(shown["allocations"]?[kvm1]?["resources"] == resources)
        #expect(shown["allocations"]?[kvm1]?["generation"]?.int != nil)
        #expect(shown["project_id"] == "p" && shown["user_id"] == "u" && shown["consumer_type"] == "INSTANCE")
        #expect(shown["consumer_generation"] == 1 && shown.members?.count == 5)
        let older = await cloud.send(.get, "/allocations/\(server)", at: "1.11").json
        #expect(older.members?.count == 1 && older["allocations"]?[kvm1]?["resources"] == resources)
        let held = await cloud.send(.get, "/resource_providers/\(kvm1)/allocations").json
        #expect(held["allocations"]?[server] == ["resources": resources, "consumer_generation": 1])
        let heldBefore = await cloud.send(.get, "/resource_providers/\(kvm1)/allocations", at: "1.27").json
        #expect(heldBefore["allocations"]?[server] == ["resources": resources])
        #expect(await cloud.send(.get, "/resource_providers/\(kvm2)/allocations").json["allocations"] == [:])
        let offloaded = "55555555-5555-4555-8555-555555555555"
        try await cloud.addInstance(offloaded, on: nil, state: .shelvedOffloaded)
        for consumer in [offloaded, kvm1, "nobody"] {
            let none = await cloud.send(.get, "/allocations/\(consumer)")
            #expect(none.status == 200 && none.json == ["allocations": [:]], "\(consumer)")
        }
        _ = try await cloud.database.instances.update(InstanceID(server), now: PlacementFixture.start) {
            $0.deletedAt = PlacementFixture.start
        }
        #expect(await cloud.send(.get, "/allocations/\(server)").json == ["allocations": [:]])
    }

    @Test("A project's usage is the sum of its servers' allocations, of a user's on request")
    func usages() async throws {
        let cloud = try await PlacementFixture()
        try await cloud.addInstance("a", on: "kvm1")
        try await cloud.addInstance("b", on: "kvm2", user: "v")
        try await cloud.addInstance("c", on: "kvm2", project: "q")
        try await cloud.addInstance("d", on: nil)
        func usages(_ query: String, at version: String = "1.9") async -> JSON? {
            await cloud.send(.get, "/usages?" + query, at: version).json["usages"]
        }
        #expect(await usages("project_id=p") == ["VCPU": 4, "MEMORY_MB": 4_096, "DISK_GB": 44])
        #expect(await usages("project_id=p&user_id=v") == ["VCPU": 2, "MEMORY_MB": 2_048, "DISK_GB": 22])
        #expect(await usages("project_id=none") == [:])
        let counted: JSON = ["consumer_count": 1, "VCPU": 2, "MEMORY_MB": 2_048, "DISK_GB": 22]
        #expect(await usages("project_id=q", at: "1.38") == ["INSTANCE": counted])
        #expect(await usages("project_id=q&consumer_type=all", at: "1.38") == ["all": counted])
        #expect(await usages("project_id=q&consumer_type=MIGRATION", at: "1.38") == [:])
        for query in ["user_id=u", "project_id=", "project_id=p&consumer_type=all"] {
            #expect(await cloud.send(.get, "/usages?" + query, at: "1.37").status == 400, "\(query)")
        }
    }

    // MARK: - Candidates

    @Test("Candidates are the hosts that can give everything together, with what they have")
    func candidates() async throws {
        let cloud = try await PlacementFixture()
        let query = "/allocation_candidates?resources=VCPU:2,MEMORY_MB:512&required=CUSTOM_FAST"
        let reply = await cloud.send(.get, query).json
        let wanted: JSON = ["resources": ["VCPU": 2, "MEMORY_MB": 512]]
        #expect(
            reply["allocation_requests"] == [
                ["allocations": .object([kvm1: wanted]), "mappings": ["": [.string(kvm1)]]]
            ])
        let summary = reply["provider_summaries"]?[kvm1]
        #expect(summary?["resources"]?["VCPU"] == ["capacity": 32, "used": 6])
        #expect(summary?["resources"]?["DISK_GB"] == ["capacity": 100, "used": 20])
        #expect(summary?["root_provider_uuid"] == .string(kvm1) && summary?["parent_provider_uuid"] == .null)
        #expect(summary?["traits"]?.list?.contains("CUSTOM_FAST") == true)
        #expect(reply["provider_summaries"]?.members?.count == 1)
        let old = await cloud.send(.get, "/allocation_candidates?resources=VCPU:2", at: "1.10").json
        #expect(old["allocation_requests"]?.list?.count == 2)
        #expect(
            old["allocation_requests"]?[0] == [
                "allocations": [["resource_provider": ["uuid": .string(kvm1)], "resources": ["VCPU": 2]]]
            ])
        #expect(old["provider_summaries"]?[kvm1] == ["resources": ["VCPU": ["capacity": 32, "used": 6]]])
    }

    @Test(
        "Groups of candidates, their policy and limits",
        arguments: [
            ("resources=VCPU:8&resources1=MEMORY_MB:13824", 2), ("resources=VCPU:1&limit=1", 1),
            ("resources1=VCPU:4&resources2=VCPU:4&group_policy=none", 2),
            ("resources1=VCPU:5&resources2=VCPU:4&group_policy=none", 0),
            ("resources1=VCPU:1&resources2=VCPU:1&group_policy=isolate", 0),
            ("resources1=VCPU:1&required1=CUSTOM_FAST", 1),
            ("resources_A=VCPU:1&resources_B=DISK_GB:1&group_policy=none&same_subtree=_A,_B", 2),
            ("resources=VCPU:1&required_X=CUSTOM_FAST&same_subtree=_X", 1),
            ("resources=VCPU:1&root_required=!CUSTOM_FAST", 1), ("resources=VCPU:1&in_tree=\(kvm1)", 1),
            ("resources=VCPU:1&member_of=\(kvm1)", 0), ("resources=VGPU:1", 0),
        ])
    func groups(query: String, count: Int) async throws {
        let cloud = try await PlacementFixture()
        let reply = await cloud.send(.get, "/allocation_candidates?" + query)
        #expect(reply.status == 200 && reply.json["allocation_requests"]?.list?.count == count)
        #expect(reply.json["provider_summaries"]?.members?.count == count)
    }

    @Test(
        "A request for candidates that is none is 400",
        arguments: [
            ("", "1.39"), ("required=COMPUTE_NODE", "1.39"), ("resources=VCPU:1&limit=0", "1.39"),
            ("resources=VCPU:1&colour=red", "1.39"), ("resources=VCPU:1&resources=VCPU:1", "1.39"),
            ("resources1=VCPU:1&resources2=VCPU:1", "1.39"), ("resources=VCPU:1&group_policy=some", "1.39"),
            ("resources=VCPU:1&same_subtree=_A", "1.39"), ("resources=VCPU:1&required=CUSTOM_NONE", "1.39"),
            ("resources=VCPU:1&root_required=CUSTOM_NONE", "1.39"), ("resources=VCPU:1&required1=COMPUTE_NODE", "1.39"),
            ("resources!=VCPU:1", "1.39"), ("resources_A=VCPU:1", "1.32"), ("resources1=VCPU:1", "1.24"),
            ("resources=VCPU:1&limit=1", "1.15"), ("resources=VCPU:1&required=COMPUTE_NODE", "1.16"),
            ("resources=VCPU:1&member_of=\(kvm1)", "1.20"), ("resources=VCPU:1&in_tree=\(kvm1)", "1.30"),
            ("resources=VCPU:1&root_required=COMPUTE_NODE", "1.34"),
        ])
    func badCandidates(query: String, version: String) async throws {
        let cloud = try await PlacementFixture()
        let reply = await cloud.send(.get, "/allocation_candidates?" + query, at: version)
        #expect(reply.status == 400 && reply.error?["detail"]?.text?.isEmpty == false)
    }

    @Test("Processors of guests' own are an inventory apart, and what they take of the shared ones is nothing")
    func dedicated() async throws {
        let cloud = try await PlacementFixture()
        let host = HostName("kvm1")
        var report = try #require(try await cloud.database.hosts.find(host)?.report)
        report.sequence += 1
        report.cells = [
            HostCellReport(
                id: 0, memoryMiB: 1_024, memoryUsedMiB: 0, sharedCPUs: CPUSet([0, 1]), sharedVCPUs: 0,
                dedicatedCPUs: CPUSet([2, 3, 4]), takenCPUs: CPUSet([2]), cores: [], pages: [])
        ]
        try await cloud.database.hosts.record(report, now: report.measuredAt)
        let path = "/resource_providers/\(report.uuid)"
        let inventory = await cloud.send(.get, path + "/inventories").json["inventories"]?["PCPU"]
        #expect(inventory?["total"] == 3 && inventory?["allocation_ratio"]?.double == 1)
        #expect(await cloud.send(.get, path + "/usages").json["usages"]?["PCPU"] == 1)
        #expect(await cloud.names("resources=PCPU:2") == ["kvm1.example"])
    }

    @Test("Mediated devices are VGPUs of the root, of all physical devices together; a server's flavor takes some")
    func shares() async throws {
        let cloud = try await PlacementFixture()
        var report = try #require(try await cloud.database.hosts.find(HostName("kvm1"))?.report)
        report.sequence += 1
        report.mediatedDevicePools = [
            MediatedDevicePool(parentAddress: "0000:84:00.0", type: "nvidia-35", numaNode: 0, total: 16, used: 2),
            MediatedDevicePool(parentAddress: "0000:85:00.0", type: "nvidia-36", numaNode: 1, total: 8, used: 1),
        ]
        try await cloud.database.hosts.record(report, now: report.measuredAt)
        let path = "/resource_providers/\(report.uuid)"
        #expect(
            await cloud.send(.get, path + "/inventories").json["inventories"]?["VGPU"] == [
                "total": 24, "reserved": 0, "min_unit": 1, "max_unit": 24, "step_size": 1, "allocation_ratio": 1.0,
            ])
        #expect(await cloud.send(.get, path + "/usages").json["usages"]?["VGPU"] == 3)
        #expect(await cloud.names("resources=VGPU:21") == ["kvm1.example"])
        #expect(await cloud.names("resources=VGPU:22") == [])
        try await cloud.addInstance(server, on: "kvm1")
        _ = try await cloud.database.instances.update(InstanceID(server), now: PlacementFixture.start) {
            $0.flavor.extraSpecs["resources:VGPU"] = "2"
        }
        let shown = await cloud.send(.get, "/allocations/\(server)").json
        #expect(shown["allocations"]?[report.uuid]?["resources"]?["VGPU"] == 2)
    }
}
