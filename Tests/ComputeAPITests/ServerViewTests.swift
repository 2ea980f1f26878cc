import ComputeAPI
import Database
import HTTP
import Model
import Testing

@Suite("Showing servers")
struct ServerViewTests {
    private static let base: Set<String> = [
        "id", "name", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated",
        "addresses", "accessIPv4", "accessIPv6", "links", "OS-DCF:diskConfig", "progress", "key_name", "config_drive",
        "OS-EXT-AZ:availability_zone", "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state", "OS-EXT-STS:power_state",
        "OS-SRV-USG:launched_at", "OS-SRV-USG:terminated_at", "os-extended-volumes:volumes_attached",
    ]
    private static let host: Set<String> = [
        "OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name",
    ]
    private static let more: Set<String> = Set(
        ["reservation_id", "launch_index", "hostname", "kernel_id", "ramdisk_id", "root_device_name", "user_data"].map {
            "OS-EXT-SRV-ATTR:" + $0
        })

    @Test(
        "A server has exactly the members of its version, for users and for administrators",
        arguments: [
            ("2.1", base, host), ("2.3", base, host.union(more)), ("2.9", base.union(["locked"]), host.union(more)),
            ("2.16", base.union(["locked"]), host.union(more).union(["host_status"])),
            ("2.19", base.union(["locked", "description"]), host.union(more).union(["host_status"])),
            ("2.26", base.union(["locked", "description", "tags"]), host.union(more).union(["host_status"])),
            ("2.62", base.union(["locked", "description", "tags"]), host.union(more).union(["host_status"])),
            (
                "2.63", base.union(["locked", "description", "tags", "trusted_image_certificates"]),
                host.union(more).union(["host_status"])
            ),
        ])
    func members(version: String, user: Set<String>, admin: Set<String>) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        for path in ["servers/\(id)", "servers/detail"] {
            for (role, expected) in [("member", user), ("admin", user.union(admin))] {
                let reply = await cloud.send(.get, path, as: "p1/\(role)", at: version)
                let server = reply.json["server"] ?? reply.json["servers"]?[0]
                #expect(Set(server?.members?.keys ?? [:].keys) == expected, "\(path) as \(role)")
            }
        }
    }

    @Test("An active server shows its states, times, flavor and links")
    func values() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let server = try #require(await cloud.send(.get, "servers/\(id)").json["server"])
        #expect(server["status"] == "ACTIVE" && server["OS-EXT-STS:power_state"] == 1)
        #expect(server["OS-EXT-STS:task_state"] == .null && server["OS-EXT-STS:vm_state"] == "active")
        #expect(server["created"] == "2026-01-01T00:00:00Z")
        #expect(server["OS-SRV-USG:launched_at"] == "2026-01-01T00:00:00.000000")
        #expect(server["OS-EXT-AZ:availability_zone"] == "nova")
        #expect(server["flavor"]?["id"] == "42" && server["flavor"]?["links"]?.list?.count == 1)
        #expect(server["image"]?["id"]?.text == ComputeFixture.image)
        #expect(server["hostId"]?.text?.count == 56)
        #expect(server["links"]?[0]?["href"]?.text == "http://cloud:8774/compute/v2.1/servers/\(id)")
        #expect(server["links"]?[1]?["href"]?.text == "http://cloud:8774/compute/servers/\(id)")
        #expect(server["addresses"] == [:] && server["config_drive"] == "True")
    }

    @Test("From 2.47 the flavor is embedded, without id")
    func embeddedFlavor() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let flavor = await cloud.send(.get, "servers/\(id)", at: "2.47").json["server"]?["flavor"]
        #expect(
            flavor == [
                "vcpus": 1, "ram": 64, "disk": 1, "ephemeral": 0, "swap": 0, "original_name": "m1.nano",
                "extra_specs": [:],
            ])
    }

    @Test("A stopped server has no progress, and one in ERROR has its fault, with details for administrators only")
    func states() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        try await cloud.settle(id, .stopped, power: .shutdown)
        #expect(await cloud.send(.get, "servers/\(id)").json["server"]?["progress"] == nil)
        _ = try await cloud.database.instances.update(InstanceID(id), now: cloud.clock.now) { instance in
            instance.vmState = .error
            instance.fault = InstanceFault(
                message: "No valid host", details: "kvm1: full", createdAt: instance.createdAt)
        }
        let server = await cloud.send(.get, "servers/\(id)").json["server"]
        #expect(server?["status"] == "ERROR")
        #expect(
            server?["fault"] == ["code": 500, "created": "2026-01-01T00:00:00Z", "message": "No valid host"])
        let admin = await cloud.send(.get, "servers/\(id)", as: "p1/admin").json["server"]
        #expect(admin?["fault"]?["details"] == "kvm1: full")
    }

    @Test(
        "A guest that halted by itself says why, whatever its status; one that was paused has nothing to say",
        arguments: [
            (VMState.active, PowerState.paused, true), (.stopped, .crashed, true), (.active, .running, false),
            (.paused, .paused, false), (.stopped, .shutdown, false),
        ])
    func halted(state: VMState, power: PowerState, isTold: Bool) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        try await cloud.settle(id, state, power: power)
        _ = try await cloud.database.instances.update(InstanceID(id), now: cloud.clock.now) { instance in
            instance.fault = InstanceFault(message: "an I/O error", createdAt: instance.createdAt)
        }
        let server = await cloud.send(.get, "servers/\(id)").json["server"]
        #expect(server?["fault"]?["message"] == (isTold ? "an I/O error" : nil))
    }

    @Test("Addresses stand under the network's name, with what each version shows")
    func addresses() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        _ = try await cloud.database.instances.update(InstanceID(id), now: cloud.clock.now) { instance in
            instance.interfaces = [
                NetworkInterface(network: "default", macAddress: "52:54:00:aa:bb:cc", ipv4Address: "192.0.2.9"),
                NetworkInterface(network: "bridge", macAddress: "52:54:00:aa:bb:cd"),
            ]
        }
        let full: JSON = [
            "default": [
                [
                    "version": 4, "addr": "192.0.2.9", "OS-EXT-IPS:type": "fixed",
                    "OS-EXT-IPS-MAC:mac_addr": "52:54:00:aa:bb:cc",
                ]
            ]
        ]
        #expect(await cloud.send(.get, "servers/\(id)").json["server"]?["addresses"] == full)
        let short: JSON = ["default": [["version": 4, "addr": "192.0.2.9"]]]
        #expect(await cloud.send(.get, "servers/\(id)/ips").json == ["addresses": short])
        #expect(await cloud.send(.get, "servers/\(id)/ips/default").json == short)
        #expect(await cloud.send(.get, "servers/\(id)/ips/other").status == 404)
        let updated = await cloud.send(.put, "servers/\(id)", ["server": [:]])
        #expect(updated.json["server"]?["addresses"] == short)
    }

    @Test("PUT changes name, description and addresses, and answers the smaller object")
    func update() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let reply = await cloud.send(
            .put, "servers/\(id)", at: "2.19",
            ["server": ["name": "new", "description": "d", "accessIPv4": "192.0.2.1", "accessIPv6": "2001:db8::1"]])
        #expect(reply.status == 200)
        let server = reply.json["server"]
        #expect(server?["name"] == "new" && server?["description"] == "d" && server?["accessIPv4"] == "192.0.2.1")
        #expect(server?["key_name"] == nil && server?["OS-EXT-STS:vm_state"] == nil)
        for bad in [
            ["name": ""], ["name": .string(String(repeating: "x", count: 256))], ["accessIPv4": "x"],
            ["status": "ERROR"],
        ] as [[String: JSON]] {
            #expect(await cloud.send(.put, "servers/\(id)", at: "2.19", ["server": .object(bad)]).status == 400)
        }
        #expect(await cloud.send(.put, "servers/\(id)", at: "2.18", ["server": ["description": "d"]]).status == 400)
        #expect(try await cloud.instance(id)?.name == "new")
    }

    @Test(
        "Ids that are none are a clean 404",
        arguments: ["-1", "9223372036854775808", "web", "a%20b", "aaaaaaaa-1111-4111-8111-11111111111", "%F0%9F%90%A6"])
    func unknown(id: String) async throws {
        let cloud = try await ComputeFixture()
        for (method, path) in [
            (HTTPMethod.get, ""), (.delete, ""), (.put, ""), (.post, "/action"), (.get, "/metadata"),
        ] {
            #expect(await cloud.send(method, "servers/\(id)\(path)", ["os-stop": .null]).status == 404)
        }
    }

    @Test("Metadata is merged by POST, replaced by PUT, and bounded")
    func metadata() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let path = "servers/\(id)/metadata"
        #expect(await cloud.send(.post, path, ["metadata": ["a": "1"]]).json == ["metadata": ["a": "1"]])
        #expect(await cloud.send(.post, path, ["metadata": ["b": "2"]]).json == ["metadata": ["a": "1", "b": "2"]])
        #expect(await cloud.send(.put, path, ["metadata": ["c": "3"]]).json == ["metadata": ["c": "3"]])
        #expect(await cloud.send(.put, path + "/d", ["meta": ["d": "4"]]).json == ["meta": ["d": "4"]])
        #expect(await cloud.send(.get, path + "/d").json == ["meta": ["d": "4"]])
        #expect(await cloud.send(.delete, path + "/d").status == 204)
        #expect(await cloud.send(.get, path + "/d").status == 404)
        for (method, target, body) in [
            (HTTPMethod.put, path + "/d", ["meta": ["e": "4"]]), (.put, path + "/d", ["meta": ["d": "1", "e": "2"]]),
            (.put, path + "/d", ["meta": ["d": 1]]), (.post, path, [:]), (.post, path, ["metadata": ["x": 1]]),
        ] as [(HTTPMethod, String, JSON)] {
            #expect(await cloud.send(method, target, body).status == 400)
        }
        let many = Dictionary(uniqueKeysWithValues: (0..<129).map { ("k\($0)", JSON.string("v")) })
        #expect(await cloud.send(.post, path, ["metadata": .object(many)]).status == 403)
        let building = try await cloud.makeServer()
        #expect(await cloud.send(.post, "servers/\(building)/metadata", ["metadata": ["a": "1"]]).status == 409)
    }

    @Test("Tags are there from 2.26, and as wanted at creation from 2.52")
    func tags() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive(at: "2.52", ["networks": "auto", "tags": ["red", "blue"]])
        let path = "servers/\(id)/tags"
        #expect(await cloud.send(.get, path, at: "2.25").status == 404)
        #expect(await cloud.send(.get, path, at: "2.26").json == ["tags": ["blue", "red"]])
        let added = await cloud.send(.put, path + "/green", at: "2.26")
        #expect(added.status == 201 && added.response.headers["Location"]?.hasSuffix("/tags/green") == true)
        #expect(await cloud.send(.put, path + "/green", at: "2.26").status == 204)
        #expect(await cloud.send(.get, path + "/green", at: "2.26").status == 204)
        #expect(await cloud.send(.delete, path + "/green", at: "2.26").status == 204)
        #expect(await cloud.send(.delete, path + "/green", at: "2.26").status == 404)
        #expect(await cloud.send(.put, path, at: "2.26", ["tags": ["x"]]).json == ["tags": ["x"]])
        #expect(await cloud.send(.put, path, at: "2.26", ["tags": ["a,b"]]).status == 400)
        #expect(await cloud.send(.delete, path, at: "2.26").status == 204)
        #expect(await cloud.send(.get, path, at: "2.26").json == ["tags": []])
    }
}
