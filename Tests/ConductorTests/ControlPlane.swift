import Configuration
import Crypto
import Database
import HTTP
import Model
import RPC
import SchedulerService
import Synchronization
import Tasks
import Telemetry

@testable import Conductor

/// A database, a scheduler and a conductor on loopback, with hosts that a test plays by itself.
final class ControlPlane: Sendable {
    let database: ControlDatabase
    let conductor: ConductorService
    let api: RPCClient
    let http = HTTPClient()
    private let services: [Task<Void, any Error>]

    init(settings: [String: String] = [:], database given: ControlDatabase? = nil) async throws {
        let database: ControlDatabase
        if let given { database = given } else { database = try await ControlDatabase.open(path: nil) }
        self.database = database
        let base = ["conductor.listen": "127.0.0.1:0", "scheduler.listen": "127.0.0.1:0"]
            .merging(settings) { _, given in given }
        let options =
            CommonOptions.all + DatabaseOptions.all + RPCOptions.all + ConductorOptions.all + SchedulerOptions.all
        let scheduler = try await SchedulerService(
            configuration: Configuration(options: options, values: base), database: database,
            hostName: HostName("control"), now: WallClock.now)
        let conductor = try await ConductorService(
            configuration: Configuration(
                options: options,
                values: base.merging(["conductor.scheduler_urls": "http://127.0.0.1:\(scheduler.port)"]) { $1 }),
            database: database, hostName: HostName("control"), now: WallClock.now)
        self.conductor = conductor
        services = [Task { try await scheduler.run() }, Task { try await conductor.run() }]
        let credential = try await ServiceCredentials(
            credentials: database.credentials, role: "api", host: "control", now: WallClock.now
        ).mint(toward: "conductor")
        api = RPCClient(
            http: http, peers: [PeerAddress(url: "http://127.0.0.1:\(conductor.port)", credential: credential)])
    }

    var url: String { "http://127.0.0.1:\(conductor.port)" }

    func stop() async {
        for service in services { service.cancel() }
        for service in services { _ = await service.result }
        await http.shutdown()
    }

    /// Enrolls a host, lets it join, and reports that it is alive with room for instances.
    func addHost(_ name: String, memoryMiB: Int = 8_192) async throws -> PlayedHost {
        let host = try await PlayedHost(name: HostName(name), plane: self)
        try await host.join()
        try await host.report(memoryMiB: memoryMiB)
        return host
    }

    /// Inserts an instance with its build task as the API does, and wakes the conductor.
    func create(
        name: String = "guest", memoryMiB: Int = 512, password: String? = nil
    ) async throws -> (instance: Instance, task: TaskID) {
        let request = RequestScope.makeID()
        let instance = Instance(
            id: InstanceID(makeUUID()), projectID: ProjectID("p"), userID: UserID("u"), name: name, hostname: name,
            flavor: Flavor(id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: memoryMiB, rootGiB: 1),
            imageID: ImageID(makeUUID()), reservationID: "r-1", createdAt: WallClock.now())
        let image = ImageReference(
            id: instance.imageID, format: .qcow2, sizeBytes: 1, virtualSizeBytes: 1, sha512: "00")
        let row = try TaskEngine.makeRow(
            kind: TaskKind.build, instance: instance.id, requestID: request, generation: 1,
            state: BuildTaskState(instance: instance.id, image: image, adminPassword: password), now: WallClock.now())
        let made = try await database.instances.create(
            [instance],
            actions: [
                InstanceAction(
                    instance: instance.id, requestID: request, kind: .create, userID: UserID("u"),
                    projectID: ProjectID("p"), startedAt: WallClock.now())
            ], tasks: [row])
        _ = try await api.call(WakeConductor.self, .init())
        return (made[0], row.id)
    }

    /// Accepts a delete as the API does.
    func delete(_ id: InstanceID) async throws -> TaskID {
        let request = RequestScope.makeID()
        let task = Mutex<TaskID?>(nil)
        _ = try await database.instances.update(
            id, now: WallClock.now(),
            action: InstanceAction(
                instance: id, requestID: request, kind: .delete, userID: UserID("u"), projectID: ProjectID("p"),
                startedAt: WallClock.now()),
            makeTasks: { instance in
                let row = try TaskEngine.makeRow(
                    kind: TaskKind.delete, instance: id, requestID: request, generation: instance.fence.generation,
                    state: DeleteTaskState(instance: id), now: WallClock.now())
                task.withLock { $0 = row.id }
                return [row]
            }
        ) { instance in
            instance.taskState = .deleting
            instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
        }
        _ = try await api.call(WakeConductor.self, .init())
        guard let id = task.withLock({ $0 }) else { throw Failure(.internalError, "no task was made") }
        return id
    }

    /// Waits until the instance satisfies `condition`; fails after a minute.
    func wait(
        for id: InstanceID, _ condition: @Sendable (Instance) -> Bool
    ) async throws -> Instance {
        try await eventually("the instance to change") {
            guard let found = try await database.instances.find(id, includeDeleted: true), condition(found) else {
                return nil
            }
            return found
        }
    }

    func waitForEnd(of task: TaskID) async throws -> TaskRow {
        try await eventually("task \(task) to end") {
            guard let row = try await database.tasks.find(task), row.status.isFinished else { return nil }
            return row
        }
    }
}

/// Asks until there is an answer, for a minute at most: loaded machines are slow.
func eventually<T>(_ what: String, _ ask: () async throws -> T?) async throws -> T {
    let end = ContinuousClock.now + .seconds(60)
    while ContinuousClock.now < end {
        if let answer = try await ask() { return answer }
        try await Task.sleep(for: .milliseconds(10))
    }
    throw Failure(.timeout, "waited a minute for \(what)")
}
