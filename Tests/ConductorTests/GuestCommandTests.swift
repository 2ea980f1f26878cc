import Database
import Model
import RPC
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Commands to guests")
struct GuestCommandTests {
    @Test(
        "The state is what the host has on record afterwards, and nothing is under way",
        arguments: [
            (InstanceRequest.stop, GuestCommand.stop, VMState.stopped), (.pause, .pause, .paused),
            (.suspend, .suspend, .suspended),
            (
                .rescue,
                .rescue(
                    GuestMaterial(
                        image: ImageReference(
                            id: ImageID("i"), format: .raw, sizeBytes: 1, virtualSizeBytes: 1, sha512: "d"),
                        adminPassword: "geheim")), .rescued
            ), (.softDelete, .softDelete, .softDeleted),
        ])
    func settled(request: InstanceRequest, command: GuestCommand, state: VMState) async throws {
        try await ControlPlane.with { plane in
            _ = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let task = try await plane.accept(
                request, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: command))
            let row = try await plane.waitForEnd(of: task)
            #expect(row.status == .succeeded)
            #expect(!String(decoding: row.state, as: UTF8.self).contains("geheim"))
            let after = try #require(try await plane.database.instances.find(instance.id))
            #expect(after.vmState == state && after.taskState == nil && after.hostFence == after.fence)
            #expect((after.softDeletedAt != nil) == (state == .softDeleted))
            let action = try await plane.database.actions.list(instance.id).first { $0.kind == request.action }
            #expect(action?.finishedAt != nil && action?.message == nil)
        }
    }

    @Test("A failed command leaves the state as the host says, with a fault, and the action says Error")
    func failed() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            host.answer("pause", .stayQuiet)
            let task = try await plane.accept(
                .pause, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: .pause))
            let header = try await eventually("the command") { host.commands("pause").first }
            try await host.finish(header, Failure(.hypervisor, "it would not"), vmState: .stopped)
            #expect(try await plane.waitForEnd(of: task).status == .failed)
            let after = try #require(try await plane.database.instances.find(instance.id))
            #expect(after.vmState == .stopped && after.taskState == nil && after.fault?.message == "it would not")
            let action = try await plane.database.actions.list(instance.id).first { $0.kind == .pause }
            #expect(action?.message == "Error")
        }
    }

    @Test(
        "What the host sees after a command's end counts, even if it is heard before the end is written down",
        arguments: [(Int64(20), VMState.stopped), (5, .paused)])
    func newest(sequence: Int64, expected: VMState) async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            host.answer("pause", .stayQuiet)
            let task = try await plane.accept(
                .pause, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: .pause))
            let header = try await eventually("the command") { host.commands("pause").first }
            try await host.observe(instance.id, header.fence, .stopped, sequence: sequence)
            #expect(try await plane.database.instances.find(instance.id)?.vmState == .active)
            try await host.finish(header, vmState: .paused, sequence: 10)
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            let after = try #require(try await plane.database.instances.find(instance.id))
            #expect(after.vmState == expected && after.taskState == nil && after.postponedReport == nil)
        }
    }

    @Test("A host that was down for too long still says what its operation came to; the task stays failed")
    func late() async throws {
        try await ControlPlane.with(settings: ["DEFAULT.service_down_time": "3s"]) { plane in
            let host = try await plane.addHost("kvm1")
            let heart = host.heart()
            let instance = try await plane.running()
            host.answer("soft_delete", .stayQuiet)
            let task = try await plane.accept(
                .softDelete, instance.id, kind: TaskKind.guest,
                GuestTaskState(instance: instance.id, command: .softDelete))
            let header = try await eventually("the command") { host.commands("soft_delete").first }
            heart.cancel()
            let row = try await plane.waitForEnd(of: task)
            #expect(row.status == .failed && row.lastError?.kind == .unreachable)
            #expect(try await plane.database.instances.find(instance.id)?.vmState == .active)
            let nic = NetworkInterface(network: "n", macAddress: "52:54:00:00:00:01", ipv4Address: "192.0.2.9")
            try await host.finish(header, vmState: .softDeleted, interfaces: [nic])
            let after = try #require(try await plane.database.instances.find(instance.id))
            #expect(after.vmState == .softDeleted && after.softDeletedAt != nil && after.interfaces == [nic])
            #expect(after.hostFence == header.fence && after.taskState == nil)
            #expect(try await plane.database.tasks.find(task)?.status == .failed)
        }
    }

    @Test("A late outcome of a request that has been overtaken waits for the newer one's end")
    func lateAndOvertaken() async throws {
        try await ControlPlane.with(settings: ["DEFAULT.service_down_time": "3s"]) { plane in
            let host = try await plane.addHost("kvm1")
            let heart = host.heart()
            let instance = try await plane.running()
            host.answer("pause", .stayQuiet)
            let first = try await plane.accept(
                .pause, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: .pause))
            let header = try await eventually("the command") { host.commands("pause").first }
            heart.cancel()
            #expect(try await plane.waitForEnd(of: first).status == .failed)
            let again = host.heart()
            defer { again.cancel() }
            host.answer("stop", .stayQuiet)
            let second = try await plane.accept(
                .stop, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: .stop))
            let later = try await eventually("the command") { host.commands("stop").first }
            try await host.finish(header, vmState: .paused, sequence: 3)
            let between = try #require(try await plane.database.instances.find(instance.id))
            #expect(between.vmState == .active && between.taskState == .poweringOff)
            try await host.finish(later, Failure(.hypervisor, "no"), vmState: .stopped, sequence: 4)
            _ = try await plane.waitForEnd(of: second)
            #expect(try await plane.database.instances.find(instance.id)?.vmState == .stopped)
        }
    }

    @Test("What a host has tried and failed is not tried again, even if a later try might succeed")
    func final() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            host.answer("pause", .fail(Failure(.hypervisor, "busy", isRetriable: true)))
            let task = try await plane.accept(
                .pause, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: .pause))
            let row = try await plane.waitForEnd(of: task)
            #expect(row.status == .failed && row.lastError?.isRetriable == false && row.lastError?.message == "busy")
        }
    }

    @Test("An agent that starts anew gets the command once it serves; one that stays away does not hold the task up")
    func patience() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let heart = host.heart()
            defer { heart.cancel() }
            let instance = try await plane.running()
            await host.stop()
            let task = try await plane.accept(
                .pause, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: .pause))
            // More than the standard retries would have taken.
            let row = try await eventually("the task to wait") {
                let row = try await plane.database.tasks.find(task)
                guard let row, let state = try? TaskEngine.state(GuestTaskState.self, of: row),
                    let since = state.unreachableSince
                else { return nil as TaskRow? }
                return row.status.isFinished || WallClock.now().since(since) > .seconds(9) ? row : nil
            }
            #expect(!row.status.isFinished && row.lastError == nil)
            try host.start()
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            #expect(CommandOnHost.patience < GuestCommand.pause.hostLimit)
        }
    }

    @Test(
        "A rebuild that failed before it touched the disk leaves the record with the image that the disk is made from",
        arguments: [(VMState.active, "old"), (.error, "new")])
    func rebuildFailed(state: VMState, image: String) async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let former = FormerImage(id: ImageID("old"), properties: ["os_type": "linux"])
            _ = try await plane.database.instances.update(instance.id, now: WallClock.now()) { instance in
                (instance.imageID, instance.imageProperties) = (ImageID("new"), [:])
            }
            host.answer("rebuild", .stayQuiet)
            let material = GuestMaterial(
                image: ImageReference(
                    id: ImageID("new"), format: .raw, sizeBytes: 1, virtualSizeBytes: 1, sha512: "d"),
                adminPassword: "geheim")
            let task = try await plane.accept(
                .rebuild, instance.id, kind: TaskKind.guest,
                GuestTaskState(instance: instance.id, command: .rebuild(material), formerImage: former))
            let header = try await eventually("the command") { host.commands("rebuild").first }
            try await host.finish(header, Failure(.storage, "no room"), vmState: state)
            #expect(try await plane.waitForEnd(of: task).status == .failed)
            let after = try #require(try await plane.database.instances.find(instance.id))
            #expect(after.vmState == state && after.imageID == ImageID(image) && after.fault?.message == "no room")
            #expect(after.imageProperties == (image == "old" ? former.properties : [:]))
        }
    }

    @Test("A cancellation reaches the host; the task ends when the host has undone what it did, or goes on")
    func cancelled() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let command = GuestCommand.rescue(
                GuestMaterial(
                    image: ImageReference(
                        id: ImageID("i"), format: .raw, sizeBytes: 1, virtualSizeBytes: 1, sha512: "d")))
            host.answer("rescue", .stayQuiet)
            for reply in [PlayedHost.Reply.succeed, .refuse(Failure(.conflict, "too far on"))] {
                host.answer("cancel", reply)
                let count = host.commands("rescue").count
                let asked = host.commands("cancel").count
                let heart = host.heart()
                defer { heart.cancel() }
                let task = try await plane.accept(
                    .rescue, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: command))
                let header = try await eventually("the command") {
                    host.commands("rescue").count > count ? host.commands("rescue").last : nil
                }
                try await plane.database.tasks.requestCancel(task, now: WallClock.now())
                _ = try await plane.api.call(WakeConductor.self, .init())
                let cancel = try await eventually("the cancellation") {
                    host.commands("cancel").count > asked ? host.commands("cancel").last : nil
                }
                #expect(cancel == header)
                guard case .refuse = reply else {
                    #expect(try await plane.waitForEnd(of: task).status == .cancelled)
                    let left = try #require(try await plane.database.instances.find(instance.id))
                    #expect(left.vmState == .active && left.taskState == nil)
                    continue
                }
                try await host.finish(header, vmState: .rescued)
                #expect(try await plane.waitForEnd(of: task).status == .succeeded)
                #expect(host.commands("cancel").count == asked + 1)
            }
        }
    }

    @Test("After a request that the host refused its reports still count; those from before do not")
    func reports() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            _ = try await plane.waitForEnd(
                of: try await plane.accept(
                    .stop, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: .stop)))
            host.answer("start", .refuse(Failure(.hypervisor, "no")))
            _ = try await plane.waitForEnd(
                of: try await plane.accept(
                    .start, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: .start)))
            func report(_ generation: Int64, _ state: VMState) async throws {
                _ = try await host.conductor.call(
                    ReportInstance.self,
                    .init(
                        host: host.name, instance: instance.id, fence: Fence(generation: generation, epoch: 0),
                        vmState: state, powerState: .running, taskState: nil, interfaces: nil,
                        sequence: 100 + generation,
                        observedAt: WallClock.now()))
            }
            try await report(1, .paused)
            #expect(try await plane.database.instances.find(instance.id)?.vmState == .stopped)
            try await report(2, .active)
            #expect(try await plane.database.instances.find(instance.id)?.vmState == .active)
        }
    }

    @Test("What was deleted softly is deleted for good when its time is over, and not before")
    func reclaim() async throws {
        try await ControlPlane.with { plane in
            _ = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            _ = try await plane.waitForEnd(
                of: try await plane.accept(
                    .softDelete, instance.id, kind: TaskKind.guest,
                    GuestTaskState(instance: instance.id, command: .softDelete)))
            let lapses = LapsedInstances(
                database: plane.database, reclaimAfter: .seconds(3_600), offloadAfterSeconds: 0)
            for (age, count) in [(3_500, 0), (3_700, 1), (3_700, 0)] {
                let moment = WallClock.now() - .seconds(age)
                _ = try await plane.database.instances.update(instance.id, now: WallClock.now()) {
                    $0.softDeletedAt = moment
                }
                #expect(try await lapses.act(now: WallClock.now()) == count)
            }
            _ = try await plane.api.call(WakeConductor.self, .init())
            _ = try await plane.wait(for: instance.id) { $0.deletedAt != nil }
        }
    }

    @Test("A rescue ends when its time is over, and not before")
    func rescueTimeout() async throws {
        try await ControlPlane.with { plane in
            _ = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let image = ImageReference(
                id: ImageID("i"), format: .raw, sizeBytes: 1, virtualSizeBytes: 1, sha512: "d")
            _ = try await plane.waitForEnd(
                of: try await plane.accept(
                    .rescue, instance.id, kind: TaskKind.guest,
                    GuestTaskState(
                        instance: instance.id, command: .rescue(GuestMaterial(image: image, adminPassword: "p")))))
            let rescued = try await plane.wait(for: instance.id) { $0.vmState == .rescued && $0.taskState == nil }
            #expect(rescued.rescuedAt != nil)
            let never = LapsedInstances(database: plane.database, reclaimAfter: .zero, offloadAfterSeconds: 0)
            let lapses = LapsedInstances(
                database: plane.database, reclaimAfter: .zero, offloadAfterSeconds: 0, unrescueAfter: .seconds(600))
            for (age, count) in [(500, 0), (700, 1), (700, 0)] {
                let moment = WallClock.now() - .seconds(age)
                _ = try await plane.database.instances.update(instance.id, now: WallClock.now()) {
                    $0.rescuedAt = moment
                }
                #expect(try await never.act(now: WallClock.now()) == 0)
                #expect(try await lapses.act(now: WallClock.now()) == count)
            }
            _ = try await plane.api.call(WakeConductor.self, .init())
            let back = try await plane.wait(for: instance.id) { $0.vmState == .active && $0.taskState == nil }
            #expect(back.rescuedAt == nil)
            let action = try await plane.database.actions.list(instance.id).first { $0.kind == .unrescue }
            #expect(action?.userID == UserID("system:rescue-timeout"))
        }
    }

    @Test(
        "A delete overtakes whatever the host is doing, and so does a second delete",
        arguments: [
            GuestCommand.snapshot(SnapshotOrder(image: ImageID("i"), format: .qcow2, quiesce: .no)), .stop,
        ])
    func overtaken(command: GuestCommand) async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            host.answer(command.name, .stayQuiet)
            let task = try await plane.accept(
                .stop, instance.id, kind: TaskKind.guest, GuestTaskState(instance: instance.id, command: command))
            let header = try await eventually("the command") { host.commands(command.name).first }
            host.answer("delete", .stayQuiet)
            let first = try await plane.delete(instance.id)
            let earlier = try await eventually("the delete") { host.commands("delete").first }
            host.answer("delete", .succeed)
            let second = try await plane.delete(instance.id)
            #expect(try await plane.waitForEnd(of: second).status == .succeeded)
            let gone = try await plane.wait(for: instance.id) { $0.deletedAt != nil }
            #expect(gone.vmState == .deleted && gone.taskState == nil)
            // What the host says later of the others ends them, and brings nothing back.
            try await host.finish(header, vmState: .stopped)
            try await host.finish(earlier)
            #expect(try await plane.waitForEnd(of: task).status == .cancelled)
            #expect(try await plane.waitForEnd(of: first).status.isFinished)
            #expect(try await plane.database.instances.find(instance.id) == nil)
            let open = try await plane.database.actions.list(instance.id).filter { $0.finishedAt == nil }
            #expect(open.isEmpty, "every action has an end")
        }
    }

    @Test("A host may read the image that a task under way rescues from, and no longer than that")
    func tickets() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let image = ImageReference(
                id: ImageID("rescue-image"), format: .raw, sizeBytes: 1, virtualSizeBytes: 1, sha512: "d")
            func ask() async throws {
                _ = try await host.conductor.call(
                    GetImageTicket.self, .init(host: host.name, instance: instance.id, image: image.id))
            }
            await #expect(throws: Failure.self) { try await ask() }
            host.answer("rescue", .stayQuiet)
            let task = try await plane.accept(
                .rescue, instance.id, kind: TaskKind.guest,
                GuestTaskState(instance: instance.id, command: .rescue(GuestMaterial(image: image))))
            let header = try await eventually("the command") { host.commands("rescue").first }
            try await ask()
            try await host.finish(header, vmState: .rescued)
            _ = try await plane.waitForEnd(of: task)
            await #expect(throws: Failure.self) { try await ask() }
        }
    }
}
