import ComputeAPI
import Configuration
import Crypto
import Database
import Foundation
import HTTP
import Images
import Model
import RPC
import SchedulerService
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Several APIs, conductors and schedulers on one SQLite file", .timeLimit(.minutes(3)))
struct SharedFileTests {
    /// A compute API with a database handle and a conductor of its own, as one process has them.
    private struct API: Sendable {
        let database: ControlDatabase
        let router: Router

        init(path: String, conductor: RPCClient) async throws {
            let database = try await ControlDatabase.open(path: path)
            self.database = database
            router = computeRouter(
                ComputeParts(
                    database: database, images: database.images, conductor: ConductorLink(conductor),
                    settings: APISettings(
                        quotas: QuotaLimits(instances: -1, cores: -1, memoryMiB: -1), operationPatience: .zero),
                    authenticate: { _ in
                        APICaller(userID: UserID("u"), projectID: ProjectID("p"), roles: ["reader", "member"])
                    }, executor: BlockingExecutor(name: "keys", threads: 1), now: WallClock.now)
            ) { _ in "http://cloud/compute" }
        }

        func send(_ method: HTTPMethod, _ path: String, _ body: JSON? = nil) async -> (status: Int, json: JSON) {
            let response = await router.handle(HTTPRequest(method, "/v2.1/" + path, body: body?.serialized() ?? []))
            return (response.status, (try? JSON(parsing: response.bytes)) ?? .null)
        }
    }

    /// A scheduler and a conductor beside those of a control plane, on the same file.
    private final class Neighbour: Sendable {
        let database: ControlDatabase
        let client: RPCClient
        private let services: [Task<Void, any Error>]

        init(path: String, http: HTTPClient) async throws {
            let database = try await ControlDatabase.open(path: path)
            let options =
                CommonOptions.all + DatabaseOptions.all + RPCOptions.all + ConductorOptions.all + SchedulerOptions.all
            let values = [
                "conductor.listen": "127.0.0.1:0", "scheduler.listen": "127.0.0.1:0",
                "DEFAULT.service_down_time": "300",
            ]
            let name = HostName("control-2")
            let scheduler = try await SchedulerService(
                configuration: Configuration(options: options, values: values), database: database, hostName: name,
                now: WallClock.now)
            let conductor = try await ConductorService(
                configuration: Configuration(
                    options: options,
                    values: values.merging(["conductor.scheduler_urls": "http://127.0.0.1:\(scheduler.port)"]) { $1 }),
                database: database, hostName: name, now: WallClock.now)
            services = [Task { try await scheduler.run() }, Task { try await conductor.run() }]
            let credential = try await ServiceCredentials(
                credentials: database.credentials, role: "api", host: "control-2", now: WallClock.now
            ).mint(toward: "conductor")
            client = RPCClient(
                http: http, peers: [PeerAddress(url: "http://127.0.0.1:\(conductor.port)", credential: credential)])
            self.database = database
        }

        func stop() async {
            for service in services { service.cancel() }
            for service in services { _ = await service.result }
        }
    }

    private static let servers = 30

    @Test("Of what two APIs write at the same time none fails, each sees the other's, and all of it is carried through")
    func together() async throws {
        let folder = NSTemporaryDirectory() + "apus-shared-file-" + makeUUID()
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/apus.db"
        try await ControlPlane.with(database: try await ControlDatabase.open(path: path)) { plane in
            let neighbour = try await Neighbour(path: path, http: plane.http)
            let hosts = [
                try await plane.addHost("one", memoryMiB: 65_536), try await plane.addHost("two", memoryMiB: 65_536),
            ]
            let image = try await plane.addImage()
            let apis = [
                try await API(path: path, conductor: plane.api), try await API(path: path, conductor: neighbour.client),
            ]
            let made = try await withThrowingTaskGroup(of: (Int, String).self) { group in
                for number in 0..<Self.servers * 2 {
                    group.addTask {
                        let answer = await apis[number % 2].send(
                            .post, "servers",
                            [
                                "server": [
                                    "name": .string("guest-\(number)"), "imageRef": .string(image.rawValue),
                                    "flavorRef": "42",
                                ]
                            ])
                        #expect(answer.status == 202, "\(answer.json)")
                        return (number, try #require(answer.json["server"]?["id"]?.text))
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(Set(made.map(\.1)).count == Self.servers * 2)
            // Each is known to the API that it was not asked of, and a half is deleted there while the others are built.
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (number, id) in made {
                    let other = apis[(number + 1) % 2]
                    group.addTask {
                        let found = await other.send(.get, "servers/\(id)")
                        #expect(found.json["server"]?["name"]?.text == "guest-\(number)", "\(found.json)")
                        guard number % 4 < 2 else { return }
                        let gone = await other.send(.delete, "servers/\(id)")
                        #expect(gone.status == 204, "\(gone.json)")
                    }
                }
                try await group.waitForAll()
            }
            for (number, id) in made {
                let isDeleted = number % 4 < 2
                let end = try await plane.wait(for: InstanceID(id)) { instance in
                    instance.taskState == nil
                        && (isDeleted ? instance.deletedAt != nil : instance.vmState == .active)
                }
                #expect(end.fault == nil)
            }
            // Numbers are given once, whoever gives them; and every task has its end.
            let all = try await neighbour.database.instances.list(InstanceQuery())
            #expect(Set(all.map(\.number)).count == Self.servers && all.count == Self.servers)
            for database in [plane.database, neighbour.database] + apis.map(\.database) {
                let tasks = try await eventually("all tasks to end") {
                    let open = try await database.tasks.list(instance: nil, unfinishedOnly: true, limit: 10)
                    guard open.isEmpty else { return nil as [TaskRow]? }
                    return try await database.tasks.list(instance: nil, unfinishedOnly: false, limit: 1_000)
                }
                let builds = tasks.filter { $0.kind == TaskKind.build }
                let deletions = tasks.filter { $0.kind == TaskKind.delete }
                #expect(builds.count == Self.servers * 2 && deletions.count == Self.servers)
                #expect(deletions.allSatisfy { $0.status == .succeeded })
                // A build that a deletion overtakes is given up for it.
                #expect(builds.count { $0.status == .succeeded } >= Self.servers)
            }
            #expect(try await neighbour.database.check().isEmpty)
            for host in hosts { await host.stop() }
            await neighbour.stop()
            for database in [neighbour.database] + apis.map(\.database) { await database.close() }
        }
    }
}
