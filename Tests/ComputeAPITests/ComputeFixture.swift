import ComputeAPI
import Database
import HTTP
import Images
import Model
import RPC
import Synchronization
import Telemetry

/// The compute API over a database in memory, with one active image and the default flavors.
struct ComputeFixture: Sendable {
    static let start = Timestamp(seconds: 1_767_225_600)
    static let image = "aaaaaaaa-1111-4111-8111-111111111111"

    let database: ControlDatabase
    let images: any ImageStorage
    let router: Router
    let admin: Router
    let clock: Clock
    let executor: BlockingExecutor

    /// A clock that tests move.
    final class Clock: Sendable {
        private let moment = Mutex(ComputeFixture.start)
        var now: Timestamp { moment.withLock { $0 } }
        func advance(by duration: Duration) { moment.withLock { $0 = $0 + duration } }
    }

    /// - Parameters:
    ///   - settings: nobody here carries tasks through, so their end is not waited for unless a test says so.
    ///   - path: the database's file; in memory where there is none.
    init(
        settings: APISettings = APISettings(operationPatience: .zero),
        conductor: ConductorLink = ComputeFixture.conductor(), path: String? = nil
    ) async throws {
        let clock = Clock()
        self.clock = clock
        database = try await ControlDatabase.open(path: path) { Self.start }
        images = database.images
        executor = BlockingExecutor(name: "keys", threads: 1)
        try await images.insert(
            ImageRecord(
                id: ImageID(Self.image), name: "tiny", status: .active, visibility: .public, owner: ProjectID("p0"),
                diskFormat: .qcow2, containerFormat: "bare", sizeBytes: 1 << 20, virtualSizeBytes: 1 << 30,
                checksum: "c", sha512: "s", createdAt: Self.start))
        router = computeRouter(
            ComputeParts(
                database: database, images: images, conductor: conductor, settings: settings,
                authenticate: Self.authenticate, executor: executor, now: { clock.now })
        ) { _ in "http://cloud:8774/compute" }
        admin = adminRouter(
            database: database, conductor: conductor, authenticate: Self.authenticate, now: { clock.now })
    }

    /// A conductor whose guests print ten lines.
    static func conductor() -> ConductorLink {
        ConductorLink(
            wake: {},
            consoleOutput: { _, lines in
                (1...10).suffix(lines ?? 10).map { "tick \($0)\n" }.joined()
            },
            diagnostics: { _ in Self.diagnostics }, topology: { _ in Self.topology },
            guestAgent: { _ in .init(isAnswering: true, milliseconds: 1.25) },
            crashDump: { _ in }, forceMigration: { _, _ in }, claims: { try Self.claims(of: $0, $1) }, forget: { _ in })
    }

    /// What host `kvm1` says of itself; others are out of reach.
    static func claims(of host: HostName, _ events: Int) throws -> DescribeClaims.Result {
        guard host == HostName("kvm1") else { throw Failure(.unreachable, "host \(host) does not answer") }
        let taken = Resources(vcpus: 1, memoryMiB: 128, diskGiB: 2)
        let (claim, instance) = (ClaimID("c1"), InstanceID("8d3d17a5-8b4f-4a1e-9d0d-8a3d3f0a0b11"))
        return DescribeClaims.Result(
            total: Resources(vcpus: 8, memoryMiB: 1_024, diskGiB: 10),
            reserved: Resources(vcpus: 0, memoryMiB: 512, diskGiB: 0),
            used: Resources(vcpus: 1, memoryMiB: 640, diskGiB: 2),
            limit: Resources(vcpus: 32, memoryMiB: 512, diskGiB: 10),
            holdings: [
                .init(
                    claim: claim, instance: instance, resources: taken, since: Timestamp(microseconds: 5_000_000),
                    remark: nil)
            ],
            events: Array(
                [
                    .init(
                        at: Timestamp(microseconds: 5_000_000), change: .claimed, claim: claim, instance: instance,
                        resources: taken)
                ]
                .prefix(events)))
    }

    /// Where every guest is.
    static let topology = GuestTopology(
        cells: [
            .init(hostCell: 1, memoryMiB: 256, vcpus: [0, 1], pins: [0: 5, 1: 4]),
            .init(hostCell: 0, memoryMiB: 256, vcpus: [2], pins: [:]),
        ], pageSizeKiB: 2_048)

