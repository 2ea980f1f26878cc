import Foundation
import Model
import Testing

@Suite("What changes of a host's report")
struct HostUsageTests {
    private var base: HostReport {
        HostReport(
            host: HostName("a"), uuid: "u", hypervisorHostname: "a", hypervisorType: "QEMU",
            hypervisorVersion: 7_002_000, hostAddress: "10.0.0.1",
            total: Resources(vcpus: 8, memoryMiB: 16_384, diskGiB: 100), reserved: .zero,
            used: Resources(vcpus: 1, memoryMiB: 512, diskGiB: 1), ratios: AllocationRatios(),
            diskAvailableLeastGiB: 90, runningInstances: 1, workload: 0, cpuModel: nil, cpuVendor: nil,
            architecture: "x86_64", cpuTopology: CPUTopology(), cpuFeatures: ["vmx"], uptimeSeconds: 1_000,
            sequence: 5, measuredAt: Timestamp(microseconds: 10_000_000))
    }

    private static let pool = MediatedDevicePool(
        parentAddress: "0000:84:00.0", type: "nvidia-35", numaNode: 0, total: 16, used: 1)

    private static func pool(_ change: (inout MediatedDevicePool) -> Void) -> [MediatedDevicePool] {
        var changed = pool
        change(&changed)
        return [changed]
    }

    private func later(_ change: (inout HostReport) -> Void) -> HostReport {
        var report = base
        report.renew(sequence: 6, measuredAt: Timestamp(microseconds: 70_000_000))
        change(&report)
        return report
    }

    @Test("A minute later nothing has changed but the moment")
    func idle() {
        #expect(later { _ in }.usage(since: base) == HostUsage())
        // The uptime is counted by another clock.
        #expect(later { $0.uptimeSeconds = 1_062 }.usage(since: base)?.isEmpty == true)
    }

    @Test("Of a launch only the figures that moved are told, and bring the base to the new report")
    func launch() throws {
        let report = later { report in
            report.used.vcpus = 2
            report.runningInstances = 2
            report.strays = HostStrays(orphans: .init([InstanceID("x")]))
            report.mediatedDevicePools = [Self.pool]
            report.metrics = [HostMetric(name: "cpu.percent", value: 0.5, source: "s", measuredAt: report.measuredAt)]
        }
        let usage = try #require(report.usage(since: base))
        #expect(usage.used == report.used && usage.runningInstances == 2 && usage.workload == nil)
        var brought = base
        brought.apply(usage)
        brought.renew(sequence: report.sequence, measuredAt: report.measuredAt)
        #expect(brought == report)
        let back = try #require(base.usage(since: report))
        brought.apply(back)
        #expect(
            brought.strays == nil && brought.metrics == nil && brought.mediatedDevicePools == nil
                && brought.used == base.used)
    }

    @Test(
        "What is not usage wants the whole report",
        arguments: [
            { $0.total.memoryMiB = 8_192 }, { $0.ratios.cpu = 2 }, { $0.cpuModel = "other" },
            { $0.traits = ["COMPUTE_NODE"] }, { $0.uptimeSeconds = 3 }, { $0.uptimeSeconds = nil },
            { $0.diskAvailableLeastGiB = nil }, { $0.hostAddress = "10.0.0.2" },
        ] as [@Sendable (inout HostReport) -> Void])
    func whole(change: @Sendable (inout HostReport) -> Void) {
        #expect(later(change).usage(since: base) == nil)
    }

    @Test(
        "What no host can have is refused",
        arguments: [
            { $0.total.vcpus = .max }, { $0.used.memoryMiB = .min }, { $0.runningInstances = -1 },
            { $0.ratios.cpu = -.infinity }, { $0.ratios.disk = .nan }, { $0.uptimeSeconds = -1 },
            { $0.measuredAt = Timestamp(microseconds: .max) }, { $0.sequence = .max },
            { $0.cpuFeatures = [String](repeating: "x", count: 5_000) },
            { $0.cpuModel = String(repeating: "x", count: 2_000) },
            { $0.mediatedDevicePools = HostUsageTests.pool { $0.total = -1 } },
            { $0.mediatedDevicePools = HostUsageTests.pool { $0.used = .max } },
            { $0.mediatedDevicePools = HostUsageTests.pool { $0.numaNode = -1 } },
            { $0.mediatedDevicePools = HostUsageTests.pool { $0.type = String(repeating: "x", count: 65) } },
            { $0.mediatedDevicePools = HostUsageTests.pool { $0.parentAddress = String(repeating: "0", count: 33) } },
            { $0.mediatedDevicePools = [MediatedDevicePool](repeating: HostUsageTests.pool, count: 2_000) },
            { $0.pciPools = HostUsageTests.devices { $0.total = 1 << 20 } },
            { $0.pciPools = HostUsageTests.devices { $0.free = -1 } },
            { $0.pciPools = HostUsageTests.devices { $0.kind = .physicalFunction } },
            { $0.pciPools = HostUsageTests.devices { $0.free = $0.total + 1 } },
            { $0.pciPools = HostUsageTests.devices { $0.numaNode = .max } },
            { $0.pciPools = HostUsageTests.devices { $0.physicalFunction = String(repeating: "0", count: 33) } },
            { $0.pciPools = HostUsageTests.devices { $0.aliases = [String(repeating: "x", count: 300): "legacy"] } },
            { $0.metrics = [HostMetric(name: "m", value: .infinity, source: "s", measuredAt: $0.measuredAt)] },
        ] as [@Sendable (inout HostReport) -> Void])
    func absurd(change: @Sendable (inout HostReport) -> Void) throws {
        try base.check()
        try later { $0.pciPools = HostUsageTests.devices { _ in } }.check()
        #expect(throws: Failure.self) { try later(change).check() }
    }

    private static func devices(_ change: (inout PCIPool) -> Void) -> [PCIPool] {
        var pool = PCIPool(
            vendorID: "8086", productID: "10ed", kind: .virtualFunction, numaNode: 0, total: 4, free: 4,
            aliases: ["nic": "legacy"], physicalFunction: "0000:81:00.0")
        change(&pool)
        return [pool]
    }

    @Test("Cells and pools of an agent that tells neither sockets nor physical functions are read")
    func older() throws {
        let cell = """
            {"id": 0, "memoryMiB": 1, "memoryUsedMiB": 0, "sharedCPUs": "0-1", "sharedVCPUs": 0, "dedicatedCPUs": "",
             "takenCPUs": "", "cores": [], "pages": []}
            """
        let pool = #"{"vendorID": "8086", "productID": "1", "kind": "type-VF", "total": 2, "free": 1}"#
        #expect(try JSONDecoder().decode(HostCellReport.self, from: Data(cell.utf8)).socket == nil)
        let read = try JSONDecoder().decode(PCIPool.self, from: Data(pool.utf8))
        #expect(read.physicalFunction == nil && read.free == 1)
    }
}
