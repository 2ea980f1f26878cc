import Database
import Model
import Scheduling
import Synchronization
import Testing

@testable import SchedulerService

let start = Timestamp(seconds: 1_800_000_000)

func report(_ name: String, memoryMiB: Int = 4_096, sequence: Int64 = 1, at: Timestamp = start) -> HostReport {
    HostReport(
        host: HostName(name), uuid: "uuid-\(name)", hypervisorHostname: name, hypervisorType: "QEMU",
        hypervisorVersion: 7_002_000, hostAddress: "127.0.0.1",
        total: Resources(vcpus: 8, memoryMiB: memoryMiB, diskGiB: 100), reserved: .zero, used: .zero,
        ratios: AllocationRatios(), diskAvailableLeastGiB: 100, runningInstances: 0, workload: 0, cpuModel: nil,
        cpuVendor: nil, architecture: "x86_64", cpuTopology: CPUTopology(), cpuFeatures: [], uptimeSeconds: 1,
        sequence: sequence, measuredAt: at)
}

func request(memoryMiB: Int = 1_024) -> PlacementRequest {
    PlacementRequest(
        instances: [InstanceID("i")], resources: Resources(vcpus: 1, memoryMiB: memoryMiB, diskGiB: 1),
        projectID: ProjectID("p"), alternates: 2)
}

@Suite("The scheduler's hosts come from the database")
struct HostTableTests {
    private let database: ControlDatabase

    init() async throws { database = try await ControlDatabase.open(path: nil) }

    private func table(_ options: SchedulingOptions = SchedulingOptions(), now: Timestamp = start) throws -> HostTable {
        HostTable(
            database: database, downAfter: .seconds(25), zone: "nova", scheduler: try FilterScheduler(options),
            options: options, now: { now })
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

    @Test("Decisions that come together share a look at the database, and each sees what was written before it came")
    func sharedRefresh() async throws {
        let table = try table()
        try await add("a")
        try await withThrowingTaskGroup(of: [HostName].self) { group in
            for _ in 0..<200 { group.addTask { try await table.names() } }
            for try await names in group { #expect(names == [HostName("a")]) }
        }
        #expect(await table.refreshCount < 50)
        for number in 0..<20 {
            async let before = table.names()
            try await add("b\(number)")
            #expect(try await table.names().contains(HostName("b\(number)")))
            _ = try await before
        }
    }

    @Test("Heartbeats, commands and deletions are seen by the next decision; silence when its time has come")
    func services() async throws {
        let clock = Mutex(start)
        let table = HostTable(
            database: database, downAfter: .seconds(25), zone: "nova",
            scheduler: try FilterScheduler(SchedulingOptions()), options: SchedulingOptions(),
            now: { clock.withLock { $0 } })
        try await add("a")
        try await add("b", memoryMiB: 8_192)
        func chosen() async throws -> [String] {
            guard case .placed(let lists) = try await table.select(request(memoryMiB: 1)) else { return [] }
            return lists.flatMap { $0 }.map(\.rawValue).sorted()
        }
        func beat(_ name: String) async throws {
            try await database.services.record([
                ServiceHeartbeat(
                    host: HostName(name), binary: "nova-compute", version: 1, at: clock.withLock { $0 })
            ])
        }
        #expect(try await chosen() == ["a", "b"])
        let service = try #require(try await database.services.find(host: HostName("b"), binary: "nova-compute"))
        _ = try await database.services.change(uuid: service.uuid, isDisabled: true)
        #expect(try await chosen() == ["a"])
        _ = try await database.services.change(uuid: service.uuid, isDisabled: false, isForcedDown: true)
        #expect(try await chosen() == ["a"])
        _ = try await database.services.change(uuid: service.uuid, isForcedDown: false)
        #expect(try await chosen() == ["a", "b"])
        clock.withLock { $0 = start + .seconds(20) }
        try await beat("a")
        #expect(try await chosen() == ["a", "b"])
        clock.withLock { $0 = start + .seconds(26) }
        #expect(try await chosen() == ["a"])
        clock.withLock { $0 = start + .seconds(44) }
        try await beat("b")
        #expect(try await chosen() == ["a", "b"])
        clock.withLock { $0 = start + .seconds(46) }
        #expect(try await chosen() == ["b"])
        try await beat("a")
        #expect(try await chosen() == ["a", "b"])
        try await database.services.delete(uuid: service.uuid)
        #expect(try await chosen() == ["a"])
        // A clock that goes back makes what was heard of in its future as old as it is far.
        clock.withLock { $0 = start }
        #expect(try await chosen() == [])
        try await beat("a")
        #expect(try await chosen() == ["a"])
    }

    @Test("Whether a host may have another image is seen of its last report, and takes nothing of it")
    func rebuilds() async throws {
        func refusal(_ table: HostTable, _ properties: [String: String] = [:], on host: String = "a") async throws
            -> String?
        {
            var asked = request(memoryMiB: 99_999)
            asked.imageProperties = properties
            return try await table.check(asked, on: HostName(host))?.details
        }
        let table = try table()
        #expect(
            try await refusal(table) == "RequestedDestination: 1 host not known to the scheduler")
        try await add("a")
        #expect(try await refusal(table) == nil)
        #expect(
            try await refusal(table, ["hw_architecture": "arm64"])
                == "ImagePropertiesFilter: 1 host not of the architecture aarch64")
        #expect(try await table.select(request(memoryMiB: 4_096)) == .placed([[HostName("a")]]))
        // Full by now.
        #expect(try await refusal(table, ["hw_architecture": "amd64"]) == nil)
        var options = SchedulingOptions()
        options.driver = .fake
        #expect(try await refusal(try self.table(options)) == "FakeScheduler: 1 host not chosen")
        options.driver = .chance
        #expect(try await refusal(try self.table(options), ["hw_architecture": "arm64"]) == nil)
    }

