import Database
import Images
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Shelving and coming back")
struct ShelveTests {
    private func shelve(_ plane: ControlPlane, _ instance: Instance) async throws -> ImageID {
        let image = try await plane.addImage()
        let order = SnapshotOrder(image: image, format: .qcow2, quiesce: .no)
        _ = try await plane.accept(
            .shelve, instance.id, kind: TaskKind.guest,
            GuestTaskState(instance: instance.id, command: .shelve(order)))
        return image
    }

    private func age(_ plane: ControlPlane, _ id: InstanceID, _ age: Duration) async throws {
        let moment = WallClock.now() - age
        _ = try await plane.database.instances.update(id, now: WallClock.now()) { $0.shelved?.at = moment }
    }

    private func unshelve(_ plane: ControlPlane, _ id: InstanceID, _ image: ImageID) async throws -> TaskID {
        let blank = ImageReference(id: image, format: .qcow2, sizeBytes: 0, virtualSizeBytes: 0, sha512: "")
        return try await plane.accept(
            .unshelve, id, kind: TaskKind.unshelve,
            BuildTaskState(instance: id, image: blank, adminPassword: nil, shelvedImage: image))
    }

    @Test("By default what is shelved leaves its host, comes back from its image, and the image is gone")
    func roundTrip() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let image = try await shelve(plane, instance)
            let shelved = try await plane.wait(for: instance.id) { $0.vmState == .shelvedOffloaded }
            #expect(shelved.host == nil && shelved.taskState == nil && shelved.interfaces.isEmpty)
            #expect(shelved.shelved?.imageID == image && shelved.shelved?.host == HostName("kvm1"))
            #expect(host.commands("delete").count == 1)
            let actions = try await plane.database.actions.list(instance.id)
            let action = try #require(actions.first { $0.kind == .shelve })
            let events = try await plane.database.actions.events(instance.id, action.requestID).map(\.name)
            #expect(Set(events) == ["compute_shelve_instance", "compute_shelve_offload_instance"])

            let task = try await unshelve(plane, instance.id, image)
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            let back = try await plane.wait(for: instance.id) { $0.vmState == .active }
            #expect(back.host == HostName("kvm1") && back.shelved == nil && back.taskState == nil)
            #expect(back.imageID == instance.imageID)
            #expect(host.state.withLock { $0.builds.last?.image.id } == image)
            #expect(try await plane.database.images.find(image) == nil)
        }
    }

    @Test("Without room it stays shelved, with nothing under way, and can be tried again")
    func noRoom() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let image = try await shelve(plane, instance)
            _ = try await plane.wait(for: instance.id) { $0.vmState == .shelvedOffloaded }
            host.answer("build", .refuse(Failure(.insufficientResources, "no memory")))
            let task = try await unshelve(plane, instance.id, image)
            #expect(try await plane.waitForEnd(of: task).status == .failed)
            let left = try await plane.wait(for: instance.id) { $0.taskState == nil }
            #expect(left.vmState == .shelvedOffloaded && left.host == nil)
            #expect(left.fault?.message.contains("no memory") == true)
            #expect(try await plane.database.images.find(image) != nil)
            host.answer("build", .succeed)
            _ = try await unshelve(plane, instance.id, image)
            _ = try await plane.wait(for: instance.id) { $0.vmState == .active }
        }
    }

    @Test("With its image gone it is in ERROR, and the fault names the image")
    func imageGone() async throws {
        try await ControlPlane.with { plane in
            _ = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let image = try await shelve(plane, instance)
            _ = try await plane.wait(for: instance.id) { $0.vmState == .shelvedOffloaded }
            #expect(try await plane.database.images.remove(image, revision: 0))
            _ = try await unshelve(plane, instance.id, image)
            let left = try await plane.wait(for: instance.id) { $0.vmState == .error }
            #expect(left.taskState == nil && left.fault?.message.contains(image.rawValue) == true)
        }
    }

    @Test("A shelving that fails leaves the instance as its host says, and no image")
    func failure() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            host.answer("shelve", .fail(Failure(.storage, "the disk is full")))
            let image = try await shelve(plane, instance)
            let left = try await plane.wait(for: instance.id) { $0.taskState == nil }
            #expect(left.vmState == .active && left.fault?.message == "the disk is full" && left.shelved == nil)
            #expect(try await plane.database.images.find(image) == nil)
        }
    }

    @Test("Deleting what is shelved deletes the image too")
    func delete() async throws {
        try await ControlPlane.with { plane in
            _ = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let image = try await shelve(plane, instance)
            _ = try await plane.wait(for: instance.id) { $0.vmState == .shelvedOffloaded }
            let task = try await plane.delete(instance.id)
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            #expect(try await plane.database.images.find(image) == nil)
            #expect(try await plane.database.instances.find(instance.id) == nil)
        }
    }

    @Test("With an offload time it stays on its host until then; unshelving before starts it in place")
    func inPlace() async throws {
        // The plane itself never does it, so that nobody but this test looks.
        try await ControlPlane.with(settings: ["DEFAULT.shelved_offload_time": "-1"]) { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let image = try await shelve(plane, instance)
            let shelved = try await plane.wait(for: instance.id) { $0.vmState == .shelved && $0.taskState == nil }
            #expect(shelved.host == HostName("kvm1"))
            let lapses = LapsedInstances(database: plane.database, reclaimAfter: .zero, offloadAfterSeconds: 3_600)
            try await age(plane, instance.id, .seconds(3_500))
            #expect(try await lapses.act(now: WallClock.now()) == 0)

            let task = try await plane.accept(
                .unshelve, instance.id, kind: TaskKind.guest,
                GuestTaskState(instance: instance.id, command: .start, spentImage: image))
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            let back = try await plane.wait(for: instance.id) { $0.vmState == .active }
            #expect(back.shelved == nil && host.commands("delete").isEmpty)
            #expect(try await plane.database.images.find(image) == nil)

            _ = try await shelve(plane, instance)
            _ = try await plane.wait(for: instance.id) { $0.vmState == .shelved && $0.taskState == nil }
            try await age(plane, instance.id, .seconds(3_700))
            #expect(try await lapses.act(now: WallClock.now()) == 1)
            _ = try await plane.api.call(WakeConductor.self, .init())
            _ = try await plane.wait(for: instance.id) { $0.vmState == .shelvedOffloaded }
            let action = try await plane.database.actions.list(instance.id).first { $0.kind == .shelveOffload }
            #expect(action?.userID == UserID("system:shelved-offload") && action?.finishedAt != nil)
        }
    }

    @Test("A host that is down does not hold up the offloading; what it has is removed when it is back")
    func hostDown() async throws {
        try await ControlPlane.with(settings: [
            "DEFAULT.shelved_offload_time": "-1", "DEFAULT.service_down_time": "8",
        ]) { plane in
            let host = try await plane.addHost("kvm1")
            let heart = host.heart()
            let instance = try await plane.running()
            _ = try await shelve(plane, instance)
            _ = try await plane.wait(for: instance.id) { $0.vmState == .shelved && $0.taskState == nil }
            heart.cancel()
            await host.stop()
            let task = try await plane.accept(
                .shelveOffload, instance.id, kind: TaskKind.offload, OffloadTaskState(instance: instance.id))
            _ = try await plane.wait(for: instance.id) { $0.vmState == .shelvedOffloaded && $0.host == nil }
            let children = try await plane.database.tasks.children(of: task)
            #expect(children.map(\.kind) == [TaskKind.cleanup])
        }
    }
}
