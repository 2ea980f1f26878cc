import Crypto
import Database
import Images
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Images made of servers", .timeLimit(.minutes(3)))
struct SnapshotTests {
    /// Runs `body` with a control plane, a host, and an active instance on it.
    private static func with(
        _ body: (ControlPlane, PlayedHost, Instance) async throws -> Void
    ) async throws {
        let plane = try await ControlPlane()
        let host = try await plane.addHost("one")
        let (made, _) = try await plane.create()
        let instance = try await plane.wait(for: made.id) { $0.vmState == .active }
        try await body(plane, host, instance)
        await host.stop()
        await plane.stop()
    }

    /// Accepts a copy as the API does: the image is registered with the task.
    private static func copy(
        _ plane: ControlPlane, _ instance: Instance, rotation: BackupRotation? = nil
    ) async throws -> (image: ImageID, task: TaskID) {
        let request = RequestScope.makeID()
        let image = ImageRecord(
            id: ImageID(makeUUID()), name: "copy", owner: instance.projectID, diskFormat: .qcow2,
            containerFormat: "bare", createdAt: WallClock.now())
        let order = SnapshotOrder(image: image.id, format: .qcow2, quiesce: .no)
        let task = Mutex<TaskID?>(nil)
        _ = try await plane.database.instances.update(
            instance.id, now: WallClock.now(),
            action: InstanceAction(
                instance: instance.id, requestID: request, kind: rotation == nil ? .createImage : .createBackup,
                userID: UserID("u"), projectID: ProjectID("p"), startedAt: WallClock.now()),
            images: [image],
            makeTasks: { changed in
                let row = try TaskEngine.makeRow(
                    kind: rotation == nil ? TaskKind.snapshot : TaskKind.backup, instance: changed.id,
                    requestID: request, generation: changed.fence.generation,
                    state: GuestTaskState(instance: changed.id, command: .snapshot(order), rotation: rotation),
                    now: WallClock.now())
                task.withLock { $0 = row.id }
                return [row]
            }
        ) { changed in
            changed.taskState = .imageSnapshotPending
            changed.fence = Fence(generation: changed.fence.generation + 1, epoch: 0)
        }
        _ = try await plane.api.call(WakeConductor.self, .init())
        return (image.id, try #require(task.withLock { $0 }))
    }

    @Test("The host fills the image; the server is as before, with the event of a snapshot")
    func whole() async throws {
        try await Self.with { plane, host, instance in
            let (image, task) = try await Self.copy(plane, instance)
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            let after = try await plane.wait(for: instance.id) { $0.taskState == nil }
            #expect(after.vmState == .active && after.fault == nil)
            #expect(host.commands("snapshot").count == 1)
            #expect(try await plane.database.images.find(image) != nil)
            let actions = try await plane.database.actions.list(instance.id)
            let action = try #require(actions.first { $0.kind == .createImage })
            let events = try await plane.database.actions.events(instance.id, action.requestID)
            #expect(events.map(\.name) == ["compute_snapshot_instance"])
        }
    }

    @Test("Whatever the host fails by, the image's record goes and the server stays what it was")
    func fails() async throws {
        try await Self.with { plane, host, instance in
            host.answer("snapshot", .fail(Failure(.storage, "no space")))
            let (image, task) = try await Self.copy(plane, instance)
            #expect(try await plane.waitForEnd(of: task).status == .failed)
            let after = try await plane.wait(for: instance.id) { $0.taskState == nil }
            #expect(after.vmState == .active)
            #expect(try await plane.database.images.find(image) == nil)
        }
    }

    @Test("A delete during a copy takes the image's record with it")
    func deleted() async throws {
        try await Self.with { plane, host, instance in
            host.answer("snapshot", .stayQuiet)
            let (image, task) = try await Self.copy(plane, instance)
            let header = try await eventually("the command") { host.commands("snapshot").first }
            _ = try await plane.delete(instance.id)
            _ = try await plane.wait(for: instance.id) { $0.deletedAt != nil }
            try await host.finish(header, Failure(.cancelled, "a later command took its place"))
            #expect(try await plane.waitForEnd(of: task).status != .succeeded)
            #expect(try await plane.database.images.find(image) == nil)
        }
    }

    @Test("An instance is told to the host that it is on, with its user data, and to no other")
    func ownInstance() async throws {
        try await Self.with { plane, host, instance in
            let other = try await plane.addHost("two")
            let told = try await host.conductor.call(
                GetHostInstance.self, .init(host: host.name, instance: instance.id))
            #expect(told.instance.id == instance.id)
            for (asked, name) in [(other, other.name), (other, host.name)] {
                await #expect(throws: Failure.self) {
                    try await asked.conductor.call(GetHostInstance.self, .init(host: name, instance: instance.id))
                }
            }
        }
    }

