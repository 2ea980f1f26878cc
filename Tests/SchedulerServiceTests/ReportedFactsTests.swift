import Configuration
import Database
import Foundation
import Model
import RPC
import Scheduling
import Synchronization
import Testing

@testable import SchedulerService

/// A fact of a host's report, and a request that one value of it lets pass and another does not.
struct ReportedFact: Sendable, CustomTestStringConvertible {
    var testDescription: String
    /// What the refusal says.
    var refusal: String
    var good: @Sendable (inout HostReport) -> Void
    var bad: @Sendable (inout HostReport) -> Void
    var ask: @Sendable (inout PlacementRequest) -> Void = { _ in }

    init(
        _ name: String, refusal: String, good: @escaping @Sendable (inout HostReport) -> Void = { _ in },
        bad: @escaping @Sendable (inout HostReport) -> Void,
        ask: @escaping @Sendable (inout PlacementRequest) -> Void = { _ in }
    ) {
        (testDescription, self.refusal, self.good, self.bad, self.ask) = (name, refusal, good, bad, ask)
    }

    /// One that a query of the JsonFilter reads.
    static func query(
        _ attribute: String, _ value: String, good: @escaping @Sendable (inout HostReport) -> Void = { _ in },
        bad: @escaping @Sendable (inout HostReport) -> Void
    ) -> ReportedFact {
        ReportedFact(
            "$\(attribute)", refusal: "for which the query is not true", good: good, bad: bad
        ) { $0.schedulerHints["query"] = ["[\"=\", \"$\(attribute)\", \(value)]"] }
    }

    /// One that an extra spec of the flavor reads.
    static func spec(
        _ key: String, _ value: String, vcpus: Int = 1, refusal: String,
        good: @escaping @Sendable (inout HostReport) -> Void = { _ in },
        bad: @escaping @Sendable (inout HostReport) -> Void
    ) -> ReportedFact {
        ReportedFact("\(key)=\(value)", refusal: refusal, good: good, bad: bad) {
            $0.flavor = Flavor(
                id: FlavorID("1"), name: "f", vcpus: vcpus, memoryMiB: $0.resources.memoryMiB, rootGiB: 1,
                extraSpecs: [key: value])
        }
    }

    private static func cell(taken: Int) -> HostCellReport {
        HostCellReport(
            id: 0, memoryMiB: 4_096, memoryUsedMiB: 0, sharedCPUs: CPUSet([0, 1]), sharedVCPUs: 0,
            dedicatedCPUs: CPUSet([2, 3]), takenCPUs: CPUSet(Set([2, 3].prefix(taken))),
            cores: [CPUSet([0]), CPUSet([1]), CPUSet([2]), CPUSet([3])],
            pages: [.init(sizeKiB: 4, total: 1_048_576, reserved: 0, used: 0)])
    }

    private static func pool(free: Int) -> PCIPool {
        PCIPool(
            vendorID: "8086", productID: "10ed", kind: .plain, numaNode: nil, total: 2, free: free,
            aliases: ["nic": "legacy"])
    }

    private static func metric(_ name: String) -> HostMetric {
        HostMetric(name: name, value: 1, source: "s", measuredAt: start)
    }

