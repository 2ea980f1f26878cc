import Database
import Model
import RPC
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Batches")
struct BatchTests {
    private func batch(_ plane: ControlPlane, count: Int) async throws -> (TaskID, [InstanceID]) {
        let now = WallClock.now()
        let (parent, request) = (TaskID("batch-\(now.microseconds)"), RequestScope.makeID())
        var instances: [Instance] = []
        var rows: [TaskRow] = []
        for index in 0..<count {
            let instance = Instance(
                id: InstanceID("\(parent)-\(index)"), projectID: ProjectID("p"), userID: UserID("u"), name: "b",
                hostname: "b",
                flavor: Flavor(id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: 64, rootGiB: 1),
                imageID: ImageID("i"), reservationID: "r", createdAt: now)
            let image = ImageReference(
                id: instance.imageID, format: .qcow2, sizeBytes: 1, virtualSizeBytes: 1, sha512: "00")
            rows.append(
                try TaskEngine.makeRow(
                    kind: TaskKind.build, instance: instance.id, parent: parent, requestID: request, generation: 1,
                    state: BuildTaskState(instance: instance.id, image: image, adminPassword: nil), now: now))
            instances.append(instance)
        }
        var row = try TaskEngine.makeRow(
            kind: TaskKind.batch, requestID: request, state: BatchTaskState(children: rows.map(\.id)), now: now)
        row.id = parent
        _ = try await plane.database.instances.create(instances, actions: [], tasks: rows + [row])
        _ = try await plane.api.call(WakeConductor.self, .init())
        return (parent, instances.map(\.id))
    }

    @Test("A batch ends when its last child has")
    func succeeds() async throws {
        try await ControlPlane.with { plane in
            _ = try await plane.addHost("kvm1")
            let (parent, instances) = try await batch(plane, count: 5)
            let began = ContinuousClock.now
            #expect(try await plane.waitForEnd(of: parent).status == .succeeded)
            #expect(ContinuousClock.now - began < .seconds(25), "woken by the children, not by its own clock")
            for id in instances { #expect(try await plane.database.instances.find(id)?.vmState == .active) }
            #expect(try await plane.database.tasks.children(of: parent).count == 5)
        }
    }

    @Test("A batch of which some fail says how many, and why")
    func fails() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            host.answer("build", .fail(Failure(.hypervisor, "no such machine")))
            let (parent, _) = try await batch(plane, count: 2)
            let row = try await plane.waitForEnd(of: parent)
            #expect(row.status == .failed)
            #expect(row.lastError?.message.hasPrefix("2 of 2 did not succeed") == true)
            #expect(row.lastError?.message.contains("no such machine") == true)
        }
    }

    @Test("Cancelling a batch cancels its children, and their hosts are told to forget them")
    func cancelled() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            host.answer("build", .stayQuiet)
            let (parent, instances) = try await batch(plane, count: 2)
            _ = try await eventually("both commands") { host.commands("build").count == 2 ? true : nil }
            try await plane.database.tasks.requestCancel(parent, now: WallClock.now())
            _ = try await plane.api.call(WakeConductor.self, .init())
            #expect(try await plane.waitForEnd(of: parent).status == .cancelled)
            for id in instances {
                let left = try await plane.wait(for: id) { $0.vmState == .error && $0.taskState == nil }
                #expect(left.fault?.message == "the task was cancelled")
            }
            _ = try await eventually("both to be removed") { host.commands("delete").count == 2 ? true : nil }
        }
    }
}
