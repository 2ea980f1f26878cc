import Model
import Testing

@testable import Scheduling

/// The same decisions in the plainest way: each filter a loop over the hosts, each weigher another.
private struct ReferenceScheduler {
    var hosts: [HostState]
    let filters: [any HostFilter]
    let weighers: [any HostWeigher]
    let subsetSize: Int

    mutating func select(
        _ asked: PlacementRequest, now: Timestamp, using generator: inout some RandomNumberGenerator
    ) -> PlacementDecision {
        let before = hosts
        var request = asked
        var selections: [[HostName]] = []
        var kept: [Int]?
        for round in asked.instances.indices {
            var passing: [Int] = []
            var tally: [String: Int] = [:]
            for position in kept ?? Array(hosts.indices) {
                let refusal = filters.first { filter in
                    (round == 0 || !filter.runsOncePerRequest) && filter.reject(hosts[position], for: request) != nil
                }
                if let refusal { tally[refusal.name, default: 0] += 1 } else { passing.append(position) }
            }
            guard !passing.isEmpty else {
                hosts = before
                let reasons = tally.sorted { $0.key < $1.key }.map {
                    PlacementRefusal.Reason(filter: $0.key, reason: "", hosts: $0.value, nearestMiss: nil)
                }
                return .refused(PlacementRefusal(hostsConsidered: hosts.count, reasons: reasons))
            }
            kept = passing
            var ordered = order(passing, request)
            let drawn = Int.random(in: 0..<min(subsetSize, ordered.count), using: &generator)
            let chosen = ordered.remove(at: drawn)
            let state = hosts[chosen]
            for filter in filters { filter.consume(&hosts[chosen], chosenAs: state, for: request) }
            hosts[chosen].consume(request.resources)
            hosts[chosen].measuredAt = max(hosts[chosen].measuredAt, now)
            request.group?.members[hosts[chosen].name, default: 0] += 1
            selections.append([hosts[chosen].name] + ordered.prefix(request.alternates).map { hosts[$0].name })
        }
        return .placed(selections)
    }

    private func order(_ passing: [Int], _ request: PlacementRequest) -> [Int] {
        var sums = [Double](repeating: 0, count: passing.count)
        for weigher in weighers {
            let raw = passing.map { weigher.weigh(hosts[$0], for: request) }
            let low = weigher.minimum ?? raw.min() ?? 0
            let most = max(raw.max() ?? 0, low)
            guard passing.count > 1, most > low else { continue }
            for place in raw.indices {
                let multiplier = weigher.multiplier(of: hosts[passing[place]])
                sums[place] += (max(raw[place], low) - low) * (1 / (most - low)) * multiplier
            }
        }
        return passing.indices.sorted { left, right in
            sums[left] != sums[right]
                ? sums[left] > sums[right] : hosts[passing[left]].name < hosts[passing[right]].name
        }.map { passing[$0] }
    }
}

private struct Dice: RandomNumberGenerator {
    private var generator: SeededGenerator
    init(seed: UInt64) { generator = SeededGenerator(seed: seed) }
    mutating func next() -> UInt64 { generator.next() }
    mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
    mutating func chance(_ percent: Int) -> Bool { number(1...100) <= percent }
    mutating func pick<T>(_ list: [T]) -> T { list[number(0...list.count - 1)] }
}

@Suite("The quick engine decides as the plain rules do")
struct ReferenceTests {
    private static let facts = [
        AggregateFacts(name: "fast", metadata: ["ssd": "true", "ram_weight_multiplier": "-1"]),
        AggregateFacts(name: "odd", metadata: ["ram_weight_multiplier": "x", "filter_tenant_id": "p"]),
        AggregateFacts(name: "small", metadata: ["cpu_allocation_ratio": "2", "instance_type": "small, large"]),
    ]

