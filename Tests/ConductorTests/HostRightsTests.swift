import Database
import Foundation
import HTTP
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("A host reads and writes what is its own, by every method", .timeLimit(.minutes(2)))
struct HostRightsTests {
    private static let migration = MigrationID("dddddddd-2222-4222-8222-222222222222")

    /// A call that a host may not make.
    private struct Attempt {
        let name: String
        let method: String
        let call: () async throws -> Void

        init<M: RPCMethod>(_ name: String, _ method: M.Type, by client: RPCClient, _ params: M.Params) {
            (self.name, self.method) = ("\(M.name): \(name)", M.name)
            call = { _ = try await client.call(M.self, params) }
        }
    }

    /// What host `two` says of host `one` and its instance; each must be refused.
    private func attempts(
        _ two: PlayedHost, of one: HostName, _ instance: Instance, task: TaskID
    ) async throws -> [Attempt] {
        let (own, now, id) = (two.name, WallClock.now(), instance.id)
        let fence = Fence(generation: 9, epoch: 9)
        let stored = try #require(try await two.plane.database.hosts.find(one)?.report)
        func operation(_ host: HostName) -> ReportOperation.Params {
            .init(
                header: CommandHeader(task: task, instance: id, fence: fence), host: host,
                failure: Failure(.hypervisor, "a lie"), powerState: .crashed, interfaces: nil, launchedAt: nil,
                steps: [], endedAt: now)
        }
        func report(_ host: HostName) -> ReportInstance.Params {
            .init(
                host: host, instance: id, fence: fence, vmState: .error, powerState: .crashed, taskState: nil,
                interfaces: nil, sequence: 99, observedAt: now)
        }
        func migration(_ host: HostName) -> ReportMigration.Params {
            .init(
                host: host, instance: id, migration: Self.migration,
                progress: MigrationProgress(memoryTotal: 9, memoryRemaining: 1), isPostCopy: true)
        }
        func image(_ host: HostName, isUpload: Bool? = nil) -> GetImageTicket.Params {
            .init(host: host, instance: id, image: instance.imageID, isUpload: isUpload)
        }
        let client = two.conductor
        func attempt<M: RPCMethod>(_ name: String, _ method: M.Type, _ params: M.Params) -> Attempt {
            Attempt(name, method, by: client, params)
        }
        return [
            attempt("alive", Heartbeat.self, .init(host: one, binary: "nova-compute", version: 1, sequence: 9)),
            attempt("what it understands", RegisterAgent.self, .init(host: one, manifest: two.manifest)),
            attempt("the whole", ReportHost.self, .init(report: stored)),
            attempt(
                "a change", ReportHostChange.self,
                .init(host: one, uuid: "uuid-\(one)", base: 1, sequence: 99, measuredAt: now, usage: HostUsage())),
            attempt("as the other", ReportInstance.self, report(one)),
            attempt("as itself", ReportInstance.self, report(own)),
            attempt("as the other", ReportOperation.self, operation(one)),
            attempt("as itself", ReportOperation.self, operation(own)),
            attempt("as the other", ReportMigration.self, migration(one)),
            attempt("as itself", ReportMigration.self, migration(own)),
            attempt("all of the other", ListHostInstances.self, .init(host: one)),
            attempt("as the other", GetHostInstance.self, .init(host: one, instance: id)),
            attempt("as itself", GetHostInstance.self, .init(host: own, instance: id)),
            attempt("as the other", DescribeInstances.self, .init(host: one, instances: [id])),
            attempt("as the other", GetImageTicket.self, image(one)),
            attempt("as itself", GetImageTicket.self, image(own)),
            attempt("an upload", GetImageTicket.self, image(own, isUpload: true)),
            attempt("as the other", GetCacheTicket.self, .init(host: one, task: task, image: instance.imageID)),
            attempt("as itself", GetCacheTicket.self, .init(host: own, task: task, image: instance.imageID)),
            attempt("as the other", ListEvacuated.self, .init(host: one)),
            attempt("as the other", ConfirmEvacuated.self, .init(host: one, migrations: [Self.migration])),
            // What only the API may ask for.
            attempt("a wake-up", WakeConductor.self, .init()),
            attempt("another's credentials", ForgetHost.self, .init(host: one)),
            attempt("another's", FetchConsoleOutput.self, .init(instance: id, lines: 1)),
            attempt("another's", FetchClaims.self, .init(host: one, events: 1)),
            attempt("another's", FetchDiagnostics.self, .init(instance: id)),
            attempt("another's", FetchTopology.self, .init(instance: id)),
            attempt("another's", FetchGuestAgent.self, .init(instance: id)),
            attempt("another's", TriggerCrashDump.self, .init(instance: id)),
            attempt("another's", ForceLiveMigration.self, .init(instance: id, migration: Self.migration)),
        ]
    }

    /// The methods that the conductor serves, as it says itself.
    private func served(by plane: ControlPlane, asked host: PlayedHost) async throws -> Set<String> {
        let response = try await plane.http.send(
            ClientRequest(
                method: .post, url: plane.url + "/rpc",
                headers: [
                    "X-Apus-Peer": "host:\(host.name)",
                    "Authorization": "Bearer \(host.state.withLock { $0.secret })",
                ], body: .bytes(Array(#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#.utf8))))
        let methods = try JSON(parsing: response.body)["result"]?["methods"]?.list
        return Set(try #require(methods).compactMap { $0["name"]?.text })
    }

    @Test("Whatever a host says of another's things is refused by every method there is, logged, and changes nothing")
    func others() async throws {
        let log = LogLines.shared
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
            let before = try await State(plane, of: instance.id, on: one.name, made.task, said: two.name)
            let attempts = try await attempts(two, of: one.name, instance, task: made.task)
            #expect(
                try await served(by: plane, asked: two) == Set(attempts.map(\.method)),
                "each method that is served has a case here, and no other")
            for attempt in attempts {
                let request = RequestScope.makeID()
                do {
                    try await RequestScope.$current.withValue(request) { try await attempt.call() }
                    Issue.record("\(attempt.name) was taken")
                } catch let failure as Failure {
                    // Of an instance that is elsewhere a host learns no more than of one that there is not.
                    let isHidden = attempt.method == GetHostInstance.name
                    #expect(failure.kind == (isHidden && attempt.name.hasSuffix("as itself") ? .notFound : .forbidden))
                }
                let lines = log.lines { $0.contains(request.rawValue) }
                #expect(
                    lines.contains { line in
                        (line.contains(" WARNING ") || line.contains(" NOTICE ")) && line.contains("peer=host:two")
                            && line.contains("method=\(attempt.method)")
                    },
                    "\(attempt.name): not in the log: \(lines)")
            }
            #expect(try await State(plane, of: instance.id, on: one.name, made.task, said: two.name) == before)
            await one.stop()
            await two.stop()
        }
    }

    /// What none of it may change.
    private struct State: Equatable {
        let instance: Instance?
        let migration: MigrationRecord?
        let host: HostReport?
        let manifest: String?
        let hasReport: Bool

        init(_ plane: ControlPlane, of id: InstanceID, on one: HostName, _ task: TaskID, said by: HostName) async throws
        {
            instance = try await plane.database.instances.find(id)
            migration = try await plane.database.migrations.find(HostRightsTests.migration)
            host = try await plane.database.hosts.find(one)?.report
            manifest = try await plane.database.credentials.manifest(of: one)
            hasReport = try await plane.database.reports.find(task: task, host: by) != nil
        }
    }
}
