import ComputeAPI
import Database
import HTTP
import Images
import Model
import RPC
import Tasks
import Testing

@Suite("Making images of servers")
struct ServerImageTests {
    private static func image(_ cloud: ComputeFixture, _ id: String) async throws -> ImageRecord {
        try #require(try await cloud.images.find(ImageID(id)))
    }

    private static func task(_ cloud: ComputeFixture, _ id: String, _ kind: String) async throws -> TaskRow? {
        try await cloud.database.tasks.list(instance: InstanceID(id), unfinishedOnly: true, limit: 10)
            .first { $0.kind == kind }
    }

    @Test("createImage registers a queued image and tells where: a header before 2.45, the id from there on")
    func answers() async throws {
        let cloud = try await ComputeFixture()
        let body: JSON = ["createImage": ["name": "copy", "metadata": ["purpose": "test"]]]
        let old = try await cloud.makeActive()
        let before = await cloud.send(.post, "servers/\(old)/action", at: "2.44", body)
        #expect(before.status == 202 && before.response.bytes.isEmpty)
        let location = try #require(before.response.headers["Location"])
        let first = try await Self.image(cloud, String(location.split(separator: "/").last ?? ""))
        #expect(location == "http://cloud:8774/image/v2/images/\(first.id)")

        let new = try await cloud.makeActive()
        let after = await cloud.send(.post, "servers/\(new)/action", at: "2.45", body)
        #expect(after.status == 202 && after.response.headers["Location"] == nil)
        let image = try await Self.image(cloud, after.json["image_id"]?.text ?? "")
        #expect(image.status == .queued && image.name == "copy" && image.visibility == .private)
        #expect(image.owner == ProjectID("p1") && image.diskFormat == .qcow2 && image.containerFormat == "bare")
        #expect(image.properties["instance_uuid"] == new && image.properties["base_image_ref"] == ComputeFixture.image)
        #expect(image.properties["image_type"] == "snapshot" && image.properties["user_id"] == "u-p1")
        #expect(image.properties["purpose"] == "test")
        #expect(try await cloud.instance(new)?.taskState == .imageSnapshotPending)
        let row = try #require(try await Self.task(cloud, new, TaskKind.snapshot))
        #expect(
            try TaskEngine.state(GuestTaskState.self, of: row).command
                == .snapshot(SnapshotOrder(image: image.id, format: .qcow2, quiesce: .no)))
        #expect(try await cloud.database.actions.list(InstanceID(new)).contains { $0.kind == .createImage })
    }

    @Test("An image of a server inherits the properties of its image, but for those that the configuration names")
    func inheritance() async throws {
        let cloud = try await ComputeFixture(
            settings: APISettings(operationPatience: .zero, nonInheritableProperties: ["cache_in_nova"]))
        let id = try await cloud.makeActive()
        _ = try await cloud.database.instances.update(InstanceID(id), now: cloud.clock.now) {
            $0.imageProperties = [
                "hw_disk_bus": "scsi", "cache_in_nova": "yes", "img_signature": "x", "image_type": "backup",
                "backup_type": "daily", "hw_qemu_guest_agent": "yes",
            ]
        }
        let reply = await cloud.send(
            .post, "servers/\(id)/action", at: "2.45",
            ["createImage": ["name": "copy", "metadata": ["hw_disk_bus": "ide", "instance_uuid": "forged"]]])
        let image = try await Self.image(cloud, reply.json["image_id"]?.text ?? "")
        #expect(image.properties["hw_disk_bus"] == "ide" && image.properties["hw_qemu_guest_agent"] == "yes")
        #expect(image.properties["instance_uuid"] == id && image.properties["image_type"] == "snapshot")
        for key in ["cache_in_nova", "img_signature", "backup_type"] { #expect(image.properties[key] == nil) }
        let row = try #require(try await Self.task(cloud, id, TaskKind.snapshot))
        #expect(
            try TaskEngine.state(GuestTaskState.self, of: row).command
                == .snapshot(SnapshotOrder(image: image.id, format: .qcow2, quiesce: .ifPossible)))
    }

    @Test("createBackup says which backups stay; of none that stay none is made")
    func backup() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let body: (Int) -> JSON = { rotation in
            ["createBackup": ["name": "b", "backup_type": "daily", "rotation": .integer(Int64(rotation))]]
        }
        let reply = await cloud.send(.post, "servers/\(id)/action", at: "2.45", body(2))
        let image = try await Self.image(cloud, reply.json["image_id"]?.text ?? "")
        #expect(image.properties["image_type"] == "backup" && image.properties["backup_type"] == "daily")
        #expect(try await cloud.instance(id)?.taskState == .imageBackup)
        let row = try #require(try await Self.task(cloud, id, TaskKind.backup))
        #expect(
            try TaskEngine.state(GuestTaskState.self, of: row).rotation == BackupRotation(type: "daily", keep: 2))

        let other = try await cloud.makeActive()
        let count = try await cloud.images.list(visibleTo: nil).count
        let none = await cloud.send(.post, "servers/\(other)/action", at: "2.45", body(0))
        #expect(none.status == 202 && none.response.bytes.isEmpty)
        #expect(try await cloud.images.list(visibleTo: nil).count == count)
        #expect(try await Self.task(cloud, other, TaskKind.rotateBackups) != nil)
    }

    private static let bad: [JSON] = [
        ["createImage": [:]], ["createImage": ["name": ""]],
        ["createImage": ["name": .string(String(repeating: "x", count: 256))]],
        ["createImage": ["name": "x", "metadata": ["": "v"]]],
        ["createImage": ["name": "x", "metadata": .object([String(repeating: "k", count: 256): "v"])]],
        ["createImage": ["name": "x", "more": "y"]],
        ["createBackup": ["name": "x", "backup_type": "daily"]],
        ["createBackup": ["name": "x", "backup_type": "daily", "rotation": -1]],
        ["createBackup": ["name": "x", "rotation": 1]],
    ]

    @Test("A body that says too little or too much is 400, and no image is registered", arguments: bad)
    func refused(body: JSON) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let count = try await cloud.images.list(visibleTo: nil).count
        #expect(await cloud.send(.post, "servers/\(id)/action", body).status == 400)
        #expect(try await cloud.images.list(visibleTo: nil).count == count)
    }

    @Test("More metadata than the quota is 403; a second copy while one is made is 409 and registers nothing")
    func limits() async throws {
        let cloud = try await ComputeFixture(
            settings: APISettings(quotas: .init(metadataItems: 1), operationPatience: .zero))
        let id = try await cloud.makeActive()
        let many: JSON = ["createImage": ["name": "x", "metadata": ["a": "1", "b": "2"]]]
        #expect(await cloud.send(.post, "servers/\(id)/action", many).status == 403)
        let one: JSON = ["createImage": ["name": "x"]]
        #expect(await cloud.send(.post, "servers/\(id)/action", one).status == 202)
        let count = try await cloud.images.list(visibleTo: nil).count
        #expect(await cloud.send(.post, "servers/\(id)/action", one).status == 409)
        #expect(try await cloud.images.list(visibleTo: nil).count == count)
    }
}
