import Configuration
import Crypto
import Foundation
import HTTP
import Model
import RPC
import SQL
import SQLite
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Compute

/// A host with an agent on it, and the conductor it reports to.
final class Bench: Sendable {
    let folder: Folder
    let conductor: FakeConductor
    let driver: FakeDriver
    private let settings: [String: String]

    init(
        host: FakeHost = FakeHost(), folder: Folder? = nil, capacity: HostCapacity = .fake,
        settings: [String: String] = [:],
        hook: FakeDriver.Hook? = nil
    ) throws {
        self.folder = try folder ?? Folder()
        conductor = try FakeConductor()
        driver = FakeDriver(
            host: host, capacity: capacity, socketFolder: Folder.forSockets(), hook: hook)
        self.settings = settings
        try AgentIdentity(
            host: HostName("host1"), secret: FakeConductor.agentSecret,
            conductorSecretHash: Hex.encode(digest(.sha256, of: Array(FakeConductor.conductorSecret.utf8))),
            conductors: []
        ).save(statePath: self.folder.path)
    }

    func configuration() throws -> Configuration {
        var values = [
            "DEFAULT.host": "host1", "DEFAULT.state_path": folder.path, "compute.listen": "127.0.0.1:0",
            "DEFAULT.report_interval": "100ms", "DEFAULT.shutdown_timeout": "1s", "compute.metadata_service": "no",
            "compute.memory_overhead_mib": "0",
        ]
        values.merge(settings) { $1 }
        return try Configuration(options: ComputeOptions.all + RPCOptions.all, values: values)
    }

    /// Starts an agent, lets `body` use it, and ends the agent gracefully.
    func run<T: Sendable>(
        prepare: @escaping @Sendable (AgentCore) -> Void = { _ in },
        _ body: @escaping @Sendable (AgentHandle) async throws -> T
    ) async throws -> T {
        let agent = Agent(
            configuration: try configuration(), driver: driver, conductors: [conductor.url], now: WallClock.now,
            undoAttempts: 1,
            prepare: prepare)
        let life = Task { try await agent.run() }
        guard await agent.ready(), let port = agent.port, let core = agent.core.withLock({ $0 }) else {
            try await life.value
            throw Failure(.internalError, "the agent ended before it served")
        }
        let http = HTTPClient()
        let client = RPCClient(
            http: http,
            peers: [
                PeerAddress(
                    url: "http://127.0.0.1:\(port)",
                    credential: PeerCredential(peer: "service:conductor", secret: FakeConductor.conductorSecret))
            ])
        let result: Result<T, any Error>
        do {
            result = .success(try await body(AgentHandle(bench: self, core: core, client: client, port: port)))
        } catch {
            result = .failure(error)
        }
        life.cancel()
        try await life.value
        await http.shutdown()
        await conductor.stop()
        return try result.get()
    }
}

/// A running agent with a conductor's means.
struct AgentHandle: Sendable {
    let bench: Bench
    let core: AgentCore
    let client: RPCClient
    let port: UInt16

    var conductor: FakeConductor { bench.conductor }
    var driver: FakeDriver { bench.driver }

    func build(
        _ instance: Instance, task: TaskID? = nil, fence: Fence? = nil, password: String? = "s3cret-word",
        image: ImageReference = .test, attempt: Int = 1, files: [InjectedFile]? = nil, key: String? = nil
    ) async throws -> TaskID {
        let task = task ?? TaskID(makeUUID())
        let header = CommandHeader(task: task, instance: instance.id, fence: fence ?? instance.fence)
        _ = try await client.call(
            BuildInstance.self,
            .init(
                header: header, instance: instance, image: image, adminPassword: password, attempt: attempt,
                files: files),
            idempotencyKey: key)
        return task
    }

    func delete(_ id: InstanceID, generation: Int64, epoch: Int64 = 0, task: TaskID? = nil) async throws -> TaskID {
        let task = task ?? TaskID(makeUUID())
        let fence = Fence(generation: generation, epoch: epoch)
        _ = try await client.call(
            DeleteInstance.self, .init(header: CommandHeader(task: task, instance: id, fence: fence)))
        return task
    }

    /// Sends a command with the record that the agent has, or `record`.
    func operate(
        _ command: GuestCommand, _ id: InstanceID, generation: Int64, record: Instance? = nil, task: TaskID? = nil
    ) async throws -> TaskID {
        let task = task ?? TaskID(makeUUID())
        let fence = Fence(generation: generation, epoch: 0)
        let known = try await core.journal.guest(id)?.specification.instance
        let instance = try #require(record ?? known)
        _ = try await client.call(
            OperateGuest.self,
            .init(
                header: CommandHeader(task: task, instance: id, fence: fence), command: command, instance: instance))
        return task
    }

