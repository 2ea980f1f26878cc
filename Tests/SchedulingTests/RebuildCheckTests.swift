import Model
import Testing

@testable import Scheduling

@Suite("Another image on the same host")
struct RebuildCheckTests {
    /// Asks every filter there is of a host that is disabled, down and full.
    private func refusal(
        _ change: (inout PlacementRequest) -> Void, _ shape: (inout HostState) -> Void = { _ in }
    ) throws -> PlacementRefusal? {
        var options = SchedulingOptions()
        options.enabledFilters = FilterCatalog.names
        options.isolatedImages = ["isolated"]
        options.metricRatios = ["cpu.percent": 1]
        var host = HostState(
            name: HostName("a"), total: Resources(vcpus: 1, memoryMiB: 512, diskGiB: 1),
            used: Resources(vcpus: 9, memoryMiB: 9_999, diskGiB: 9), isDisabled: true, isUp: false)
        (host.architecture, host.hypervisorType, host.traits) = ("x86_64", "QEMU", ["HW_CPU_X86_AVX"])
        (host.instanceCount, host.ioOperations) = (99, 99)
        host.aggregates = [AggregateFacts(name: "a", metadata: ["os_distro": "debian", "filter_tenant_id": "other"])]
        shape(&host)
        var scheduler = try FilterScheduler(options)
        scheduler.update(host)
        scheduler.setAggregates(of: host.name, host.aggregates, zone: "nova")
        var request = PlacementRequest(
            instances: [InstanceID("i")], resources: Resources(vcpus: 4, memoryMiB: 4_096, diskGiB: 40),
            projectID: ProjectID("p"), availabilityZone: "elsewhere", alternates: 0)
        (request.imageProperties, request.triedHosts, request.forcedHost) = ([:], [host.name], HostName("b"))
        change(&request)
        let before = scheduler.hosts
        let refusal = scheduler.refusal(toRebuild: request, on: HostName("a"))
        #expect(scheduler.hosts == before)
        return refusal
    }

    @Test("Only what reads the image is asked, and that also of a host that was forced")
    func filters() throws {
        #expect(try refusal { _ in } == nil)
        #expect(try refusal { $0.imageProperties = ["hw_architecture": "amd64", "os_distro": "debian"] } == nil)
        let cases: [([String: String], String)] = [
            (["img_hv_type": "xen"], "ImagePropertiesFilter"),
            (["os_distro": "windows"], "AggregateImagePropertiesIsolation"),
            (["trait:HW_CPU_X86_AVX512F": "required"], "TraitsFilter"),
        ]
        for (properties, filter) in cases {
            let found = try refusal { $0.imageProperties = properties }
            #expect(found?.reasons.map(\.filter) == [filter] && found?.hostsConsidered == 1)
        }
        #expect(try refusal { $0.imageID = ImageID("isolated") }?.reasons.first?.filter == "IsolatedHostsFilter")
        #expect(try refusal({ _ in }, { $0.name = HostName("b") })?.reasons.map(\.filter) == ["RequestedDestination"])
        let asked = try FilterCatalog.filters(SchedulingOptions()).filter(\.runsOnRebuild).map(\.name)
        #expect(Set(asked) == ["ImagePropertiesFilter", "TraitsFilter"])
    }
}
