import Database
import HTTP
import Model
import Placement

/// The Placement API over a database in memory, mounted as in the real port.
struct PlacementFixture: Sendable {
    static let start = Timestamp(seconds: 1_767_225_600)
    static let kvm1 = "11111111-1111-4111-8111-111111111111"
    static let kvm2 = "22222222-2222-4222-8222-222222222222"

    let database: ControlDatabase
    let router: Router

    /// Two hosts, kvm1 with a trait of its own, kvm2 disabled.
    init() async throws {
        database = try await ControlDatabase.open(path: nil) { Self.start }
        var router = Router()
        // The token is the caller's roles.
        router.mount(
            "/placement",
            placementRouter(
                database: database,
                authenticate: { request in
                    guard let token = request.headers["X-Auth-Token"] else {
                        throw PlacementError(401, "Who are you?", headers: ["WWW-Authenticate": "Keystone uri=\"x\""])
                    }
                    return Set(token.split(separator: ",").map(String.init))
                }, now: { Self.start }
            ) { _ in "http://cloud/placement" })
        self.router = router
        try await record(Self.report("kvm1", Self.kvm1, traits: ["CUSTOM_FAST", "HW_CPU_X86_AVX2"]))
        try await record(Self.report("kvm2", Self.kvm2))
        try await database.services.record(
            ["kvm1", "kvm2"].map {
                ServiceHeartbeat(host: HostName($0), binary: "nova-compute", version: 1, at: Self.start)
            })
        if let service = try await database.services.find(host: HostName("kvm2"), binary: "nova-compute") {
            _ = try await database.services.change(uuid: service.uuid, isDisabled: true)
        }
    }

    func record(_ report: HostReport) async throws {
        try await database.hosts.record(report, now: Self.start)
    }

    /// 8 CPUs at 4.0 of which 6 are used, 16 GiB with 512 MiB reserved, 100 GiB.
    static func report(
        _ name: String, _ uuid: String, total: Resources = Resources(vcpus: 8, memoryMiB: 16_384, diskGiB: 100),
        reserved: Resources = Resources(vcpus: 0, memoryMiB: 512, diskGiB: 0),
        used: Resources = Resources(vcpus: 6, memoryMiB: 2_560, diskGiB: 20), traits: [String]? = nil
    ) -> HostReport {
        var report = HostReport(
            host: HostName(name), uuid: uuid, hypervisorHostname: "\(name).example", hypervisorType: "QEMU",
            hypervisorVersion: 7_002_000, hostAddress: "192.0.2.5", total: total, reserved: reserved, used: used,
            ratios: AllocationRatios(), diskAvailableLeastGiB: nil, runningInstances: 1, workload: 0, cpuModel: nil,
            cpuVendor: nil, architecture: "x86_64", cpuTopology: CPUTopology(), cpuFeatures: [], uptimeSeconds: nil,
            sequence: 1, measuredAt: start)
        report.traits = traits
        return report
    }

    /// A server on a host, or on none yet.
    @discardableResult
    func addInstance(
        _ id: String, on host: String?, project: String = "p", user: String = "u", state: VMState = .active
    ) async throws -> InstanceID {
        let flavor = Flavor(
            id: FlavorID("2"), name: "m1.small", vcpus: 2, memoryMiB: 2_048, rootGiB: 20, ephemeralGiB: 1, swapMiB: 1)
        var instance = Instance(
            id: InstanceID(id), projectID: ProjectID(project), userID: UserID(user), name: "web", hostname: "web",
            flavor: flavor, imageID: ImageID("i"), reservationID: "r", createdAt: Self.start)
        (instance.vmState, instance.taskState, instance.host) = (state, nil, host.map { HostName($0) })
        _ = try await database.instances.create([instance], actions: [], tasks: [])
        return instance.id
    }

    struct Reply: Sendable {
        let response: HTTPResponse
        let json: JSON

        var status: Int { response.status }
        var error: JSON? { json["errors"]?[0] }
    }

    func send(
        _ method: HTTPMethod = .get, _ path: String, at version: String? = "1.39", as roles: String? = "admin"
    ) async -> Reply {
        let parts = path.split(separator: "?", maxSplits: 1).map(String.init)
        var request = HTTPRequest(
            method: method, path: "/placement" + parts[0], rawQuery: parts.count > 1 ? parts[1] : "")
        request.headers["X-Auth-Token"] = roles
        request.headers["OpenStack-API-Version"] = version.map { "placement \($0)" }
        let response = await router.handle(request)
        return Reply(response: response, json: (try? JSON(parsing: response.bytes)) ?? .null)
    }

    /// The names of the providers that the query finds.
    func names(_ query: String, at version: String = "1.39") async -> [String] {
        let reply = await send(.get, "/resource_providers?" + query, at: version)
        return reply.status == 200
            ? reply.json["resource_providers"]?.list?.compactMap { $0["name"]?.text } ?? [] : ["\(reply.status)"]
    }
}