    static let all: [ReportedFact] = [
        ReportedFact("total memory", refusal: "short of memory") { $0.total.memoryMiB = 1_023 },
        ReportedFact("used memory", refusal: "short of memory") { $0.used.memoryMiB = 3_073 },
        ReportedFact("reserved memory", refusal: "short of memory") {
            // Not stretched by the ratio: of (4096 - 2048) × 1.5 = 3072 are 2049 in use.
            ($0.ratios.memory, $0.reserved.memoryMiB, $0.used.memoryMiB) = (1.5, 2_048, 4_097)
        },
        ReportedFact("memory ratio", refusal: "short of memory") {
            $0.used.memoryMiB = 3_500
            $0.ratios.memory = 1.25
        } bad: {
            $0.used.memoryMiB = 3_500
        },
        ReportedFact("overhead of guests", refusal: "short of memory") { $0.guestOverheadMiB = 3_073 },
        ReportedFact("total processors", refusal: "short of vCPUs") { $0.total.vcpus = 0 },
        ReportedFact("used processors", refusal: "short of vCPUs") { $0.used.vcpus = 32 },
        ReportedFact("processor ratio", refusal: "short of vCPUs") { ($0.used.vcpus, $0.ratios.cpu) = (8, 1) },
        ReportedFact("total disk", refusal: "short of disk") { $0.total.diskGiB = 0 },
        ReportedFact("used disk", refusal: "short of disk") { $0.used.diskGiB = 100 },
        ReportedFact("disk ratio", refusal: "short of disk") { $0.ratios.disk = 0.001 },
        ReportedFact("disk that the file system has", refusal: "short of disk") { $0.diskAvailableLeastGiB = 0 },
        ReportedFact("instances", refusal: "with as many instances as they may have") {
            $0.runningInstances = 49
        } bad: {
            $0.runningInstances = 50
        },
        ReportedFact("disks at work", refusal: "busy with as many disks as they may be") {
            $0.ioWorkload = 7
        } bad: {
            $0.ioWorkload = 8
        },
        ReportedFact("architecture", refusal: "not of the architecture x86_64") { _ in
        } bad: {
            $0.architecture = "aarch64"
        } ask: {
            $0.imageProperties = ["hw_architecture": "x86_64"]
        },
        ReportedFact("hypervisor's type", refusal: "not of the hypervisor qemu") { _ in
        } bad: {
            $0.hypervisorType = "xen"
        } ask: {
            $0.imageProperties = ["img_hv_type": "qemu"]
        },
        ReportedFact("hypervisor's version", refusal: "not of a hypervisor version >=7.0") { _ in
        } bad: {
            $0.hypervisorVersion = 6_002_000
        } ask: {
            $0.imageProperties = ["img_hv_type": "qemu", "img_hv_requested_version": ">=7.0"]
        },
        ReportedFact("address", refusal: "outside the network 127.0.0.9/24") { _ in
        } bad: {
            $0.hostAddress = "127.0.1.1"
        } ask: {
            $0.schedulerHints = ["build_near_host_ip": ["127.0.0.9"], "cidr": ["/24"]]
        },
        ReportedFact("node", refusal: "not the one that was asked for") { _ in
        } bad: {
            $0.hypervisorHostname = "other"
        } ask: {
            $0.requestedNode = "kvm1"
        },
        ReportedFact("metrics", refusal: "without the metric cpu.percent") { _ in
        } bad: {
            $0.metrics = []
        },
        spec("trait:CUSTOM_FAST", "required", refusal: "without the trait CUSTOM_FAST") {
            $0.traits = ["CUSTOM_FAST"]
        } bad: {
            $0.traits = ["CUSTOM_SLOW"]
        },
        spec("capabilities:cpu_info:features", "<in> aes", refusal: "cpu_info:features") {
            $0.cpuFeatures = ["aes"]
        } bad: {
            $0.cpuFeatures = ["avx"]
        },
        spec("capabilities:cpu_info:model", "s== EPYC", refusal: "cpu_info:model") {
            $0.cpuModel = "EPYC"
        } bad: {
            $0.cpuModel = "core2duo"
        },
        spec("capabilities:cpu_info:vendor", "s== AMD", refusal: "cpu_info:vendor") {
            $0.cpuVendor = "AMD"
        } bad: {
            $0.cpuVendor = "Intel"
        },
        spec("capabilities:cpu_info:topology:threads", "== 2", refusal: "cpu_info:topology:threads") {
            $0.cpuTopology = CPUTopology(cells: 1, sockets: 1, cores: 4, threads: 2)
        } bad: {
            $0.cpuTopology = CPUTopology(cells: 2, sockets: 2, cores: 2, threads: 1)
        },
        spec("hw:cpu_policy", "dedicated", refusal: "short of dedicated CPUs") {
            $0.cells = [cell(taken: 1)]
        } bad: {
            $0.cells = [cell(taken: 2)]
        },
        spec("pci_passthrough:alias", "nic:1", refusal: "nic") {
            $0.pciPools = [pool(free: 1)]
        } bad: {
            $0.pciPools = [pool(free: 0)]
        },
        query("failed_builds", "3") {
            $0.failedBuilds = 3
        } bad: {
            $0.failedBuilds = 2
        },
        query("num_instances", "5") {
            $0.runningInstances = 5
        } bad: {
            $0.runningInstances = 4
        },
        query("io_workload", "2") {
            $0.ioWorkload = 2
        } bad: {
            $0.ioWorkload = 3
        },
        query("vcpus_used", "4") {
            $0.used.vcpus = 4
        } bad: {
            $0.used.vcpus = 5
        },
        query("free_ram_mb", "4000") {
            $0.used.memoryMiB = 96
        } bad: {
            $0.used.memoryMiB = 95
        },
        query("free_disk_mb", "51200") {
            $0.diskAvailableLeastGiB = 50
        } bad: {
            $0.diskAvailableLeastGiB = 51
        },
        query("cpu_allocation_ratio", "2.5") {
            $0.ratios.cpu = 2.5
        } bad: {
            $0.ratios.cpu = 2
        },
        query("ram_allocation_ratio", "1.5") {
            $0.ratios.memory = 1.5
        } bad: {
            $0.ratios.memory = 2
        },
        query("disk_allocation_ratio", "1.5") {
            $0.ratios.disk = 1.5
        } bad: {
            $0.ratios.disk = 2
        },
        query("hypervisor_hostname", "\"kvm1\"") { _ in
        } bad: {
            $0.hypervisorHostname = "other"
        },
    ]
}

@Suite("What hosts report decides")
struct ReportedFactsTests {
    private static var options: SchedulingOptions {
        var options = SchedulingOptions()
        options.enabledFilters += [
            "NumInstancesFilter", "IoOpsFilter", "JsonFilter", "SimpleCIDRAffinityFilter", "MetricsFilter",
        ]
        options.metricRatios = ["cpu.percent": 1]
        return options
    }

