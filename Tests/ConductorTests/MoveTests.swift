import Crypto
import Database
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Resize, cold migration, and the way back", .timeLimit(.minutes(3)))
struct MoveTests {
    @Test("A migration goes through its hosts in order, and waits to be confirmed; then nothing is left of it")
    func moved() async throws {
        try await Moving.with { moving in
            let task = try await moving.move()
            #expect(try await moving.plane.waitForEnd(of: task).status == .succeeded)
            let (there, from) = (moving.other, moving.home)
            let after = try await moving.instance()
            #expect(after.vmState == .resized && after.taskState == nil && after.host == there.name)
            #expect(after.node == there.name.rawValue && after.status == .verifyResize)
            #expect(after.move?.source == from.name && after.move?.finishedAt != nil)
            #expect(there.orders == ["reserve", "take_over"] && from.orders == ["set_aside"])
            let migration = try await moving.migration()
            #expect(migration.status == .finished && migration.destinationHost == there.name)
            #expect(migration.destinationNode == there.name.rawValue)
            // Only this destination gets in, and only at this source.
            guard case .takeOver(_, let source)? = there.moves.last?.order else {
                Issue.record("nothing was taken over")
                return
            }
            let hash = from.state.withLock { $0.conductorSecretHash }
            #expect(
                MoveTicket.isGood(
                    source.ticket, conductorSecretHash: hash, migration: migration.id, instance: after.id,
                    destination: there.name))
            #expect(
                !MoveTicket.isGood(
                    source.ticket, conductorSecretHash: hash, migration: migration.id, instance: after.id,
                    destination: from.name))

