import Crypto
import Database
import Model
import RPC
import Tasks
import Telemetry
import Testing

@testable import Conductor

/// An instance whose move is done, in a database of its own, and a window of 900 s to confirm it.
private struct Waiting: Sendable {
    static let start = Timestamp(seconds: 1_800_000_000)
    let database: ControlDatabase
    let id = InstanceID(makeUUID())
    let migrationID = MigrationID(makeUUID())

    init(
        _ type: MigrationType = .resize, status: MigrationStatus = .finished,
        _ change: @escaping @Sendable (inout Instance) -> Void = { _ in }
    ) async throws {
        database = try await ControlDatabase.open(path: nil) { Self.start }
        var instance = Lapse.confirm.instance(aged: .zero, at: Self.start, id: id)
        instance.move?.migration = migrationID
        instance.move?.type = type
        change(&instance)
        var record = MigrationRecord(
            id: migrationID, instance: instance, type: type, status: status, sourceHost: HostName("kvm2"),
            newFlavor: instance.flavor.id, userID: UserID("u"), now: Self.start)
        record.destinationHost = instance.host
        _ = try await database.instances.create([instance], actions: [], tasks: [])
        _ = try await database.instances.update(id, now: Self.start, migrations: [.insert(record)]) { _ in }
    }

    func instance() async throws -> Instance {
        try #require(try await database.instances.find(id, includeDeleted: true))
    }

    func migration() async throws -> MigrationRecord { try #require(try await database.migrations.find(migrationID)) }

    /// What a look after so long begins.
    func look(after age: Duration, window: Duration = .seconds(900)) async throws -> Int {
        try await LapsedInstances(
            database: database, reclaimAfter: .zero, offloadAfterSeconds: 0, confirmAfter: window
        ).act(now: Self.start + age)
    }
}

/// Something for which a move is left alone however long it has waited.
private struct Reason: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var type = MigrationType.resize
    var status = MigrationStatus.finished
    var change: @Sendable (inout Instance) -> Void

    init(
        _ name: String, type: MigrationType = .resize, status: MigrationStatus = .finished,
        _ change: @escaping @Sendable (inout Instance) -> Void
    ) {
        (testDescription, self.type, self.status, self.change) = (name, type, status, change)
    }
}

@Suite("Moves that nobody has confirmed")
struct UnconfirmedMovesTests {
    @Test(
        "What is being deleted, decided or finished is left alone",
        arguments: [
            Reason("being deleted") { $0.taskState = .deleting },
            Reason("being deleted softly") { $0.taskState = .softDeleting },
            Reason("deleted softly") { ($0.vmState, $0.softDeletedAt) = (.softDeleted, Waiting.start) },
            Reason("deleted") { ($0.vmState, $0.deletedAt) = (.deleted, Waiting.start) },
            Reason("being confirmed", status: .confirming) { $0.taskState = .resizeConfirming },
            Reason("being taken back", status: .reverting) { $0.taskState = .resizeReverting },
            Reason("to be taken back, whatever became of the first try") { $0.move?.decision = .revert },
            Reason("at its end") {
                $0.taskState = .resizeFinish
                $0.move?.finishedAt = nil
            },
            Reason("not where it is to be") { $0.move?.finishedAt = nil },
            Reason("in ERROR, and being deleted") { ($0.vmState, $0.taskState) = (.error, .deleting) },
            Reason("in ERROR, and being taken back") { ($0.vmState, $0.taskState) = (.error, .resizeReverting) },
            Reason("in ERROR while its decision goes on", status: .reverting) { $0.vmState = .error },
            Reason("in ERROR before it was where it is to be", status: .migrating) {
                $0.vmState = .error
                $0.move?.finishedAt = nil
            },
            Reason("in ERROR on the way of an evacuation", type: .evacuation) { $0.vmState = .error },
        ])
    fileprivate func skipped(reason: Reason) async throws {
        let waiting = try await Waiting(reason.type, status: reason.status, reason.change)
        let (instance, migration) = (try await waiting.instance(), try await waiting.migration())
        #expect(try await waiting.look(after: .seconds(90_000)) == 0)
        #expect(try await waiting.instance() == instance)
        #expect(try await waiting.migration() == migration)
    }

    @Test("One in ERROR is not confirmed: its migration ends in error when its time is over, and not before")
    func bad() async throws {
        let waiting = try await Waiting { ($0.vmState, $0.fault) = (.error, nil) }
        let instance = try await waiting.instance()
        for (age, window) in [(899, 900), (90_000, 0)] {
            #expect(try await waiting.look(after: .seconds(age), window: .seconds(window)) == 0)
            #expect(try await waiting.migration().status == .finished)
        }
        #expect(try await waiting.look(after: .seconds(900)) == 0)
        let migration = try await waiting.migration()
        #expect(migration.status == .error && migration.failure?.contains("ERROR") == true)
        #expect(migration.updatedAt == Waiting.start + .seconds(900))
        // The instance itself has still all of its move: the user may go back.
        #expect(try await waiting.instance() == instance)
        #expect(try await waiting.database.actions.list(waiting.id).isEmpty)
        // Once is enough.
        #expect(try await waiting.look(after: .seconds(1_000)) == 0)
        #expect(try await waiting.migration() == migration)
    }

    @Test("Where an administrator gives the choice back, the move is confirmed, and its migration says so")
    func mended() async throws {
        try await ControlPlane.with(settings: ["conductor.lapsed_poll_interval": "-1"]) { plane in
            for name in ["kvm1", "kvm2"] {
                let host = try await plane.addHost(name)
                _ = try await host.register(host.manifest)
            }
            let now = WallClock.now()
            var instance = Lapse.confirm.instance(aged: .seconds(1_000), at: now)
            instance.vmState = .error
            let move = try #require(instance.move)
            let record = MigrationRecord(
                id: move.migration, instance: instance, type: .migration, status: .finished,
                sourceHost: move.source, newFlavor: instance.flavor.id, userID: UserID("u"), now: now)
            _ = try await plane.addImage(instance.imageID)
            _ = try await plane.database.instances.create([instance], actions: [], tasks: [])
            _ = try await plane.database.instances.update(instance.id, now: now, migrations: [.insert(record)]) { _ in }
            let lapses = LapsedInstances(
                database: plane.database, reclaimAfter: .zero, offloadAfterSeconds: 0, confirmAfter: .seconds(900))
            #expect(try await lapses.act(now: now) == 0)
            #expect(try await plane.database.migrations.find(move.migration)?.status == .error)
            _ = try await plane.database.instances.update(instance.id, now: now) { $0.vmState = .resized }
            #expect(try await lapses.act(now: now) == 1)
            _ = try await plane.api.call(WakeConductor.self, .init())
            let after = try await plane.wait(for: instance.id) { $0.vmState == .active && $0.taskState == nil }
            #expect(after.move == nil)
            let ended = try #require(try await plane.database.migrations.find(move.migration))
            #expect(ended.status == .confirmed && ended.failure == nil)
        }
    }
}