    @Test("Only the host that has the instance gets a ticket to upload, and only for the image that is being filled")
    func tickets() async throws {
        try await Self.with { plane, host, instance in
            host.answer("snapshot", .stayQuiet)
            let other = try await plane.addHost("two")
            func ask(_ from: PlayedHost, _ image: ImageID) async throws -> GetImageTicket.Result {
                try await from.conductor.call(
                    GetImageTicket.self, .init(host: from.name, instance: instance.id, image: image, isUpload: true))
            }
            let strange = ImageRecord(
                id: ImageID(makeUUID()), owner: instance.projectID, diskFormat: .qcow2, containerFormat: "bare",
                properties: ["instance_uuid": instance.id.rawValue, "image_type": "snapshot"],
                createdAt: WallClock.now())
            try await plane.database.images.insert(strange)
            await #expect(throws: Failure.self) { _ = try await ask(host, strange.id) }
            let (image, task) = try await Self.copy(plane, instance)
            let header = try await eventually("the command") { host.commands("snapshot").first }
            let ticket = try await ask(host, image)
            #expect(ticket.url.hasSuffix("/apus/v1/image-data/\(image)") && ticket.stored == nil)
            for (from, wanted) in [(other, image), (host, strange.id), (host, instance.imageID)] {
                let failure = await #expect(throws: Failure.self) { _ = try await ask(from, wanted) }
                #expect(failure?.kind == .forbidden)
            }
            var filled = try #require(try await plane.database.images.find(image))
            (filled.status, filled.sizeBytes, filled.sha512) = (.active, 7, "aa")
            #expect(try await plane.database.images.replace(filled))
            #expect(try await ask(host, image).stored == .init(sizeBytes: 7, sha512: "aa"))
            try await host.finish(header)
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            await #expect(throws: Failure.self) { _ = try await ask(host, image) }
            await other.stop()
        }
    }

    @Test("Of the backups of a kind the newest stay; those of others, other kinds and protected ones are not counted")
    func surplus() async throws {
        try await Self.with { plane, _, instance in
            func add(_ second: Int64, _ change: (inout ImageRecord) -> Void = { _ in }) async throws -> ImageID {
                var image = ImageRecord(
                    id: ImageID(makeUUID()), status: .active, owner: instance.projectID,
                    properties: [
                        "image_type": "backup", "backup_type": "daily", "instance_uuid": instance.id.rawValue,
                    ], createdAt: Timestamp(seconds: second))
                change(&image)
                try await plane.database.images.insert(image)
                return image.id
            }
            let oldest = try await add(1)
            let middle = try await add(2)
            _ = try await add(3)
            _ = try await add(0) { $0.isProtected = true }
            _ = try await add(0) { $0.owner = ProjectID("other") }
            _ = try await add(0) { $0.properties["backup_type"] = "weekly" }
            _ = try await add(0) { $0.properties["image_type"] = "snapshot" }
            _ = try await add(0) { $0.status = .queued }
            let images = ServerImages(
                storage: plane.database.images, tickets: ImageTicketAuthority(secret: Array(repeating: 1, count: 32)),
                http: plane.http, imageURL: "http://127.0.0.1:1", now: WallClock.now)
            let all = try await images.surplus(of: instance, BackupRotation(type: "daily", keep: 0))
            #expect(all.count == 3)
            #expect(
                try await images.surplus(of: instance, BackupRotation(type: "daily", keep: 1)) == [oldest, middle])
            #expect(try await images.surplus(of: instance, BackupRotation(type: "daily", keep: 3)).isEmpty)
        }
    }
}