            let confirmation = try await moving.verify(.confirmResize, kind: TaskKind.confirmMove)
            #expect(try await moving.plane.waitForEnd(of: confirmation).status == .succeeded)
            let settled = try await moving.instance()
            #expect(settled.vmState == .active && settled.move == nil && settled.host == there.name)
            #expect(from.orders == ["set_aside", "forget"] && there.orders == ["reserve", "take_over"])
            #expect(try await moving.migration().status == .confirmed)
            let actions = try await moving.plane.database.actions.list(after.id)
            #expect(actions.allSatisfy { $0.finishedAt != nil && $0.message == nil })
            #expect(try await moving.plane.database.check().isEmpty)
        }
    }

    @Test("The destination tells how much of the disks is there; nobody else does")
    func progress() async throws {
        try await Moving.with { moving in
            moving.other.answer("take_over", .stayQuiet)
            let task = try await moving.move()
            let header = try await eventually("take_over") { moving.other.commands("take_over").last }
            let id = try await moving.migration().id
            func report(_ host: PlayedHost, _ done: Int64) async throws {
                _ = try await host.conductor.call(
                    ReportMigration.self,
                    .init(
                        host: host.name, instance: moving.id, migration: id,
                        progress: MigrationProgress(diskTotal: 400, diskProcessed: done, diskRemaining: 400 - done)))
            }
            try await report(moving.other, 100)
            #expect(try await moving.instance().progress == 25)
            #expect(try await moving.migration().progress?.diskRemaining == 300)
            let third = try await moving.plane.addHost("kvm3")
            let refusal = await #expect(throws: Failure.self) { try await report(third, 400) }
            #expect(refusal?.kind == .forbidden)
            try await moving.other.finish(header)
            #expect(try await moving.plane.waitForEnd(of: task).status == .succeeded)
            try await report(moving.other, 200)
            #expect(try await moving.instance().progress == 100)
        }
    }

    @Test("A resize gives the new flavor when it is done, and the old one when it is taken back")
    func resized() async throws {
        try await Moving.with { moving in
            var larger = try await moving.instance().flavor
            let former = larger
            (larger.id, larger.memoryMiB) = (FlavorID("2"), 1_024)
            let task = try await moving.move(flavor: larger)
            #expect(try await moving.plane.waitForEnd(of: task).status == .succeeded)
            #expect(try await moving.instance().flavor == larger)
            #expect(moving.other.moves.allSatisfy { $0.instance.flavor == larger })
            #expect(moving.home.moves.allSatisfy { $0.instance.flavor == former })

            let reversal = try await moving.verify(.revertResize, kind: TaskKind.revertMove)
            #expect(try await moving.plane.waitForEnd(of: reversal).status == .succeeded)
            let back = try await moving.instance()
            #expect(back.flavor == former && back.host == moving.home.name && back.vmState == .active)
            #expect(back.move == nil && back.node == moving.home.name.rawValue)
            #expect(moving.other.orders == ["reserve", "take_over", "release"])
            #expect(moving.home.orders == ["set_aside", "take_back"])
            #expect(try await moving.migration().status == .reverted)
        }
    }

    @Test(
        "What fails at the destination or at the source is taken back, with a fault that says why",
        arguments: ["take_over", "set_aside"])
    func failed(part: String) async throws {
        try await Moving.with { moving in
            (part == "take_over" ? moving.other : moving.home).answer(part, .fail(Failure(.hypervisor, "it would not")))
            let task = try await moving.move()
            #expect(try await moving.plane.waitForEnd(of: task).status == .failed)
            let after = try await moving.instance()
            #expect(after.vmState == .active && after.taskState == nil && after.host == moving.home.name)
            #expect(after.move == nil && after.fault?.message == "it would not")
            #expect(moving.other.orders.last == "release" && moving.home.orders == ["set_aside", "take_back"])
            let migration = try await moving.migration()
            #expect(migration.status == .error && migration.failure == "it would not")
            let actions = try await moving.plane.database.actions.list(after.id)
            #expect(actions.first { $0.kind == .migrate }?.message == "Error")
            #expect(try await moving.plane.database.check().isEmpty)
        }
    }

    @Test("A source that refuses for the moment has its guest back once, and the task ends")
    func refusedForNow() async throws {
        try await Moving.with { moving in
            moving.home.answer("set_aside", .refuse(Failure(.conflict, "busy", isRetriable: true)))
            let row = try await moving.plane.waitForEnd(of: moving.move())
            #expect(row.status == .failed && row.lastError?.message == "busy")
            #expect(moving.home.orders.filter { $0 == "take_back" }.count == 1)
            #expect(try await moving.instance().vmState == .active)
        }
    }

    @Test("A server is not moved from a host whose agent cannot take part, and nothing of it is touched")
    func oldSource() async throws {
        try await Moving.with { moving in
            var old = moving.home.manifest
            old.methods[MoveGuest.name] = nil
            _ = try await moving.home.register(old)
            let row = try await moving.plane.waitForEnd(of: moving.move())
            #expect(row.status == .failed && row.lastError?.message.contains("upgrade it") == true)
            #expect(moving.home.orders.isEmpty && moving.other.orders.isEmpty)
            let after = try await moving.instance()
            #expect(after.vmState == .active && after.taskState == nil && after.move == nil)
        }
    }

    @Test(
        "The source has its guest again only when the destination has given back what it had",
        arguments: [FailureKind.hypervisor, .notFound, .forbidden])
    func releasedLater(kind: FailureKind) async throws {
        try await Moving.with { moving in
            moving.other.answer("take_over", .fail(Failure(.storage, "the disk is full")))
            moving.other.answer("release", .fail(Failure(kind, "libvirt is away")))
            let task = try await moving.move()
            _ = try await eventually("the release") { moving.other.orders.contains("release") ? true : nil }
            moving.other.answer("release", .succeed)
            #expect(try await moving.plane.waitForEnd(of: task).status == .failed)
            #expect(moving.other.orders.filter { $0 == "release" }.count == 2)
            #expect(moving.home.orders == ["set_aside", "take_back"])
            let after = try await moving.instance()
            #expect(after.vmState == .active && after.move == nil && after.fault?.message == "the disk is full")
        }
    }

    @Test("A host that has no room is passed over, and the next one asked")
    func alternates() async throws {
        try await Moving.with { moving in
            let third = try await moving.plane.addHost("kvm3")
            for host in [moving.other, third] {
                host.answer("reserve", .refuse(Failure(.insufficientResources, "no room", isRetriable: true)))
            }
            let task = try await moving.move()
            let row = try await moving.plane.waitForEnd(of: task)
            #expect(row.status == .failed && row.lastError?.kind == .noValidHost)
            #expect(moving.other.orders == ["reserve"] && third.orders == ["reserve"] && moving.home.orders.isEmpty)
            #expect(try await moving.instance().vmState == .active)

            third.answer("reserve", .succeed)
            let again = try await moving.move()
            #expect(try await moving.plane.waitForEnd(of: again).status == .succeeded)
            #expect(try await moving.instance().host == third.name)
        }
    }

    @Test("A guest that its source cannot have again is in ERROR, and what is known of the move stays")
    func lost() async throws {
        try await Moving.with { moving in
            moving.other.answer("take_over", .fail(Failure(.storage, "the disk is full")))
            moving.home.answer("take_back", .fail(Failure(.hypervisor, "no start")))
            let task = try await moving.move()
            #expect(try await moving.plane.waitForEnd(of: task).status == .failed)
            let after = try await moving.instance()
            #expect(after.vmState == .error && after.taskState == nil && after.move != nil)
            #expect(after.fault?.message.contains("the disk is full") == true)
            #expect(after.fault?.message.contains("no start") == true)
        }
    }

    @Test("The image of a moving guest is given to its destination, and to no third host")
    func tickets() async throws {
        try await Moving.with { moving in
            let third = try await moving.plane.addHost("kvm3")
            for host in [moving.other, third] { host.answer("reserve", .stayQuiet) }
            _ = try await moving.move()
            let aimed = try await moving.plane.wait(for: moving.id) { $0.move?.destination != nil }
            let destination = aimed.move?.destination == third.name ? third : moving.other
            let stranger = destination === third ? moving.other : third
            let params = GetImageTicket.Params(host: destination.name, instance: moving.id, image: aimed.imageID)
            _ = try await destination.conductor.call(GetImageTicket.self, params)
            let failure = await #expect(throws: Failure.self) {
                _ = try await stranger.conductor.call(
                    GetImageTicket.self, .init(host: stranger.name, instance: moving.id, image: aimed.imageID))
            }
            #expect(failure?.kind == .forbidden)
        }
    }

    @Test("A deletion in the middle, or before the confirmation, reaches both hosts", arguments: [true, false])
    func deleted(inTheMiddle: Bool) async throws {
        try await Moving.with { moving in
            if inTheMiddle { moving.other.answer("take_over", .stayQuiet) }
            let task = try await moving.move()
            if inTheMiddle {
                _ = try await eventually("the take-over") { moving.other.orders.last == "take_over" ? true : nil }
            } else {
                _ = try await moving.plane.waitForEnd(of: task)
            }
            let deletion = try await moving.plane.delete(moving.id)
            #expect(try await moving.plane.waitForEnd(of: deletion).status == .succeeded)
            for host in [moving.home, moving.other] {
                _ = try await eventually("the deletion on \(host.name)") { host.commands("delete").first }
            }
            let after = try #require(try await moving.plane.database.instances.find(moving.id, includeDeleted: true))
            #expect(after.vmState == .deleted)
            #expect(try await moving.migration().status.isOver)
            #expect(try await moving.plane.waitForEnd(of: task).status != .running)
            _ = try await eventually("everything to be over") {
                try await moving.plane.database.tasks.list(instance: nil, unfinishedOnly: true, limit: 1).isEmpty
                    ? true : nil
            }
            #expect(try await moving.plane.database.check().isEmpty)
        }
    }

    @Test("A move that has waited for its user long enough is confirmed by itself, and not before")
    func window() async throws {
        try await Moving.with { moving in
            _ = try await moving.plane.waitForEnd(of: moving.move())
            func lapses(after window: Duration) -> LapsedInstances {
                LapsedInstances(
                    database: moving.plane.database, reclaimAfter: .zero, offloadAfterSeconds: 0, confirmAfter: window)
            }
            let finished = try #require(try await moving.instance().move?.finishedAt)
            #expect(try await lapses(after: .zero).act(now: finished + .seconds(9_999)) == 0)
            #expect(try await lapses(after: .seconds(600)).act(now: finished + .seconds(599)) == 0)
            #expect(try await lapses(after: .microseconds(1)).act(now: WallClock.now()) == 1)
            _ = try await moving.plane.api.call(WakeConductor.self, .init())
            let after = try await moving.plane.wait(for: moving.id) { $0.vmState == .active && $0.taskState == nil }
            #expect(after.move == nil && after.host == moving.other.name)
            #expect(try await moving.migration().status == .confirmed)
        }
    }

    @Test("A confirmation that fails leaves the choice as it was")
    func confirmationFails() async throws {
        try await Moving.with { moving in
            _ = try await moving.plane.waitForEnd(of: moving.move())
            moving.home.answer("forget", .fail(Failure(.storage, "the disk is read-only")))
            let task = try await moving.verify(.confirmResize, kind: TaskKind.confirmMove)
            #expect(try await moving.plane.waitForEnd(of: task).status == .failed)
            let after = try await moving.instance()
            #expect(after.vmState == .resized && after.taskState == nil && after.move != nil)
            #expect(try await moving.migration().status == .finished)
        }
    }
}

