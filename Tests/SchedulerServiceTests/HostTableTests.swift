import Database
import Model
import Scheduling
import Testing

@testable import SchedulerService

private let start = Timestamp(seconds: 1_800_000_000)

private func report(_ name: String, memoryMiB: Int = 4_096, sequence: Int64 = 1, at: Timestamp = start) -> HostReport {
    HostReport(
        host: HostName(name), uuid: "uuid-\(name)", hypervisorHostname: name, hypervisorType: "QEMU",
        hypervisorVersion: 7_002_000, hostAddress: "127.0.0.1",
        total: Resources(vcpus: 8, memoryMiB: memoryMiB, diskGiB: 100), reserved: .zero, used: .zero,
        ratios: AllocationRatios(), diskAvailableLeastGiB: 100, runningInstances: 0, workload: 0, cpuModel: nil,
        cpuVendor: nil, architecture: "x86_64", cpuTopology: CPUTopology(), cpuFeatures: [], uptimeSeconds: 1,
        sequence: sequence, measuredAt: at)
}

private func request(memoryMiB: Int = 1_024) -> PlacementRequest {
    PlacementRequest(
        instances: [InstanceID("i")], resources: Resources(vcpus: 1, memoryMiB: memoryMiB, diskGiB: 1),
        projectID: ProjectID("p"), alternates: 2)
}

@Suite("The scheduler's hosts come from the database")
struct HostTableTests {
    private let database: ControlDatabase

    init() async throws { database = try await ControlDatabase.open(path: nil) }

    private func table(now: Timestamp = start) -> HostTable {
        HostTable(
            hosts: database.hosts, services: database.services, downAfter: .seconds(25), zone: "nova",
            scheduler: FilterScheduler(filters: FilterScheduler.defaultFilters, weighers: [RAMWeigher()]),
            now: { now })
    }

    private func add(_ name: String, memoryMiB: Int = 4_096) async throws {
        try await database.hosts.record(report(name, memoryMiB: memoryMiB), now: start)
        try await database.services.record([
            ServiceHeartbeat(host: HostName(name), binary: "nova-compute", version: 1, at: start)
        ])
    }

    private func refusals(_ decision: PlacementDecision) -> [String] {
        guard case .refused(let refusal) = decision else { return [] }
        return refusal.reasons.map(\.reason)
    }

    @Test("Hosts that report later are seen by the next decision, and deleted ones are not")
    func changes() async throws {
        let table = table()
        #expect(try await table.select(request()) == .refused(PlacementRefusal(hostsConsidered: 0, reasons: [])))
        try await add("a")
        #expect(try await table.select(request()) == .placed([[HostName("a")]]))
        try await add("b", memoryMiB: 8_192)
        #expect(try await table.select(request()) == .placed([[HostName("b"), HostName("a")]]))
        try await database.hosts.delete(HostName("b"), now: start)
        #expect(try await table.select(request()) == .placed([[HostName("a")]]))
    }

    @Test("A host without a heartbeat, with an old one, or disabled is named as such")
    func status() async throws {
        try await database.hosts.record(report("silent"), now: start)
        #expect(refusals(try await table().select(request())) == ["down"])
        try await add("silent")
        #expect(refusals(try await table(now: start + .seconds(26)).select(request())) == ["down"])
        let service = try #require(
            try await database.services.find(host: HostName("silent"), binary: "nova-compute"))
        _ = try await database.services.change(uuid: service.uuid, isDisabled: true)
        #expect(refusals(try await table().select(request())) == ["disabled"])
    }

    @Test("A burst does not pile onto one host: what was picked counts until a later report says otherwise")
    func consumption() async throws {
        let table = table()
        try await add("a", memoryMiB: 2_048)
        _ = try await table.select(request(memoryMiB: 2_048))
        #expect(refusals(try await table.select(request(memoryMiB: 2_048))) == ["short of memory"])
        try await database.hosts.record(
            report("a", memoryMiB: 2_048, sequence: 2, at: start + .seconds(1)), now: start + .seconds(1))
        #expect(try await table.select(request(memoryMiB: 2_048)) == .placed([[HostName("a")]]))
    }
}