    func cancel(_ task: TaskID, _ id: InstanceID, generation: Int64) async throws {
        let fence = Fence(generation: generation, epoch: 0)
        _ = try await client.call(
            CancelOperation.self, .init(header: CommandHeader(task: task, instance: id, fence: fence)))
    }

    /// Builds an instance and waits until it runs.
    func built(_ instance: Instance) async throws {
        let outcome = try await conductor.outcome(of: build(instance))
        try #require(outcome.failure == nil)
    }

    /// Waits until nothing is under way and everything was told.
    func settled() async throws {
        for _ in 0..<6_000 {
            let (open, waiting) = try await core.journal.database.read {
                (try $0.openOperations().count, try $0.outboxCount())
            }
            if open == 0, waiting == 0 { return }
            await core.engine.idle()
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("the agent never settled")
    }

    /// Every value of every row of the journal, as text.
    func everyRow() async throws -> String {
        try await core.journal.database.read { connection in
            let tables = try connection.query(
                "SELECT name FROM sqlite_master WHERE type = 'table'", []
            ) { $0.text(0) }
            var text = ""
            for table in tables {
                let columns = try connection.query("SELECT name FROM pragma_table_info(?)", [.text(table)]) {
                    $0.text(0)
                }
                for column in columns {
                    text += try connection.query("SELECT CAST(\(column) AS TEXT) FROM \(table)", []) { $0.text(0) }
                        .joined(separator: "\n")
                }
            }
            return text
        }
    }

    /// Fails unless claims, records, and what the hypervisor holds are of exactly these instances.
    func holdsExactly(_ instances: [Instance], sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let ids = Set(instances.map(\.id))
        let (guests, claims) = try await core.journal.database.read { (try $0.guests(), try $0.claims()) }
        #expect(Set(guests.map(\.id)) == ids, sourceLocation: sourceLocation)
        #expect(Set(claims.map(\.instance)) == ids, sourceLocation: sourceLocation)
        #expect(Set(driver.host.state.holdings.keys) == ids, sourceLocation: sourceLocation)
        let sum = instances.map(\.resources).reduce(.zero, +)
        #expect(core.tracker.snapshot.promised == sum, sourceLocation: sourceLocation)
    }
}

/// Holds the folders of all tests of this process. What a test's agents still hold when the process ends goes with it.
private let root: String = {
    let path = NSTemporaryDirectory() + "apus-compute-" + UUID().uuidString
    atexit(removeRoot)
    return path
}()

private func removeRoot() { try? FileManager.default.removeItem(atPath: root) }

/// A folder of its own for one test, removed with it.
final class Folder: Sendable {
    let path: String

    /// Of a short name, as sockets want it; goes with the process.
    static func forSockets() -> String { root + "/" + String(UUID().uuidString.prefix(8)) }

    init() throws {
        path = root + "/" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    /// A folder with the journal of another as it is on the disk at this moment: what a crash would leave.
    init(crashed other: Folder) throws {
        path = root + "/" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        for file in ["agent.db", "agent.db-wal"] where FileManager.default.fileExists(atPath: other.path + "/" + file) {
            try FileManager.default.copyItem(atPath: other.path + "/" + file, toPath: path + "/" + file)
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

extension Instance {
    /// An instance of one vCPU, 512 MiB and 1 GiB, at its first generation.
    static func test(
        _ id: String = makeUUID(), vcpus: Int = 1, memoryMiB: Int = 512, rootGiB: Int = 1
    ) -> Instance {
        Instance(
            id: InstanceID(id), number: 1, projectID: ProjectID("p"), userID: UserID("u"), name: "web", hostname: "web",
            flavor: Flavor(
                id: FlavorID("f"), name: "m1.test", vcpus: vcpus, memoryMiB: memoryMiB, rootGiB: rootGiB),
            imageID: ImageReference.test.id, userData: "dXNlci1kYXRhLXNlY3JldA==", reservationID: "r-1",
            createdAt: Timestamp(seconds: 1_700_000_000))
    }
}

extension ImageReference {
    static let test = ImageReference(
        id: ImageID("11111111-2222-3333-4444-555555555555"), format: .qcow2,
        sizeBytes: Int64(FakeConductor.image.count), virtualSizeBytes: 1 << 20,
        sha512: String(repeating: "ab", count: 64))
}