    @Test("Hosts that report later are seen by the next decision, and deleted ones are not")
    func changes() async throws {
        let table = try table()
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
        let table = try table()
        try await add("a", memoryMiB: 2_048)
        _ = try await table.select(request(memoryMiB: 2_048))
        #expect(refusals(try await table.select(request(memoryMiB: 2_048))) == ["short of memory"])
        try await database.hosts.record(
            report("a", memoryMiB: 2_048, sequence: 2, at: start + .seconds(1)), now: start + .seconds(1))
        #expect(try await table.select(request(memoryMiB: 2_048)) == .placed([[HostName("a")]]))
    }

    @Test("Aggregates give hosts their zone and what filters read, from the next decision on")
    func aggregates() async throws {
        var options = SchedulingOptions()
        options.enabledFilters += ["AggregateInstanceExtraSpecsFilter", "AggregateRamFilter"]
        let table = try table(options)
        try await add("a")
        try await add("b")
        let aggregates = database.aggregates
        let east = try await aggregates.create(name: "east", uuid: "u1", availabilityZone: "east", now: start)
        _ = try await aggregates.add(HostName("b"), to: east.id, defaultZone: "nova", now: start)
        var asked = request()
        asked.availabilityZone = "east"
        #expect(try await table.select(asked) == .placed([[HostName("b")]]))
        asked.availabilityZone = "nova"
        #expect(try await table.select(asked) == .placed([[HostName("a")]]))
        asked.availabilityZone = nil
        asked.flavor = Flavor(
            id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: 1, rootGiB: 1,
            extraSpecs: ["aggregate_instance_extra_specs:ssd": "true"])
        #expect(
            refusals(try await table.select(asked)) == ["outside aggregates with ssd true"])
        _ = try await aggregates.update(east.id, metadata: ["ssd": "true"], defaultZone: "nova", now: start)
        #expect(try await table.select(asked) == .placed([[HostName("b")]]))
        _ = try await aggregates.update(
            east.id, metadata: ["ram_allocation_ratio": "0.5"], defaultZone: "nova", now: start)
        #expect(refusals(try await table.select(asked)).contains("short of memory"))
    }

    private func insert(_ id: String, host: String? = nil, in group: ServerGroupID? = nil) async throws {
        var instance = Instance(
            id: InstanceID(id), projectID: ProjectID("p"), userID: UserID("u"), name: id, hostname: id,
            flavor: Flavor(id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: 1, rootGiB: 1), imageID: ImageID("i"),
            reservationID: "r", createdAt: start)
        instance.host = host.map { HostName($0) }
        _ = try await database.instances.create(
            [instance], actions: [], tasks: [], group: group.map { ($0, -1) })
    }

    private func place(_ table: HostTable, _ id: String) async throws -> String? {
        var asked = request(memoryMiB: 1)
        asked.instances = [InstanceID(id)]
        guard case .placed(let hosts) = try await table.select(asked) else { return nil }
        return hosts.first?.first?.rawValue
    }

    @Test("Of an anti-affinity group each lands on another host, also those placed before the first has its host")
    func apart() async throws {
        let table = try table()
        for name in ["a", "b", "c"] { try await add(name) }
        let group = ServerGroup(
            id: ServerGroupID("g"), projectID: ProjectID("p"), userID: UserID("u"), name: "g", policy: .antiAffinity,
            createdAt: start)
        try await database.serverGroups.create(group, projectLimit: -1, userLimit: -1)
        for id in ["i1", "i2", "i3", "i4"] { try await insert(id, in: group.id) }
        var hosts: Set<String> = []
        for id in ["i1", "i2", "i3"] { hosts.insert(try await place(table, id) ?? "") }
        #expect(hosts == ["a", "b", "c"])
        #expect(try await place(table, "i4") == nil)
        // One that failed, or was deleted, takes no place.
        _ = try await database.instances.update(InstanceID("i2"), now: start) { $0.vmState = .error }
        #expect(try await place(table, "i4") != nil)
    }

    @Test("An affinity group stays where its first member is; hints are about the servers that they name")
    func together() async throws {
        let table = try table()
        for name in ["a", "b"] { try await add(name) }
        let group = ServerGroup(
            id: ServerGroupID("g"), projectID: ProjectID("p"), userID: UserID("u"), name: "g", policy: .affinity,
            createdAt: start)
        try await database.serverGroups.create(group, projectLimit: -1, userLimit: -1)
        try await insert("i1", host: "b", in: group.id)
        for id in ["i2", "i3"] {
            try await insert(id, in: group.id)
            #expect(try await place(table, id) == "b")
        }
        for (hint, host) in [("same_host", "b"), ("different_host", "a")] {
            var asked = request(memoryMiB: 1)
            asked.schedulerHints = [hint: ["I1"]]
            #expect(try await table.select(asked) == .placed([[HostName(host)]]))
        }
        var asked = request(memoryMiB: 1)
        asked.schedulerHints = ["same_host": ["nobody"]]
        #expect(refusals(try await table.select(asked)) == ["without the server that is to be near (same_host)"])
    }

    @Test("A filter that there is not is refused, with those that there are")
    func unknownFilter() throws {
        var options = SchedulingOptions()
        options.enabledFilters = ["NoSuchFilter"]
        let error = #expect(throws: UnknownFilter.self) { try FilterScheduler(options) }
        #expect(error?.description.hasPrefix("there is no filter NoSuchFilter; there are AllHostsFilter, ") == true)
    }

    @Test("The caching driver sees what has changed when its interval is over, and consumes what it places meanwhile")
    func caching() async throws {
        var options = SchedulingOptions()
        options.driver = .caching
        let clock = Clock()
        let table = HostTable(
            database: database, downAfter: .seconds(1_000), zone: "nova", scheduler: try FilterScheduler(options),
            options: options, now: { clock.now })
        try await add("a")
        #expect(try await table.select(request(memoryMiB: 3_000)) == .placed([[HostName("a")]]))
        try await add("b")
        #expect(refusals(try await table.select(request(memoryMiB: 3_000))) == ["short of memory"])
        clock.advance(by: .seconds(59))
        #expect(refusals(try await table.select(request(memoryMiB: 3_000))) == ["short of memory"])
        clock.advance(by: .seconds(1))
        #expect(try await table.select(request(memoryMiB: 3_000)) == .placed([[HostName("b")]]))
    }

    @Test("Chance asks only whether a host is up; the fake driver chooses none")
    func otherDrivers() async throws {
        var options = SchedulingOptions()
        options.driver = .chance
        let chance = try table(options)
        #expect(try await chance.select(request()) == .refused(PlacementRefusal(hostsConsidered: 0, reasons: [])))
        for name in ["a", "b"] { try await add(name) }
        var drawn: Set<HostName> = []
        for _ in 1...200 {
            guard case .placed(let lists) = try await chance.select(request(memoryMiB: 1 << 40)) else { continue }
            #expect(Set(lists[0]) == [HostName("a"), HostName("b")])
            drawn.insert(lists[0][0])
        }
        #expect(drawn == [HostName("a"), HostName("b")])
        var ignoring = request()
        ignoring.ignoredHosts = [HostName("A"), HostName("b")]
        #expect(refusals(try await chance.select(ignoring)) == ["excluded by the request"])
        options.driver = .fake
        #expect(refusals(try await table(options).select(request())) == ["not chosen"])
    }
}

private final class Clock: Sendable {
    private let moment = Mutex(start)
    var now: Timestamp { moment.withLock { $0 } }
    func advance(by duration: Duration) { moment.withLock { $0 = $0 + duration } }
}