    /// A decision over the one host that there is, after it has reported.
    private func decide(
        _ change: (inout HostReport) -> Void, _ ask: (inout PlacementRequest) -> Void
    ) async throws -> PlacementDecision {
        let database = try await ControlDatabase.open(path: nil) { start }
        var told = report("kvm1")
        told.metrics = [HostMetric(name: "cpu.percent", value: 0.5, source: "s", measuredAt: start)]
        change(&told)
        // As it comes over the wire.
        let sent = try JSONDecoder().decode(
            ReportHost.Params.self, from: JSONEncoder().encode(ReportHost.Params(report: told)))
        try sent.report.check()
        try await database.hosts.record(sent.report, now: start)
        try await database.services.record([
            ServiceHeartbeat(host: HostName("kvm1"), binary: "nova-compute", version: 1, at: start)
        ])
        let table = HostTable(
            database: database, downAfter: .seconds(25), zone: "nova", scheduler: try FilterScheduler(Self.options),
            options: Self.options, now: { start })
        var asked = request()
        asked.flavor = Flavor(id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: 1_024, rootGiB: 1)
        ask(&asked)
        return try await table.select(asked)
    }

    @Test("Each figure that a filter reads is the report's", arguments: ReportedFact.all)
    func facts(fact: ReportedFact) async throws {
        #expect(try await decide(fact.good, fact.ask) == .placed([[HostName("kvm1")]]))
        guard case .refused(let refusal) = try await decide(fact.bad, fact.ask) else {
            Issue.record("it was placed")
            return
        }
        #expect(refusal.details.contains(fact.refusal), "\(refusal.details)")
        #expect(refusal.reasons.count == 1, "\(refusal.details)")
    }

    @Test("Among hosts that fit, one whose builds failed comes last, until it reports that they do not any more")
    func failedBuilds() async throws {
        let database = try await ControlDatabase.open(path: nil) { start }
        let table = HostTable(
            database: database, downAfter: .seconds(25), zone: "nova",
            scheduler: try FilterScheduler(SchedulingOptions()), options: SchedulingOptions(), now: { start })
        func tell(_ name: String, memoryMiB: Int, failed: Int?, _ sequence: Int64) async throws {
            var told = report(name, memoryMiB: memoryMiB, sequence: sequence)
            told.failedBuilds = failed
            try await database.hosts.record(told, now: start)
            try await database.services.record([
                ServiceHeartbeat(host: HostName(name), binary: "nova-compute", version: 1, at: start)
            ])
        }
        try await tell("larger", memoryMiB: 16_384, failed: 1, 1)
        try await tell("smaller", memoryMiB: 4_096, failed: nil, 1)
        #expect(try await table.select(request()) == .placed([[HostName("smaller"), HostName("larger")]]))
        try await tell("larger", memoryMiB: 16_384, failed: 0, 2)
        #expect(try await table.select(request()) == .placed([[HostName("larger"), HostName("smaller")]]))
    }
}

@Suite("service_down_time of the scheduler")
struct SchedulerDownTimeTests {
    @Test(
        "A host is down when its heartbeat is older than the file says, or 25 seconds",
        arguments: [("service_down_time = 3", 3), ("service_down_time = 600", 600), ("", 25)])
    func limit(file: String, seconds: Int) async throws {
        let path = NSTemporaryDirectory() + "scheduler-down-time-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: path) }
        try "[scheduler]\nlisten = 127.0.0.1:0\n[DEFAULT]\n\(file)\n".write(
            toFile: path, atomically: true, encoding: .utf8)
        let configuration = try Configuration.load(
            files: [path], overrides: [],
            options: CommonOptions.all + DatabaseOptions.all + RPCOptions.all + SchedulerOptions.all)
        let moment = Mutex(start)
        let now: @Sendable () -> Timestamp = { moment.withLock { $0 } }
        let database = try await ControlDatabase.open(path: nil, now: now)
        let service = try await SchedulerService(
            configuration: configuration, database: database, hostName: HostName("control"), now: now)
        try await database.hosts.record(report("kvm1"), now: start)
        try await database.services.record([
            ServiceHeartbeat(host: HostName("kvm1"), binary: "nova-compute", version: 1, at: start)
        ])
        moment.withLock { $0 = start + .seconds(seconds) }
        #expect(try await service.table.select(request(memoryMiB: 1)) == .placed([[HostName("kvm1")]]))
        moment.withLock { $0 = start + .seconds(seconds) + .microseconds(1) }
        guard case .refused(let refusal) = try await service.table.select(request(memoryMiB: 1)) else {
            Issue.record("it was placed on a host that is down")
            return
        }
        #expect(refusal.reasons.map(\.reason) == ["down"])
        let life = Task { try await service.run() }
        life.cancel()
        _ = await life.result
    }
}
