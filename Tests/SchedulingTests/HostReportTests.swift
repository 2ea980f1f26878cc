import Model
import Testing

@testable import Scheduling

@Suite("What the scheduler takes from a host's report")
struct HostReportTests {
    private static let cell = HostCellReport(
        id: 3, memoryMiB: 4_096, memoryUsedMiB: 512, sharedCPUs: CPUSet([0, 1]), sharedVCPUs: 5,
        dedicatedCPUs: CPUSet([2, 3]), takenCPUs: CPUSet([2]), cores: [CPUSet([0, 1]), CPUSet([2, 3])],
        pages: [.init(sizeKiB: 2_048, total: 100, reserved: 10, used: 20)], socket: 1)
    private static let pool = PCIPool(
        vendorID: "8086", productID: "10ed", kind: .plain, numaNode: 3, total: 4, free: 2,
        aliases: ["nic": "required"])

    /// No two members are alike, so that none is taken for another.
    private static func report() -> HostReport {
        var report = HostReport(
            host: HostName("kvm1"), uuid: "u-1", hypervisorHostname: "kvm1.example", hypervisorType: "KVM",
            hypervisorVersion: 9_001_002, hostAddress: "192.0.2.7",
            total: Resources(vcpus: 64, memoryMiB: 131_072, diskGiB: 2_000),
            reserved: Resources(vcpus: 2, memoryMiB: 1_024, diskGiB: 30),
            used: Resources(vcpus: 11, memoryMiB: 12_345, diskGiB: 456),
            ratios: AllocationRatios(cpu: 3.5, memory: 1.25, disk: 1.75), diskAvailableLeastGiB: 777,
            runningInstances: 13, workload: 17, cpuModel: "EPYC", cpuVendor: "AMD", architecture: "aarch64",
            cpuTopology: CPUTopology(cells: 2, sockets: 4, cores: 6, threads: 8), cpuFeatures: ["aes", "sve"],
            uptimeSeconds: 99, sequence: 21, measuredAt: Timestamp(seconds: 1_800_000_000))
        (report.traits, report.ioWorkload, report.failedBuilds) = (["CUSTOM_FAST", "HW_CPU_X86_AVX"], 5, 19)
        report.metrics = ["cpu.percent": 0.25, "numa.membw.current": 7].map {
            HostMetric(name: $0.key, value: $0.value, source: "s", measuredAt: report.measuredAt)
        }
        (report.cells, report.pciPools, report.guestOverheadMiB) = ([cell], [pool], 150)
        return report
    }

    @Test("Every figure and every list is the report's")
    func whole() {
        let host = HostState(report: Self.report(), availabilityZone: "east", isDisabled: true, isUp: false)
        #expect(host.name == HostName("kvm1") && host.node == "kvm1.example" && host.availabilityZone == "east")
        #expect(host.isDisabled && !host.isUp)
        #expect(host.total == Resources(vcpus: 64, memoryMiB: 131_072, diskGiB: 2_000))
        #expect(host.reserved == Resources(vcpus: 2, memoryMiB: 1_024, diskGiB: 30))
        #expect(host.used == Resources(vcpus: 11, memoryMiB: 12_345, diskGiB: 456))
        #expect(host.ratios == AllocationRatios(cpu: 3.5, memory: 1.25, disk: 1.75))
        #expect(host.diskAvailableLeastGiB == 777 && host.guestOverheadMiB == 150)
        #expect(host.instanceCount == 13 && host.ioOperations == 5 && host.failedBuilds == 19)
        #expect(host.hypervisorType == "KVM" && host.hypervisorVersion == 9_001_002 && host.address == "192.0.2.7")
        #expect(host.architecture == "aarch64" && host.cpuModel == "EPYC" && host.cpuVendor == "AMD")
        #expect(host.cpuFeatures == ["aes", "sve"])
        #expect(host.cpuTopology == CPUTopology(cells: 2, sockets: 4, cores: 6, threads: 8))
        #expect(host.traits == ["CUSTOM_FAST", "HW_CPU_X86_AVX"])
        #expect(host.metrics == ["cpu.percent": 0.25, "numa.membw.current": 7])
        #expect(host.cells == [Self.cell] && host.pciPools == [Self.pool])
        #expect(host.measuredAt == Timestamp(seconds: 1_800_000_000))
        // What other services say of a host no report has.
        #expect(host.aggregates.isEmpty && host.trustLevel == nil)
    }

    @Test("Members that an older agent does not tell count as nothing")
    func older() {
        var report = Self.report()
        (report.traits, report.ioWorkload, report.failedBuilds, report.metrics) = (nil, nil, nil, nil)
        (report.cells, report.pciPools, report.guestOverheadMiB) = (nil, nil, nil)
        (report.diskAvailableLeastGiB, report.cpuModel, report.cpuVendor) = (nil, nil, nil)
        let host = HostState(report: report, isDisabled: false, isUp: true)
        #expect(host.traits.isEmpty && host.ioOperations == 0 && host.failedBuilds == 0 && host.metrics.isEmpty)
        #expect(host.cells == nil && host.pciPools == nil && host.guestOverheadMiB == 0)
        #expect(host.diskAvailableLeastGiB == nil && host.cpuModel == nil && host.cpuVendor == nil)
        #expect(host.availabilityZone == "nova" && host.isUp && !host.isDisabled)
    }

    @Test("There is no member of a host's state that these tests do not know")
    func complete() {
        let known: Set<String> = [
            "name", "node", "availabilityZone", "total", "reserved", "used", "ratios", "diskAvailableLeastGiB",
            "guestOverheadMiB", "isDisabled", "isUp", "measuredAt", "instanceCount", "ioOperations", "failedBuilds",
            "hypervisorType", "hypervisorVersion", "address", "architecture", "cpuModel", "cpuVendor", "cpuFeatures",
            "cpuTopology", "traits", "metrics", "cells", "pciPools", "aggregates", "trustLevel",
        ]
        let host = HostState(report: Self.report(), isDisabled: false, isUp: true)
        #expect(Set(Mirror(reflecting: host).children.compactMap(\.label)) == known)
    }
}