    private static func host(_ number: Int, _ dice: inout Dice) -> HostState {
        let total = Resources(
            vcpus: dice.pick([4, 8, 64]), memoryMiB: dice.pick([4_096, 8_192, 65_536]), diskGiB: dice.pick([50, 500]))
        var host = HostState(
            name: HostName("h\(number)"), availabilityZone: dice.pick(["nova", "east"]), total: total,
            used: Resources(
                vcpus: dice.number(0...total.vcpus), memoryMiB: dice.number(0...total.memoryMiB + 100),
                diskGiB: dice.number(0...total.diskGiB)),
            ratios: AllocationRatios(cpu: dice.pick([1, 4, 16]), memory: dice.pick([1, 1.5]), disk: 1),
            diskAvailableLeastGiB: dice.pick([nil, 10, -5, 400]), isDisabled: dice.chance(10), isUp: dice.chance(90))
        host.guestOverheadMiB = dice.pick([0, 64])
        (host.instanceCount, host.ioOperations) = (dice.number(0...60), dice.number(0...9))
        (host.failedBuilds, host.hypervisorVersion) = (dice.pick([0, 0, 0, 2]), dice.pick([7_002_000, 8_000_000]))
        (host.architecture, host.hypervisorType) = (dice.pick(["x86_64", "aarch64"]), "KVM")
        host.cpuFeatures = dice.pick([["aes"], ["aes", "avx"]])
        host.traits = dice.pick([[], ["HW_CPU_X86_AVX"]])
        host.metrics = dice.chance(70) ? ["cpu.percent": Double(dice.number(0...100)) / 100] : [:]
        host.aggregates = facts.filter { _ in dice.chance(30) }
        if dice.chance(60) {
            host.cells = (0..<dice.number(1...2)).map { cell in
                let first = cell * 8
                return HostCellReport(
                    id: cell, memoryMiB: 4_096, memoryUsedMiB: dice.pick([0, 2_048]),
                    sharedCPUs: CPUSet(Set(first..<first + 4)), sharedVCPUs: dice.number(0...4),
                    dedicatedCPUs: CPUSet(Set(first + 4..<first + 8)),
                    takenCPUs: CPUSet(dice.chance(30) ? [first + 4] : []),
                    cores: stride(from: first, to: first + 8, by: 2).map { CPUSet([$0, $0 + 1]) },
                    pages: [
                        .init(sizeKiB: 4, total: 786_432, reserved: 0, used: 0),
                        .init(sizeKiB: 2_048, total: 512, reserved: 0, used: dice.pick([0, 500])),
                    ])
            }
        }
        if dice.chance(50) {
            for cell in host.cells?.indices ?? 0..<0 { host.cells?[cell].socket = dice.number(0...1) }
        }
        if dice.chance(30) {
            host.pciPools = (0..<dice.number(1...2)).flatMap { node in
                [(PCIDevice.Kind.physicalFunction, "pf", 1), (.virtualFunction, "nic", 3)].map { kind, alias, total in
                    PCIPool(
                        vendorID: "8086", productID: alias, kind: kind, numaNode: node, total: total,
                        free: dice.pick([total, total, 0]), aliases: [alias: dice.pick(["legacy", "socket"])],
                        physicalFunction: "0000:0\(node):00.0")
                }
            }
        } else if dice.chance(40) {
            host.pciPools = (0..<dice.number(1...2)).map { node in
                PCIPool(
                    vendorID: "8086", productID: "10ed", kind: .plain, numaNode: node, total: 4,
                    free: dice.number(0...4), aliases: ["nic": dice.pick(["legacy", "required", "preferred"])])
            }
        }
        return host
    }

