import Crypto
import Database
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Evacuation, and the return of the host", .timeLimit(.minutes(3)))
struct EvacuationTests {
    @Test("A guest of a dead host is started on another; the dead one is told when it returns, and is up after it")
    func evacuated() async throws {
        try await Evacuating.with { cloud in
            cloud.other.state.withLock { $0.sharesDisks = true }
            let task = try await cloud.evacuate()
            #expect(try await cloud.plane.waitForEnd(of: task).status == .succeeded)
            let after = try await cloud.instance()
            #expect(after.vmState == .active && after.taskState == nil && after.host == cloud.other.name)
            #expect(after.node == cloud.other.name.rawValue && after.move == nil && after.fault == nil)
            #expect(cloud.other.orders == ["reserve", "take_in"] && cloud.home.orders.isEmpty)
            let sent = try #require(cloud.other.state.withLock { $0.takeIns.first })
            #expect(sent.migration == cloud.migration && sent.adminPassword == "s3cret" && sent.vmState == .active)
            #expect(sent.instance.userData == after.userData && sent.sharesDisks == nil)
            #expect(try await cloud.record().status == .done)
            #expect(try await cloud.record().destinationHost == cloud.other.name)
            let row = try #require(try await cloud.plane.database.tasks.find(task))
            #expect(!String(decoding: row.state, as: UTF8.self).contains("s3cret"))
            #expect(try await cloud.plane.database.actions.list(after.id).first?.message == nil)

            // The host returns: it is not heard before it has answered.
            let told = try await cloud.home.evacuated()
            #expect(told.map(\.instance) == [cloud.id] && told.map(\.migration) == [cloud.migration])
            #expect(told.allSatisfy { $0.isGone && $0.sharesDisks == true && $0.generation == after.fence.generation })
            _ = try await eventually("the conductor to know") { try await cloud.home.mustAnswer() ? true : nil }
            let uuid = try await cloud.service().uuid
            let lifted = try await cloud.plane.database.services.change(uuid: uuid, isForcedDown: false)
            #expect(lifted.mustAnswer && !lifted.isUp(now: WallClock.now(), downAfter: .seconds(25)))
            try await cloud.home.confirm([cloud.migration])
            #expect(try await cloud.home.evacuated().isEmpty)
            #expect(try await cloud.record().status == .completed)
            #expect(try await !cloud.home.mustAnswer())
            _ = try await eventually("the host to be up") {
                try await cloud.service().isUp(now: WallClock.now(), downAfter: .seconds(25)) ? true : nil
            }
            #expect(try await cloud.plane.database.check().isEmpty)
        }
    }

