import Model
import Scheduling
import Testing

private func host(_ name: String, vcpus: Int = 8, memory: Int = 8_192, disk: Int = 100) -> HostState {
    HostState(name: HostName(name), total: Resources(vcpus: vcpus, memoryMiB: memory, diskGiB: disk))
}

private func request(
    _ count: Int = 1, vcpus: Int = 1, memory: Int = 1_024, disk: Int = 1, alternates: Int = 2,
    zone: String? = nil, ignoring: Set<HostName> = []
) -> PlacementRequest {
    PlacementRequest(
        instances: (0..<count).map { InstanceID("i-\($0)") },
        resources: Resources(vcpus: vcpus, memoryMiB: memory, diskGiB: disk), projectID: ProjectID("p"),
        availabilityZone: zone, ignoredHosts: ignoring, alternates: alternates)
}

private func scheduler(_ hosts: [HostState], subset: Int = 1) -> FilterScheduler {
    var made = FilterScheduler(
        filters: [ComputeFilter(), AvailabilityZoneFilter(), CoreFilter(), RamFilter(), DiskFilter()],
        weighers: [FigureWeigher.memory()], subsetSize: subset)
    hosts.forEach { made.update($0) }
    return made
}

private let noon = Timestamp(seconds: 43_200)

@Suite struct FilterSchedulerTests {
    @Test("The host with most free memory comes first, the others follow as alternates")
    func order() {
        var subject = scheduler([host("a", memory: 2_048), host("b", memory: 8_192), host("c", memory: 4_096)])
        var generator = SeededGenerator(seed: 1)
        #expect(
            subject.select(request(), now: noon, using: &generator) == .placed([["b", "c", "a"].map(HostName.init)]))
    }

    @Test("What a guest takes beside its flavor is asked for and consumed where the host counts it")
    func overhead() {
        var counting = host("a", memory: 2_048)
        counting.guestOverheadMiB = 64
        var subject = scheduler([counting])
        var generator = SeededGenerator(seed: 1)
        #expect(subject.select(request(memory: 960), now: noon, using: &generator) == .placed([[HostName("a")]]))
        #expect(subject.hosts[0].used.memoryMiB == 1_024)
        guard case .refused(let refusal) = subject.select(request(memory: 961), now: noon, using: &generator) else {
            Issue.record("placed what cannot fit")
            return
        }
        #expect(refusal.reasons.map(\.nearestMiss) == ["1 MiB"])
    }

    @Test(
        "Each filter refuses with its reason and the smallest shortage",
        arguments: [
            (request(vcpus: 9), "short of vCPUs", "1 vCPU"),
            (request(memory: 10_240), "short of memory", "2048 MiB"),
            (request(disk: 103), "short of disk", "3 GiB"),
        ])
    func shortage(asked: PlacementRequest, reason: String, nearest: String) {
        var subject = scheduler([host("a"), host("b", vcpus: 4, memory: 1_024, disk: 50)])
        var generator = SeededGenerator(seed: 1)
        guard case .refused(let refusal) = subject.select(asked, now: noon, using: &generator) else {
            Issue.record("placed what cannot fit")
            return
        }
        #expect(refusal.hostsConsidered == 2)
        #expect(refusal.reasons.map(\.reason) == [reason])
        #expect(refusal.reasons.map(\.hosts) == [2])
        #expect(refusal.reasons.map(\.nearestMiss) == [nearest])
    }

    @Test("Down, disabled, ignored and foreign hosts are each named in the refusal")
    func reasons() {
        var down = host("down")
        down.isUp = false
        var disabled = host("disabled")
        disabled.isDisabled = true
        var elsewhere = host("elsewhere")
        elsewhere.availabilityZone = "east"
        var subject = scheduler([down, disabled, elsewhere, host("skipped")])
        var generator = SeededGenerator(seed: 1)
        let decision = subject.select(
            request(zone: "nova", ignoring: [HostName("skipped")]), now: noon, using: &generator)
        guard case .refused(let refusal) = decision else {
            Issue.record("placed on a host that must not be used")
            return
        }
        #expect(
            Set(refusal.reasons.map(\.reason)) == [
                "down", "disabled", "outside the availability zone nova", "excluded by the request",
            ])
        #expect(refusal.message.hasPrefix("No valid host was found. Of 4 hosts: "))
    }

    @Test("No host at all is said as such")
    func empty() {
        var subject = scheduler([])
        var generator = SeededGenerator(seed: 1)
        #expect(
            subject.select(request(), now: noon, using: &generator)
                == .refused(PlacementRefusal(hostsConsidered: 0, reasons: [])))
        #expect(PlacementRefusal(hostsConsidered: 0, reasons: []).message.contains("No compute host has reported yet"))
    }

    @Test("A burst spreads: each pick consumes what the next one sees")
    func consumption() {
        var subject = scheduler([host("a", memory: 4_096), host("b", memory: 4_096)])
        var generator = SeededGenerator(seed: 1)
        guard case .placed(let lists) = subject.select(request(8), now: noon, using: &generator) else {
            Issue.record("eight times 1 GiB fit two hosts of 4 GiB")
            return
        }
        #expect(lists.count { $0.first == HostName("a") } == 4)
        #expect(lists.count { $0.first == HostName("b") } == 4)
        #expect(subject.hosts.allSatisfy { $0.free.memoryMiB == 0 })
    }

    @Test("All or nothing: a burst that does not fit takes nothing")
    func allOrNothing() {
        var subject = scheduler([host("a", memory: 4_096)])
        var generator = SeededGenerator(seed: 1)
        guard case .refused = subject.select(request(5), now: noon, using: &generator) else {
            Issue.record("placed five GiB on four")
            return
        }
        #expect(subject.hosts.first?.free.memoryMiB == 4_096)
    }

    @Test("A report measured before the pick does not undo it; one measured after it does")
    func staleReport() {
        var subject = scheduler([host("a")])
        var generator = SeededGenerator(seed: 1)
        _ = subject.select(request(memory: 4_096), now: noon, using: &generator)
        var late = host("a")
        late.measuredAt = noon - .seconds(1)
        late.isDisabled = true
        subject.update(late)
        #expect(subject.hosts.first?.free.memoryMiB == 4_096)
        #expect(subject.hosts.first?.isDisabled == true)
        late.measuredAt = noon + .seconds(1)
        subject.update(late)
        #expect(subject.hosts.first?.free.memoryMiB == 8_192)
    }

    @Test("Overcommit stretches what is not reserved; the file system's real free space bounds disk")
    func ratios() {
        var wide = host("a", vcpus: 4)
        wide.reserved = Resources(vcpus: 1, memoryMiB: 512, diskGiB: 10)
        wide.used = Resources(vcpus: 3, memoryMiB: 1_536, diskGiB: 20)
        #expect(wide.free == Resources(vcpus: 3 * 4 - 2, memoryMiB: 7_680 - 1_024, diskGiB: 90 - 10))
        wide.diskAvailableLeastGiB = 5
        #expect(DiskFilter().reject(wide, for: request(disk: 6))?.shortage == 1)
        #expect(CoreFilter().reject(wide, for: request(vcpus: 5))?.shortage == 1)
    }

    @Test("Sparse disks that may outgrow the file system are what a disk ratio is for")
    func sparseDisks() {
        var roomy = host("a")
        roomy.total.diskGiB = 100
        roomy.ratios.disk = 1_000
        roomy.used.diskGiB = 142
        roomy.diskAvailableLeastGiB = -67
        #expect(DiskFilter().reject(roomy, for: request(disk: 1)) == nil)
        roomy.ratios.disk = 1.5
        #expect(DiskFilter().reject(roomy, for: request(disk: 1))?.shortage == 18)
    }

    @Test("A subset draws among the best only, by the generator given")
    func subset() {
        var seen: Set<HostName> = []
        for seed in 0..<64 {
            var subject = scheduler(
                [host("a", memory: 9_000), host("b", memory: 8_000), host("c", memory: 7_000)], subset: 2)
            var generator = SeededGenerator(seed: UInt64(seed))
            if case .placed(let lists) = subject.select(request(), now: noon, using: &generator),
                let first = lists.first?.first
            {
                seen.insert(first)
            }
        }
        #expect(seen == [HostName("a"), HostName("b")])
    }

    @Test("Removing a host keeps the others findable")
    func removal() {
        var subject = scheduler([host("a"), host("b"), host("c")])
        subject.remove(HostName("a"))
        subject.setStatus(of: HostName("c"), isUp: false, isDisabled: false)
        subject.remove(HostName("missing"))
        #expect(Set(subject.hosts.map(\.name)) == [HostName("b"), HostName("c")])
        #expect(subject.hosts.first { $0.name == HostName("c") }?.isUp == false)
    }
}