    private static func request(_ dice: inout Dice) -> PlacementRequest {
        var request = PlacementRequest(
            instances: (0..<dice.pick([1, 1, 1, 3])).map { InstanceID("i\($0)") },
            resources: Resources(
                vcpus: dice.pick([0, 1, 4, 30]), memoryMiB: dice.pick([64, 1_024, 8_000, 60_000]),
                diskGiB: dice.pick([0, 1, 40])), projectID: ProjectID(dice.pick(["p", "q"])),
            availabilityZone: dice.pick([nil, nil, "nova", "east", "mars"]), alternates: dice.number(0...4))
        let specs: [[String: String]] = [
            [:], ["trait:HW_CPU_X86_AVX": "required"], ["capabilities:cpu_info:features": "<in> avx"],
            ["aggregate_instance_extra_specs:ssd": "true"], ["hw:cpu_policy": "dedicated"], ["hw:numa_nodes": "2"],
            ["hw:mem_page_size": "large"], ["pci_passthrough:alias": "nic:2"], ["pci_passthrough:alias": "nic:1,pf:1"],
            ["pci_passthrough:alias": "nic:1", "hw:numa_nodes": "1", "hw:pci_numa_affinity_policy": "socket"],
            ["pci_passthrough:alias": "nic:1", "hw:numa_nodes": "1", "hw:pci_numa_affinity_policy": "required"],
        ]
        request.flavor = Flavor(
            id: FlavorID("1"), name: dice.pick(["small", "huge"]), vcpus: 2, memoryMiB: 512, rootGiB: 1,
            extraSpecs: dice.pick(specs))
        request.imageProperties = dice.pick([[:], ["hw_architecture": "x86_64"], ["img_hv_type": "qemu"]])
        if dice.chance(30) {
            request.group = .init(
                id: ServerGroupID("g"), policy: dice.pick(ServerGroup.Policy.allCases),
                members: [HostName("h\(dice.number(0...9))"): 1])
        }
        if dice.chance(10) { request.schedulerHints = ["query": [#"["<", "$num_instances", 30]"#]] }
        return request
    }

    @Test("On random fleets with random requests, one after the other", arguments: 1...80)
    func same(seed: UInt64) throws {
        var dice = Dice(seed: seed)
        var options = SchedulingOptions()
        options.enabledFilters = FilterCatalog.names.filter { name in
            FilterCatalog.defaults.contains(name) || (!name.hasPrefix("Exact") && dice.chance(20))
        }
        options.metricRatios = dice.chance(50) ? ["cpu.percent": -1] : [:]
        options.numInstancesWeight = dice.pick([0, 1])
        options.hostSubsetSize = dice.pick([1, 1, 3])
        var quick = try FilterScheduler(options)
        var fleet: [HostState] = []
        for number in 0..<dice.pick([1, 5, 40, 120]) {
            let host = Self.host(number, &dice)
            fleet.append(host)
            quick.update(host)
            quick.setAggregates(of: host.name, host.aggregates, zone: host.availabilityZone)
        }
        var plain = ReferenceScheduler(
            hosts: fleet, filters: try FilterCatalog.filters(options), weighers: FilterCatalog.weighers(options),
            subsetSize: options.hostSubsetSize)
        for round in 1...60 {
            // A report now and then, a host that goes and one that comes.
            if dice.chance(20), let known = plain.hosts.indices.randomElement(using: &dice) {
                var news = Self.host(0, &dice)
                news.name = plain.hosts[known].name
                news.measuredAt = Timestamp(microseconds: Int64(round) * 10 + 5)
                (news.aggregates, news.availabilityZone) = (
                    plain.hosts[known].aggregates, plain.hosts[known].availabilityZone
                )
                news.node = plain.hosts[known].node
                plain.hosts[known] = news
                quick.update(news)
            }
            if dice.chance(5), plain.hosts.count > 1, let gone = plain.hosts.indices.randomElement(using: &dice) {
                quick.remove(plain.hosts[gone].name)
                plain.hosts[gone] = plain.hosts[plain.hosts.count - 1]
                plain.hosts.removeLast()
            }
            let asked = Self.request(&dice)
            let now = Timestamp(microseconds: Int64(round) * 10)
            let told = round % 4 == 0 ? quick.explanation(of: asked) : nil
            var (one, other) = (dice, dice)
            let quickly = quick.select(asked, now: now, using: &one)
            let plainly = plain.select(asked, now: now, using: &other)
            dice = one
            switch (quickly, plainly) {
            case (.placed(let left), .placed(let right)): #expect(left == right, "seed \(seed), round \(round)")
            case (.refused(let left), .refused(let right)):
                var counts: [String: Int] = [:]
                for reason in left.reasons { counts[reason.filter, default: 0] += reason.hosts }
                let expected = Dictionary(uniqueKeysWithValues: right.reasons.map { ($0.filter, $0.hosts) })
                #expect(counts == expected, "seed \(seed), round \(round)")
            default: Issue.record("seed \(seed), round \(round): \(quickly) is not \(plainly)")
            }
            #expect(quick.hosts == plain.hosts)
            if let told, asked.instances.count == 1 {
                if case .placed(let lists) = quickly, options.hostSubsetSize == 1 {
                    #expect(lists == [Array(told.order.prefix(1 + asked.alternates))], "seed \(seed), round \(round)")
                }
                if case .refused(let refusal) = quickly { #expect(told.refusal == refusal) }
            }
        }
    }
}

@Suite("Verdicts that are kept")
struct VerdictCacheTests {
    @Test("Each host is asked once for a key, and again when it has changed; the oldest key makes room")
    func kept() {
        var cache = VerdictCache()
        var asked: [Int] = []
        func sift(_ key: String, count: Int = 3) -> [Int] {
            asked = []
            return cache.sift(Array(0..<count), of: count, VerdictKey("F", text: key)) { position in
                asked.append(position)
                return position != 1
            }
        }
        #expect(sift("a") == [0, 2] && asked == [0, 1, 2])
        #expect(sift("a") == [0, 2] && asked == [])
        cache.forget(2)
        #expect(sift("a") == [0, 2] && asked == [2])
        cache.append()
        #expect(sift("a", count: 4) == [0, 2, 3] && asked == [3])
        // The last takes the place of the first.
        cache.moveLast(to: 0)
        #expect(sift("a") == [0, 2] && asked == [])
        cache.moveLast(to: 2)
        #expect(sift("a", count: 2) == [0] && asked == [])
        for number in 0..<32 { _ = sift("\(number)", count: 2) }
        #expect(sift("31", count: 2) == [0] && asked == [])
        #expect(sift("a", count: 2) == [0] && asked == [0, 1])
    }
}
