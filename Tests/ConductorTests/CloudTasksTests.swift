import Crypto
import Database
import Model
import RPC
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("What the cloud does by itself now and then", .timeLimit(.minutes(2)))
struct CloudTasksTests {
    @Test("A guest that does not reboot in time has its plug pulled, once; one that has time left is let be")
    func rebootTimeout() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            host.answer("soft_reboot", .stayQuiet)
            let soft = try await plane.accept(
                .reboot(.soft), instance.id, kind: TaskKind.guest,
                GuestTaskState(instance: instance.id, command: .softReboot))
            _ = try await eventually("soft_reboot") { host.commands("soft_reboot").last }
            func lapses(after: Duration) -> LapsedInstances {
                LapsedInstances(
                    database: plane.database, reclaimAfter: .zero, offloadAfterSeconds: 0, rebootAfter: after)
            }
            let now = WallClock.now()
            #expect(try await lapses(after: .zero).act(now: now + .seconds(86_400)) == 0)
            #expect(try await lapses(after: .seconds(600)).act(now: now) == 0)
            // It was asked for a moment ago.
            #expect(try await lapses(after: .microseconds(1)).act(now: WallClock.now()) == 1)
            #expect(try await lapses(after: .microseconds(1)).act(now: WallClock.now()) == 0)
            _ = try await plane.api.call(WakeConductor.self, .init())
            let back = try await plane.wait(for: instance.id) { $0.vmState == .active && $0.taskState == nil }
            #expect(back.fence.generation > instance.fence.generation)
            #expect(host.commands("hard_reboot").count == 1)
            let actions = try await plane.database.actions.list(instance.id).filter { $0.kind == .reboot }
            #expect(Set(actions.map(\.userID)) == [UserID("u"), UserID("system:reboot-timeout")])
            // What was asked for first has an end, too.
            #expect(try await plane.waitForEnd(of: soft).status != .running)
            #expect(try await plane.database.actions.list(instance.id).allSatisfy { $0.finishedAt != nil })
        }
    }

    @Test("Both hosts of a migration in error are cleaned up after once its server is deleted, not before, and once")
    func incompleteMigration() async throws {
        try await ControlPlane.with { plane in
            let home = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let other = try await plane.addHost("kvm2")
            var migration = MigrationRecord(
                id: MigrationID(makeUUID()), instance: instance, type: .migration, status: .error,
                sourceHost: home.name, newFlavor: instance.flavor.id, userID: UserID("u"), now: WallClock.now())
            migration.destinationHost = other.name
            let (id, record) = (migration.id, migration)
            _ = try await plane.database.instances.update(
                instance.id, now: WallClock.now(), migrations: [.insert(record)]
            ) { _ in }
            let tidy = IncompleteMigrations(database: plane.database)
            #expect(try await tidy.close(now: WallClock.now()) == 0)
            _ = try await plane.waitForEnd(
                of: try await plane.accept(
                    .delete, instance.id, kind: TaskKind.delete, DeleteTaskState(instance: instance.id)))
            let before = (home.commands("delete").count, other.commands("delete").count)
            #expect(before == (1, 0))
            #expect(try await tidy.close(now: WallClock.now()) == 1)
            #expect(try await tidy.close(now: WallClock.now()) == 0)
            _ = try await plane.api.call(WakeConductor.self, .init())
            for host in [home, other] {
                let task = TaskID("\(id)/cleanup/\(host.name)")
                #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            }
            #expect(other.commands("delete").count == 1)
            #expect(try await plane.database.migrations.find(id)?.status == .failed)
            #expect(try await plane.database.check().isEmpty)
        }
    }

    @Test("The usage of every host's servers is told after each period, and once, whoever looks")
    func usageAudit() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            _ = try await host.register(host.manifest)
            let instance = try await plane.running()
            try await plane.database.notifications.setSinks(["s"])
            let audits = UsageAudits(database: plane.database, period: try #require(AuditPeriod("hour")))
            let launched = try #require(instance.launchedAt)
            try await audits.run(now: launched)
            #expect(try await plane.database.notifications.waiting(for: "s", limit: 10).isEmpty, "it has just begun")
            try await audits.run(now: launched + .seconds(3_600))
            try await audits.run(now: launched + .seconds(3_600))
            func told() async throws -> [JSON] {
                try await plane.database.notifications.waiting(for: "s", limit: 10).map {
                    try JSON(parsing: Array($0.body.utf8))
                }
            }
            #expect(try await told().map { $0["event_type"] } == ["instance.exists"])
            try await audits.run(now: launched + .seconds(7_200))
            let all = try await told()
            #expect(all.count == 2)
            let periods = all.compactMap {
                $0["payload"]?["nova_object.data"]?["audit_period"]?["nova_object.data"]?["audit_period_beginning"]
            }
            #expect(periods.count == 2 && periods[0] != periods[1])
        }
    }
}
