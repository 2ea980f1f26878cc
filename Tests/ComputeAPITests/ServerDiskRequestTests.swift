import ComputeAPI
import Database
import HTTP
import Model
import Tasks
import Testing

@Suite("Files and disks of new servers")
struct ServerDiskRequestTests {
    private func state(of id: String, _ cloud: ComputeFixture) async throws -> JSON {
        let tasks = try await cloud.database.tasks.list(instance: InstanceID(id), unfinishedOnly: true, limit: 10)
        return try JSON(parsing: try #require(tasks.first).state)
    }

    private static func file(_ path: String = "/etc/motd", _ contents: String = "aGVsbG8=") -> JSON {
        ["path": .string(path), "contents": .string(contents)]
    }

    @Test("Injected files are handed to the build, and are in no record of the instance")
    func personality() async throws {
        let cloud = try await ComputeFixture()
        let reply = await cloud.send(
            .post, "servers", ComputeFixture.server(["personality": [Self.file(), Self.file("/x y", "aGVs\nbG8=")]]))
        #expect(reply.status == 202, "\(reply.message)")
        let id = try #require(reply.json["server"]?["id"]?.text)
        let files = try #require(try await state(of: id, cloud)["files"]?.list)
        #expect(files == [Self.file(), Self.file("/x y")])
        let instance = try #require(try await cloud.instance(id))
        #expect(!String(describing: instance).contains("motd"))
    }

    @Test(
        "Files beyond the limits are 403, others that cannot be 400; nothing is left behind",
        arguments: [
            (.array((0..<6).map { file("/\($0)") }), 403), ([file("/" + String(repeating: "a", count: 255))], 403),
            ([file("/x", String(repeating: "QUFB", count: 3_414))], 403), ([file("")], 400), ([file("/x", "%%")], 400),
            (["path", "contents"], 400), (["x"], 400), ("x", 400), ([["path": "/x", "contents": "", "mode": 1]], 400),
            ([file("etc/motd")], 400), ([file("/a/../b")], 400),
        ] as [(JSON, Int)])
    func limits(files: JSON, status: Int) async throws {
        let cloud = try await ComputeFixture()
        let reply = await cloud.send(.post, "servers", ComputeFixture.server(["personality": files]))
        #expect(reply.status == status, "\(reply.message)")
        #expect(try await cloud.database.instances.list(InstanceQuery()).isEmpty)
    }

    @Test("The largest file that may be is taken, and limits say so")
    func largest() async throws {
        let cloud = try await ComputeFixture()
        let content = String(repeating: "QUFB", count: 3_413) + "QQ=="
        let files: JSON = .array((0..<5).map { Self.file("/" + String(repeating: "a", count: 253) + "\($0)", content) })
        let reply = await cloud.send(.post, "servers", ComputeFixture.server(["personality": files]))
        #expect(reply.status == 202, "\(reply.message)")
        let limits = await cloud.send(.get, "limits").json["limits"]?["absolute"]
        #expect(limits?["maxPersonality"] == 5 && limits?["maxPersonalitySize"] == 10_240)
    }

    @Test("From 2.57 on there is no personality")
    func newer() async throws {
        let cloud = try await ComputeFixture()
        let body = ComputeFixture.server(["personality": [Self.file()], "networks": "auto"])
        #expect(await cloud.send(.post, "servers", at: "2.57", body).status == 400)
        #expect(await cloud.send(.post, "servers", at: "2.56", body).status == 202)
    }

    private static func blank(_ size: JSON, _ format: JSON = .null) -> JSON {
        [
            "source_type": "blank", "destination_type": "local", "boot_index": -1, "volume_size": size,
            "guest_format": format, "delete_on_termination": true,
        ]
    }

    private static let boot: JSON = [
        "source_type": "image", "destination_type": "local", "boot_index": 0, "uuid": .string(ComputeFixture.image),
    ]

    private func cloudWithDisks() async throws -> ComputeFixture {
        let cloud = try await ComputeFixture()
        _ = try await cloud.database.flavors.update(FlavorID("42")) { ($0.ephemeralGiB, $0.swapMiB) = (4, 128) }
        return cloud
    }

    @Test("Blank local disks within what the flavor has become the server's ephemeral disks and swap")
    func local() async throws {
        let cloud = try await cloudWithDisks()
        let cases: [([JSON], LocalDisks?)] = [
            (
                [Self.boot, Self.blank(1), Self.blank(3, "ext4")],
                LocalDisks(ephemerals: [.init(sizeGiB: 1), .init(sizeGiB: 3, fileSystem: "ext4")])
            ),
            ([Self.blank(64, "swap")], LocalDisks(swapMiB: 64)), ([Self.boot], nil),
        ]
        for (devices, expected) in cases {
            let reply = await cloud.send(
                .post, "servers", ComputeFixture.server(["block_device_mapping_v2": .array(devices)]))
            #expect(reply.status == 202, "\(reply.message)")
            let id = try #require(reply.json["server"]?["id"]?.text)
            #expect(try await cloud.instance(id)?.localDisks == expected)
        }
    }

    @Test(
        "Local disks that the flavor has not, or that nobody can make, are refused",
        arguments: [
            [blank(5)], [blank(2), blank(3)], [blank(129, "swap")], [blank(1, "swap"), blank(1, "swap")],
            [blank(1, "zfs")], [blank(.null)], [blank(0)], [boot, boot], [boot, blank(1), blank(1), blank(1, "swap")],
            [["source_type": "blank", "destination_type": "volume", "volume_size": 1]],
            [["source_type": "blank", "destination_type": "local", "volume_size": 1, "boot_index": 0]],
            [["source_type": "snapshot", "uuid": .string(ComputeFixture.image)]],
        ] as [[JSON]])
    func refused(devices: [JSON]) async throws {
        let cloud = try await cloudWithDisks()
        let reply = await cloud.send(
            .post, "servers", ComputeFixture.server(["block_device_mapping_v2": .array(devices)]))
        #expect(reply.status == 400, "\(reply.message)")
        #expect(try await cloud.database.instances.list(InstanceQuery()).isEmpty)
    }
}