    @Test("Only the host itself is told, and answers")
    func strangers() async throws {
        try await Evacuating.with { cloud in
            _ = try await cloud.plane.waitForEnd(of: cloud.evacuate())
            let list = await #expect(throws: Failure.self) {
                _ = try await cloud.other.conductor.call(ListEvacuated.self, .init(host: cloud.home.name))
            }
            let confirmation = await #expect(throws: Failure.self) {
                _ = try await cloud.other.conductor.call(
                    ConfirmEvacuated.self, .init(host: cloud.home.name, migrations: [cloud.migration]))
            }
            #expect(list?.kind == .forbidden && confirmation?.kind == .forbidden)
            // Under its own name it confirms nothing of others.
            try await cloud.other.confirm([cloud.migration])
            #expect(try await cloud.home.evacuated().count == 1)
            #expect(try await cloud.record().status == .done)
        }
    }

    @Test("While it is under way the host that returns is told that nothing is decided")
    func underWay() async throws {
        try await Evacuating.with { cloud in
            cloud.other.answer("take_in", .stayQuiet)
            let task = try await cloud.evacuate()
            _ = try await eventually("the order") { cloud.other.orders.last == "take_in" ? true : nil }
            let told = try await cloud.home.evacuated()
            #expect(told.count == 1 && told.allSatisfy { !$0.isGone && $0.sharesDisks == nil })
            let early = await #expect(throws: Failure.self) { try await cloud.home.confirm([cloud.migration]) }
            #expect(early?.kind == .conflict)
            try await cloud.other.finish(try #require(cloud.other.commands("take_in").last), vmState: .active)
            #expect(try await cloud.plane.waitForEnd(of: task).status == .succeeded)
            #expect(try await cloud.home.evacuated().allSatisfy(\.isGone))
        }
    }

    @Test("What fails is given back first; then the server is in ERROR with the reason, on the host with its disks")
    func failed() async throws {
        try await Evacuating.with { cloud in
            cloud.other.answer("take_in", .fail(Failure(.hypervisor, "Failed to get \"write\" lock")))
            let task = try await cloud.evacuate()
            #expect(try await cloud.plane.waitForEnd(of: task).status == .failed)
            let after = try await cloud.instance()
            #expect(after.vmState == .error && after.taskState == nil && after.move == nil)
            #expect(after.host == cloud.home.name && after.fault?.message == "Failed to get \"write\" lock")
            #expect(cloud.other.orders == ["reserve", "take_in", "release"])
            let record = try await cloud.record()
            #expect(record.status == .failed && record.failure == "Failed to get \"write\" lock")
            #expect(try await cloud.home.evacuated().isEmpty)
            #expect(try await cloud.plane.database.actions.list(after.id).first?.message == "Error")
            // Again, with the old copy off by now.
            cloud.other.answer("take_in", .succeed)
            #expect(try await cloud.plane.waitForEnd(of: cloud.evacuate()).status == .succeeded)
            #expect(try await cloud.instance().vmState == .active)
        }
    }

    @Test("Without a host that has room the server is in ERROR, and its host is asked nothing when it returns")
    func noHost() async throws {
        try await Evacuating.with { cloud in
            cloud.other.answer("reserve", .refuse(Failure(.insufficientResources, "no room", isRetriable: true)))
            let row = try await cloud.plane.waitForEnd(of: cloud.evacuate())
            #expect(row.status == .failed && row.lastError?.kind == .noValidHost)
            #expect(try await cloud.instance().vmState == .error)
            #expect(try await cloud.record().status == .error)
            #expect(try await cloud.home.evacuated().isEmpty && cloud.other.orders == ["reserve"])
        }
    }

    @Test("A host that is back before anything was done keeps its guest as it was")
    func backInTime() async throws {
        try await Evacuating.with { cloud in
            let uuid = try await cloud.service().uuid
            _ = try await cloud.plane.database.services.change(uuid: uuid, isForcedDown: false)
            let row = try await cloud.plane.waitForEnd(of: cloud.evacuate())
            #expect(row.status == .failed && row.lastError?.message.contains("has come back") == true)
            let after = try await cloud.instance()
            #expect(after.vmState == .active && after.move == nil && after.host == cloud.home.name)
            #expect(!cloud.other.orders.contains("take_in"))
            _ = try await eventually("the room to be given back") { cloud.other.orders.last == "release" ? true : nil }
            #expect(try await cloud.home.evacuated().isEmpty)
        }
    }

    @Test("An agent of an earlier release takes nothing in, and that is said")
    func oldDestination() async throws {
        try await Evacuating.with { cloud in
            var old = cloud.other.manifest
            old.methods[TakeInGuest.name] = nil
            _ = try await cloud.other.register(old)
            let row = try await cloud.plane.waitForEnd(of: cloud.evacuate())
            #expect(row.status == .failed && row.lastError?.message.contains("upgrade it") == true)
            #expect(cloud.other.orders.isEmpty)
        }
    }

    @Test("A destination that dies, too, has the server from then on: it is evacuated from there, and both are told")
    func deadDestination() async throws {
        try await Evacuating.with { cloud in
            cloud.other.answer("take_in", .stayQuiet)
            let task = try await cloud.evacuate()
            _ = try await eventually("the order") { cloud.other.orders.last == "take_in" ? true : nil }
            await cloud.other.stop()
            let there = try #require(
                try await cloud.plane.database.services.find(host: cloud.other.name, binary: "nova-compute"))
            _ = try await cloud.plane.database.services.change(uuid: there.uuid, isForcedDown: true)
            #expect(try await cloud.plane.waitForEnd(of: task).status == .failed)
            let after = try await cloud.instance()
            #expect(after.vmState == .error && after.host == cloud.other.name && after.move == nil)
            #expect(after.fault?.message.contains("declared dead") == true)
            let told = try await cloud.home.evacuated()
            #expect(told.count == 1 && told.allSatisfy { $0.isGone && $0.sharesDisks == nil })
        }
    }

    @Test("A server that is deleted in the middle is deleted on the destination, and gone for the host that returns")
    func deleted() async throws {
        try await Evacuating.with { cloud in
            cloud.other.answer("take_in", .stayQuiet)
            let task = try await cloud.evacuate()
            _ = try await eventually("the order") { cloud.other.orders.last == "take_in" ? true : nil }
            _ = try await cloud.plane.delete(cloud.id)
            _ = try await eventually("the deletion there") { cloud.other.commands("delete").first }
            _ = try await cloud.plane.waitForEnd(of: task)
            _ = try await eventually("the end of the record") {
                try await cloud.plane.database.instances.find(cloud.id) == nil ? true : nil
            }
            #expect(try await cloud.home.evacuated().allSatisfy(\.isGone))
            #expect(try await cloud.record().status.isOver)
        }
    }
}

