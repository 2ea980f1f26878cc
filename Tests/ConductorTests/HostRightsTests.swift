import Database
import Model
import RPC
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("A host reads and writes what is its own, by every method", .timeLimit(.minutes(2)))
struct HostRightsTests {
    private static let migration = MigrationID("dddddddd-2222-4222-8222-222222222222")

    /// What host `two` says of host `one`'s instance; each must be refused.
    private func attempts(
        _ two: PlayedHost, of one: HostName, _ instance: Instance, task: TaskID
    ) -> [(name: String, call: () async throws -> Void)] {
        let (client, own, now) = (two.conductor, two.name, WallClock.now())
        let fence = Fence(generation: 9, epoch: 9)
        func operation(_ host: HostName) -> ReportOperation.Params {
            .init(
                header: CommandHeader(task: task, instance: instance.id, fence: fence), host: host,
                failure: Failure(.hypervisor, "a lie"), powerState: .crashed, interfaces: nil, launchedAt: nil,
                steps: [], endedAt: now)
        }
        func report(_ host: HostName) -> ReportInstance.Params {
            .init(
                host: host, instance: instance.id, fence: fence, vmState: .error, powerState: .crashed, taskState: nil,
                interfaces: nil, sequence: 99, observedAt: now)
        }
        func migration(_ host: HostName) -> ReportMigration.Params {
            .init(
                host: host, instance: instance.id, migration: Self.migration,
                progress: MigrationProgress(memoryTotal: 9, memoryRemaining: 1), isPostCopy: true)
        }
        return [
            (
                "heartbeat",
                {
                    _ = try await client.call(
                        Heartbeat.self, .init(host: one, binary: "nova-compute", version: 1, sequence: 9))
                }
            ),
            (
                "what it understands",
                { _ = try await client.call(RegisterAgent.self, .init(host: one, manifest: two.manifest)) }
            ),
            (
                "the whole report",
                {
                    let stored = try #require(try await two.plane.database.hosts.find(one)?.report)
                    _ = try await client.call(ReportHost.self, .init(report: stored))
                }
            ),
            (
                "a change",
                {
                    _ = try await client.call(
                        ReportHostChange.self,
                        .init(
                            host: one, uuid: "uuid-\(one)", base: 1, sequence: 99, measuredAt: now, usage: HostUsage()))
                }
            ),
            ("an instance, as the other", { _ = try await client.call(ReportInstance.self, report(one)) }),
            ("an instance, as itself", { _ = try await client.call(ReportInstance.self, report(own)) }),
            ("an outcome, as the other", { _ = try await client.call(ReportOperation.self, operation(one)) }),
            ("an outcome, as itself", { _ = try await client.call(ReportOperation.self, operation(own)) }),
            ("a migration, as the other", { _ = try await client.call(ReportMigration.self, migration(one)) }),
            ("a migration, as itself", { _ = try await client.call(ReportMigration.self, migration(own)) }),
            (
                "a forced end",
                {
                    _ = try await client.call(
                        ForceLiveMigration.self, .init(instance: instance.id, migration: Self.migration))
                }
            ),
            ("the list", { _ = try await client.call(ListHostInstances.self, .init(host: one)) }),
            (
                "a record, as the other",
                {
                    _ = try await client.call(GetHostInstance.self, .init(host: one, instance: instance.id))
                }
            ),
            (
                "a record, as itself",
                {
                    _ = try await client.call(GetHostInstance.self, .init(host: own, instance: instance.id))
                }
            ),
            (
                "standings",
                {
                    _ = try await client.call(DescribeInstances.self, .init(host: one, instances: [instance.id]))
                }
            ),
            (
                "an image, as the other",
                {
                    _ = try await client.call(
                        GetImageTicket.self, .init(host: one, instance: instance.id, image: instance.imageID))
                }
            ),
            (
                "an image, as itself",
                {
                    _ = try await client.call(
                        GetImageTicket.self, .init(host: own, instance: instance.id, image: instance.imageID))
                }
            ),
            (
                "an upload",
                {
                    _ = try await client.call(
                        GetImageTicket.self,
                        .init(host: own, instance: instance.id, image: instance.imageID, isUpload: true))
                }
            ),
            (
                "an image for the cache",
                {
                    _ = try await client.call(
                        GetCacheTicket.self, .init(host: own, task: task, image: instance.imageID))
                }
            ),
            ("a wake-up", { _ = try await client.call(WakeConductor.self, .init()) }),
            (
                "another's console",
                {
                    _ = try await client.call(FetchConsoleOutput.self, .init(instance: instance.id, lines: 1))
                }
            ),
            ("another's claims", { _ = try await client.call(FetchClaims.self, .init(host: one, events: 1)) }),
            ("forgetting the other", { _ = try await client.call(ForgetHost.self, .init(host: one)) }),
        ]
    }

    @Test("Whatever a host says of another's instance is refused, and changes nothing")
    func others() async throws {
        try await ControlPlane.with { plane in
            let one = try await plane.addHost("one")
            let made = try await plane.create()
            let instance = try await plane.wait(for: made.instance.id) { $0.vmState == .active && $0.taskState == nil }
            #expect(instance.host == one.name)
            let two = try await plane.addHost("two", memoryMiB: 1_024)
            // A live migration from the one, of which the other has nothing to say.
            let record = MigrationRecord(
                id: Self.migration, instance: instance, type: .liveMigration, status: .running, sourceHost: one.name,
                newFlavor: instance.flavor.id, userID: UserID("u"), now: WallClock.now())
            _ = try await plane.database.instances.update(
                instance.id, now: WallClock.now(), migrations: [.insert(record)]
            ) { _ in }
            let migration = try await plane.database.migrations.find(Self.migration)
            for attempt in attempts(two, of: one.name, instance, task: made.task) {
                do {
                    try await attempt.call()
                    Issue.record("\(attempt.name) was taken")
                } catch let failure as Failure {
                    #expect([.forbidden, .notFound].contains(failure.kind), "\(attempt.name): \(failure)")
                }
            }
            #expect(try await plane.database.instances.find(instance.id) == instance)
            #expect(try await plane.database.migrations.find(Self.migration) == migration)
            #expect(try await plane.database.reports.find(task: made.task, host: two.name) == nil)
            await one.stop()
            await two.stop()
        }
    }
}