/// A guest on one host, another host beside it.
private struct Moving: Sendable {
    let plane: ControlPlane
    let home: PlayedHost
    let other: PlayedHost
    let id: InstanceID

    static func with(_ body: (Moving) async throws -> Void) async throws {
        try await ControlPlane.with { plane in
            let home = try await plane.addHost("kvm1")
            _ = try await home.register(home.manifest)
            let made = try await plane.running()
            _ = try await plane.addImage(made.imageID)
            let other = try await plane.addHost("kvm2")
            try await body(Moving(plane: plane, home: home, other: other, id: made.id))
        }
    }

    func instance() async throws -> Instance { try #require(try await plane.database.instances.find(id)) }

    func migration() async throws -> MigrationRecord {
        var query = MigrationQuery()
        query.instance = id
        return try #require(try await plane.database.migrations.list(query).first)
    }

    /// Accepts a migration, or a resize, as the API does.
    func move(flavor: Flavor? = nil) async throws -> TaskID {
        let migration = MigrationID(makeUUID())
        let request = flavor == nil ? InstanceRequest.migrate : .resize
        let state = MoveTaskState(instance: id, migration: migration, newFlavor: flavor)
        return try await accept(request, kind: TaskKind.move, state) { instance in
            let type = flavor == nil ? MigrationType.migration : .resize
            instance.move = PendingMove(
                migration: migration, type: type, source: home.name, formerFlavor: instance.flavor,
                formerVMState: instance.vmState)
        } migrations: { instance in
            [
                .insert(
                    MigrationRecord(
                        id: migration, instance: instance, type: flavor == nil ? .migration : .resize,
                        status: .preMigrating, sourceHost: home.name, newFlavor: flavor?.id ?? instance.flavor.id,
                        userID: UserID("u"), now: WallClock.now()))
            ]
        }
    }

    func verify(_ request: InstanceRequest, kind: String) async throws -> TaskID {
        let migration = try #require(try await instance().move?.migration)
        return try await accept(request, kind: kind, MoveTaskState(instance: id, migration: migration)) { _ in
        } migrations: { _ in
            [.status(migration, request == .confirmResize ? .confirming : .reverting)]
        }
    }

    private func accept(
        _ request: InstanceRequest, kind: String, _ state: MoveTaskState,
        _ change: @escaping @Sendable (inout Instance) -> Void, migrations: (Instance) -> [MigrationWrite]
    ) async throws -> TaskID {
        let (requestID, task, now) = (RequestScope.makeID(), TaskID(makeUUID()), WallClock.now())
        let action = request.action.map {
            InstanceAction(
                instance: id, requestID: requestID, kind: $0, userID: UserID("u"), projectID: ProjectID("p"),
                startedAt: now)
        }
        _ = try await plane.database.instances.update(
            id, now: now, action: action, migrations: migrations(try await instance()),
            makeTasks: { instance in
                var row = try TaskEngine.makeRow(
                    kind: kind, instance: instance.id, requestID: requestID, generation: instance.fence.generation,
                    state: state, now: now)
                row.id = task
                return [row]
            },
            change: { instance in
                instance.taskState = try request.admitted(to: instance, isAdmin: true)
                change(&instance)
                instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
            })
        _ = try await plane.api.call(WakeConductor.self, .init())
        return task
    }
}

extension PlayedHost {
    fileprivate var moves: [MoveGuest.Params] { state.withLock { $0.moves } }
    /// What the host was told, in order.
    fileprivate var orders: [String] { moves.map(\.order.name) }
}