/// A guest on a host that is declared down, another host beside it.
private struct Evacuating: Sendable {
    let plane: ControlPlane
    let home: PlayedHost
    let other: PlayedHost
    let id: InstanceID
    let migration: MigrationID

    static func with(_ body: (Evacuating) async throws -> Void) async throws {
        try await ControlPlane.with { plane in
            let home = try await plane.addHost("kvm1")
            _ = try await home.register(home.manifest)
            let made = try await plane.running()
            _ = try await plane.addImage(made.imageID)
            let other = try await plane.addHost("kvm2")
            _ = try await other.register(other.manifest)
            let service = try #require(
                try await plane.database.services.find(host: home.name, binary: "nova-compute"))
            _ = try await plane.database.services.change(uuid: service.uuid, isForcedDown: true)
            try await body(
                Evacuating(
                    plane: plane, home: home, other: other, id: made.id, migration: MigrationID(makeUUID())))
        }
    }

    func instance() async throws -> Instance { try #require(try await plane.database.instances.find(id)) }

    func record() async throws -> MigrationRecord {
        var query = MigrationQuery()
        query.instance = id
        return try #require(try await plane.database.migrations.list(query).first)
    }

    func service() async throws -> ServiceRecord {
        try #require(try await plane.database.services.find(host: home.name, binary: "nova-compute"))
    }

    /// Accepts an evacuation as the API does; the first one has the id `migration`.
    func evacuate() async throws -> TaskID {
        let known = try await plane.database.migrations.find(migration) != nil
        let migration = known ? MigrationID(makeUUID()) : migration
        let before = try await instance()
        let (requestID, task, now) = (RequestScope.makeID(), TaskID(makeUUID()), WallClock.now())
        var state = MoveTaskState(instance: id, migration: migration)
        state.evacuation = EvacuationRequest(adminPassword: "s3cret")
        let wanted = state
        let source = home.name
        _ = try await plane.database.instances.update(
            id, now: now,
            action: InstanceAction(
                instance: id, requestID: requestID, kind: .evacuate, userID: UserID("u"), projectID: ProjectID("p"),
                startedAt: now),
            migrations: [
                .insert(
                    MigrationRecord(
                        id: migration, instance: before, type: .evacuation, status: .accepted, sourceHost: source,
                        newFlavor: before.flavor.id, userID: UserID("u"), now: now)),
                .evacuation(
                    EvacuationRecord(
                        migration: migration, instance: id, source: source,
                        generation: before.fence.generation + 1)),
            ],
            makeTasks: { instance in
                var row = try TaskEngine.makeRow(
                    kind: TaskKind.evacuate, instance: instance.id, requestID: requestID,
                    generation: instance.fence.generation, state: wanted, now: now)
                row.id = task
                return [row]
            },
            change: { instance in
                instance.taskState = try InstanceRequest.evacuate.admitted(to: instance, isAdmin: true)
                instance.move = PendingMove(
                    migration: migration, type: .evacuation, source: source, formerFlavor: instance.flavor,
                    formerVMState: .active)
                instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
            })
        _ = try await plane.api.call(WakeConductor.self, .init())
        return task
    }
}

extension PlayedHost {
    /// What the host was told of evacuations, in order.
    fileprivate var orders: [String] {
        state.withLock { state in
            state.commands.map(\.name).filter { ["reserve", "take_in", "release", "set_aside"].contains($0) }
        }
    }

    fileprivate func evacuated() async throws -> [ListEvacuated.Evacuated] {
        try await conductor.call(ListEvacuated.self, .init(host: name)).evacuated
    }

    fileprivate func confirm(_ migrations: [MigrationID]) async throws {
        _ = try await conductor.call(ConfirmEvacuated.self, .init(host: name, migrations: migrations))
    }

    /// Whether a beat is answered with that; what a conductor reads once a second may be a second old.
    fileprivate func mustAnswer() async throws -> Bool {
        try await conductor.call(
            Heartbeat.self, .init(host: name, binary: "nova-compute", version: 1, sequence: 99)
        ).mustAnswer == true
    }
}