    /// What a conductor says of every guest.
    static let diagnostics: GuestDiagnostics = {
        var nic = GuestDiagnostics.Interface(macAddress: "fa:16:3e:00:00:01")
        (nic.receivedBytes, nic.sentPackets) = (100, 7)
        var disk = GuestDiagnostics.Disk(device: "vda")
        (disk.readBytes, disk.writeRequests) = (4_096, 3)
        return GuestDiagnostics(
            powerState: .running, hypervisor: "kvm", uptimeSeconds: 60, hasConfigDrive: true,
            processors: [.init(id: 0, timeNanoseconds: 1_000)], interfaces: [nic], disks: [disk],
            memoryMaximumMiB: 512, memoryUsedMiB: 256)
    }()

    /// The test's token is `project/role`, the role being the caller's highest; the user is named like the project.
    @Sendable private static func authenticate(_ request: HTTPRequest) throws -> APICaller {
        guard let parts = request.headers["X-Auth-Token"]?.split(separator: "/"), parts.count == 2 else {
            throw APIError(401, "no token")
        }
        let order = ["reader", "member", "manager", "admin"]
        let rank = order.firstIndex(of: String(parts[1])).map { order[...$0] } ?? []
        return APICaller(
            userID: UserID("u-\(parts[0])"), projectID: ProjectID(String(parts[0])), roles: Set(rank))
    }

    struct Reply: Sendable {
        let response: HTTPResponse
        let json: JSON

        var status: Int { response.status }
        var message: String { json.members?.values.first?["message"]?.text ?? "" }
    }

    func send(
        _ method: HTTPMethod, _ path: String, as token: String? = "p1/member", at version: String? = nil,
        _ body: JSON? = nil, raw: String? = nil
    ) async -> Reply {
        await send(router, method, "/v2.1/" + path, as: token, at: version, body, raw: raw)
    }

    func send(
        _ router: Router, _ method: HTTPMethod, _ path: String, as token: String?, at version: String? = nil,
        _ body: JSON? = nil, raw: String? = nil
    ) async -> Reply {
        var request = HTTPRequest(method, path, body: raw.map { Array($0.utf8) } ?? body?.serialized() ?? [])
        request.headers["X-Auth-Token"] = token
        request.headers["OpenStack-API-Version"] = version.map { "compute \($0)" }
        let response = await router.handle(request)
        return Reply(response: response, json: (try? JSON(parsing: response.bytes)) ?? .null)
    }

    /// The least body of a server, and whatever else is to be in it.
    static func server(_ more: [String: JSON] = [:]) -> JSON {
        let least: [String: JSON] = ["name": "web", "imageRef": .string(image), "flavorRef": "42"]
        return ["server": .object(least.merging(more) { $1 })]
    }

    /// Makes a server and answers its id.
    func makeServer(
        as token: String = "p1/member", at version: String? = nil, _ more: [String: JSON] = [:]
    ) async throws -> String {
        let reply = await send(.post, "servers", as: token, at: version, Self.server(more))
        return reply.json["server"]?["id"]?.text ?? ""
    }

    /// Makes a server and lets it become active on a host, as the conductor would.
    func makeActive(
        as token: String = "p1/member", at version: String? = nil, _ more: [String: JSON] = [:]
    ) async throws -> String {
        let id = try await makeServer(as: token, at: version, more)
        try await settle(id)
        return id
    }

    func settle(_ id: String, _ state: VMState = .active, power: PowerState = .running) async throws {
        let now = clock.now
        _ = try await database.instances.update(InstanceID(id), now: now) { instance in
            instance.vmState = state
            instance.taskState = nil
            instance.powerState = power
            instance.host = HostName("kvm1")
            instance.launchedAt = instance.launchedAt ?? now
        }
    }

    func instance(_ id: String) async throws -> Instance? {
        try await database.instances.find(InstanceID(id), includeDeleted: true)
    }

    /// A compute host with its service.
    func addHost(_ name: String = "kvm1", uuid: String = "6f9619ff-8b86-4011-b42d-00c04fc964ff") async throws {
        try await database.services.record([
            ServiceHeartbeat(host: HostName(name), binary: "nova-compute", version: 1, at: clock.now)
        ])
        try await database.hosts.record(
            HostReport(
                host: HostName(name), uuid: uuid, hypervisorHostname: name, hypervisorType: "QEMU",
                hypervisorVersion: 7_002_000, hostAddress: "192.0.2.5",
                total: Resources(vcpus: 8, memoryMiB: 16_384, diskGiB: 100), reserved: .zero,
                used: Resources(vcpus: 1, memoryMiB: 512, diskGiB: 20), ratios: AllocationRatios(),
                diskAvailableLeastGiB: 70, runningInstances: 1, workload: 0, cpuModel: "EPYC", cpuVendor: "AMD",
                architecture: "x86_64", cpuTopology: CPUTopology(), cpuFeatures: ["sse"], uptimeSeconds: 90_061,
                sequence: 1, measuredAt: clock.now), now: clock.now)
    }
}
