import Configuration
import Crypto
import Database
import Foundation
import HTTP
import Images
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
    private let images: HTTPServer
    private let imageFolder = NSTemporaryDirectory() + "apus-conductor-images-" + makeUUID()

    init(settings: [String: String] = [:], database given: ControlDatabase? = nil) async throws {
        let database: ControlDatabase
        if let given { database = given } else { database = try await ControlDatabase.open(path: nil) }
        self.database = database
        images = try await Self.imageService(database, folder: imageFolder)
        let base = [
            "conductor.listen": "127.0.0.1:0", "scheduler.listen": "127.0.0.1:0",
            "image.data_url": "http://127.0.0.1:\(images.port)",
            // Played hosts have no heart of their own; a busy machine must not have them taken for dead.
            "DEFAULT.service_down_time": "300",
        ].merging(settings) { _, given in given }
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

    /// Runs `body` with a control plane, and takes it down whatever happened.
    static func with(
        settings: [String: String] = [:], database: ControlDatabase? = nil,
        _ body: (ControlPlane) async throws -> Void
    ) async throws {
        let plane = try await ControlPlane(settings: settings, database: database)
        do {
            try await body(plane)
        } catch {
            await plane.stop()
            throw error
        }
        await plane.stop()
    }

    /// What the API serves hosts and conductors of the images' bytes.
    private static func imageService(_ database: ControlDatabase, folder: String) async throws -> HTTPServer {
        let name = ImageTicketAuthority.settingName
        let secrets = try await database.settings.establish([name: randomBytes(32)])
        let service = ImageService(
            storage: database.images,
            store: ImageStore(path: folder, sizeLimit: nil, executor: BlockingExecutor(name: "images", threads: 1)),
            tickets: ImageTicketAuthority(secret: secrets[name] ?? []), now: WallClock.now)
        try await service.recover()
        var router = Router()
        router.mount("/apus/v1/image-data", imageDataRouter(service: service))
        let server = HTTPServer(ServerConfiguration(name: "images", address: "127.0.0.1", port: 0), router: router)
        try server.start()
        return server
    }

    var url: String { "http://127.0.0.1:\(conductor.port)" }

    func stop() async {
        for service in services { service.cancel() }
        for service in services { _ = await service.result }
        await http.shutdown()
        await images.stop(grace: .zero)
        try? FileManager.default.removeItem(atPath: imageFolder)
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

    /// An instance that runs on a host.
    func running(_ name: String = "guest") async throws -> Instance {
        let made = try await create(name: name)
        return try await wait(for: made.instance.id) { $0.vmState == .active && $0.taskState == nil }
    }

    /// Accepts `request` as the API does, and wakes the conductor.
    func accept<State: Codable & Sendable>(
        _ request: InstanceRequest, _ id: InstanceID, kind: String, _ state: State
    ) async throws -> TaskID {
        let (requestID, task, now) = (RequestScope.makeID(), TaskID(makeUUID()), WallClock.now())
        let action = request.action.map {
            InstanceAction(
                instance: id, requestID: requestID, kind: $0, userID: UserID("u"), projectID: ProjectID("p"),
                startedAt: now)
        }
        _ = try await database.instances.update(
            id, now: now, action: action,
            makeTasks: { instance in
                var row = try TaskEngine.makeRow(
                    kind: kind, instance: id, requestID: requestID, generation: instance.fence.generation,
                    state: state, now: now)
                row.id = task
                return [row]
            },
            change: { instance in
                instance.taskState = try request.admitted(to: instance, isAdmin: false)
                instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
            })
        _ = try await api.call(WakeConductor.self, .init())
        return task
    }

    /// An image of the project with bytes, as an upload leaves it.
    func addImage(_ id: ImageID = ImageID(makeUUID())) async throws -> ImageID {
        try await database.images.insert(
            ImageRecord(
                id: id, name: "i", status: .active, owner: ProjectID("p"), diskFormat: .qcow2,
                containerFormat: "bare", sizeBytes: 1, virtualSizeBytes: 1, checksum: "c", sha512: "d",
                createdAt: WallClock.now()))
        return id
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
