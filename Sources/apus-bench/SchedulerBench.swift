internal import Glibc
internal import Model
internal import Scheduling

/// How many hosts a scheduler picks a second, for `deploy/bench scheduler`: a steady stream of requests over seeded fleets
/// of several sizes, each pick consumed, with the default filters and all weighers; in one thread.
enum SchedulerBench {
    private struct Dice: RandomNumberGenerator {
        private var generator: SeededGenerator
        init(seed: UInt64) { generator = SeededGenerator(seed: seed) }
        mutating func next() -> UInt64 { generator.next() }
        mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
        mutating func pick<T>(_ list: [T]) -> T { list[number(0...list.count - 1)] }
    }

    /// Prints the figures, a JSON object a line, or for people with `--table`. Returns the exit code.
    static func run(_ arguments: [String]) -> Int32 {
        var (sizes, seed, isTable) = ([100, 1_000, 10_000, 100_000], UInt64(1), false)
        var rest = arguments[...]
        while let word = rest.popFirst() {
            switch word {
            case "--table": isTable = true
            case "--hosts":
                guard let list = rest.popFirst()?.split(separator: ",").map({ Int($0) ?? 0 }), !list.isEmpty,
                    list.allSatisfy({ (1...1_000_000).contains($0) })
                else { return complain("--hosts takes numbers") }
                sizes = list
            case "--seed":
                guard let number = rest.popFirst().flatMap({ UInt64($0) }) else {
                    return complain("--seed takes a number")
                }
                seed = number
            default: return complain("there is no option \(word)")
            }
        }
        for size in sizes {
            for line in lines where line.isHeavy == false || size == 10_000 {
                do throws(UnknownFilter) {
                    try measure(size, line, seed, isTable)
                } catch {
                    return complain("\(error)")
                }
            }
        }
        return 0
    }

    /// What is asked for, and with which further filter.
    private struct Line {
        var name: String
        var filters: [String] = []
        var specs: [String: String] = [:]
        var hints: [String: [String]] = [:]
        /// Whether the hosts have NUMA cells and devices.
        var hasCells = false
        var isHeavy = true
    }

    private static let lines = [
        Line(name: "default", isHeavy: false),
        Line(name: "json", filters: ["JsonFilter"], hints: ["query": [#"[">=", "$free_ram_mb", 4096]"#]]),
        Line(
            name: "aggregates", filters: ["AggregateInstanceExtraSpecsFilter"],
            specs: ["aggregate_instance_extra_specs:ssd": "true"]),
        Line(name: "numa", specs: ["hw:cpu_policy": "dedicated"], hasCells: true),
        Line(name: "pci", specs: ["pci_passthrough:alias": "nic:1"], hasCells: true),
        Line(name: "traits", specs: ["trait:HW_CPU_X86_AVX512F": "required"]),
    ]

    private static let flavors: [(Int, Int, Int)] = [
        (1, 512, 1), (1, 2_048, 20), (2, 4_096, 40), (4, 8_192, 80), (8, 16_384, 160),
    ]

    private static func measure(_ size: Int, _ line: Line, _ seed: UInt64, _ isTable: Bool) throws(UnknownFilter) {
        var options = SchedulingOptions()
        options.enabledFilters += line.filters
        let before = residentBytes()
        var scheduler = try FilterScheduler(options)
        var dice = Dice(seed: seed)
        fill(&scheduler, size, line.hasCells, &dice)
        let bytes = max(0, residentBytes() - before)
        let count = max(200, min(20_000, 20_000_000 / size))
        var times: [Double] = []
        times.reserveCapacity(count)
        var refused = 0
        let begin = ContinuousClock.now
        for number in 0..<count {
            let (vcpus, memory, disk) = dice.pick(flavors)
            var request = PlacementRequest(
                instances: [InstanceID("i")], resources: Resources(vcpus: vcpus, memoryMiB: memory, diskGiB: disk),
                projectID: ProjectID("p"), availabilityZone: dice.pick([nil, nil, "zone0", "zone1", "zone2"]),
                schedulerHints: line.hints, alternates: 2)
            request.flavor = Flavor(
                id: FlavorID("1"), name: "f", vcpus: vcpus, memoryMiB: memory, rootGiB: disk, extraSpecs: line.specs)
            request.imageProperties = [:]
            let start = ContinuousClock.now
            let decision = scheduler.select(request, now: Timestamp(microseconds: Int64(number)), using: &dice)
            times.append((ContinuousClock.now - start) / .milliseconds(1))
            if case .refused = decision { refused += 1 }
        }
        let seconds = (ContinuousClock.now - begin) / .seconds(1)
        times.sort()
        let figures: [(String, Double, String)] = [
            ("scheduler.picks_per_s", Double(count) / seconds, "1/s"), ("scheduler.p50_ms", times[count / 2], "ms"),
            ("scheduler.p99_ms", times[count * 99 / 100], "ms"),
            ("scheduler.bytes_per_host", Double(bytes) / Double(size), "B"),
            ("scheduler.refused", Double(refused), "1"),
        ]
        for (name, value, unit) in figures {
            let shown = value >= 100 ? String(Int(value)) : String((value * 10_000).rounded() / 10_000)
            print(
                isTable
                    ? "\(name)  \(shown)  \(unit)  hosts=\(size) \(line.name) n=\(count)"
                    : "{\"name\":\"\(name)\",\"params\":{\"hosts\":\(size),\"line\":\"\(line.name)\",\"n\":\(count)},\"value\":\(shown),\"unit\":\"\(unit)\"}"
            )
        }
    }

    /// Hosts of several makes and loads, in 20 aggregates and three zones.
    private static func fill(
        _ scheduler: inout FilterScheduler, _ size: Int, _ hasCells: Bool, _ dice: inout Dice
    ) {
        let aggregates = (0..<20).map { number in
            AggregateFacts(
                name: "a\(number)", metadata: ["ssd": number % 2 == 0 ? "true" : "false", "rack": "\(number)"])
        }
        let traits = [["HW_CPU_X86_AVX", "HW_CPU_X86_AVX2"], ["HW_CPU_X86_AVX", "HW_CPU_X86_AVX512F"]]
        let features = (0..<100).map { "feature\($0)" }
        for number in 0..<size {
            let total = dice.pick([
                Resources(vcpus: 32, memoryMiB: 131_072, diskGiB: 2_000),
                Resources(vcpus: 64, memoryMiB: 262_144, diskGiB: 4_000),
                Resources(vcpus: 128, memoryMiB: 524_288, diskGiB: 8_000),
            ])
            var host = HostState(
                name: HostName("compute-\(number)"), total: total,
                used: Resources(
                    vcpus: dice.number(0...total.vcpus * 2), memoryMiB: dice.number(0...total.memoryMiB / 2),
                    diskGiB: dice.number(0...total.diskGiB / 2)), ratios: AllocationRatios(cpu: 4, memory: 1, disk: 1),
                diskAvailableLeastGiB: total.diskGiB / 2, isDisabled: dice.number(1...100) == 1,
                isUp: dice.number(1...100) > 1)
            (host.instanceCount, host.ioOperations) = (dice.number(0...40), dice.number(0...3))
            (host.architecture, host.hypervisorType, host.hypervisorVersion) = ("x86_64", "KVM", 7_002_000)
            (host.address, host.cpuModel, host.cpuVendor) = ("10.0.0.1", "EPYC", "AMD")
            (host.traits, host.cpuFeatures) = (dice.pick(traits), features)
            if hasCells {
                host.cells = cells(of: total)
                host.pciPools = [0, 1].map { node in
                    PCIPool(
                        vendorID: "8086", productID: "10ed", kind: .virtualFunction, numaNode: node, total: 32,
                        free: dice.number(0...32), aliases: ["nic": "legacy"])
                }
            }
            scheduler.update(host)
            scheduler.setAggregates(of: host.name, [dice.pick(aggregates)], zone: "zone\(number % 3)")
        }
    }

    /// Two cells, half of whose processors are dedicated.
    private static func cells(of total: Resources) -> [HostCellReport] {
        let half = total.vcpus / 2
        return [0, 1].map { cell in
            let (first, quarter) = (cell * half, half / 2)
            return HostCellReport(
                id: cell, memoryMiB: total.memoryMiB / 2, memoryUsedMiB: 0,
                sharedCPUs: CPUSet(Set(first..<first + quarter)), sharedVCPUs: 0,
                dedicatedCPUs: CPUSet(Set(first + quarter..<first + half)), takenCPUs: CPUSet(),
                cores: stride(from: first, to: first + half, by: 2).map { CPUSet([$0, $0 + 1]) },
                pages: [.init(sizeKiB: 4, total: total.memoryMiB * 128, reserved: 0, used: 0)])
        }
    }

    private static func residentBytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var (size, resident) = (0, 0)
        var buffer = [CChar](repeating: 0, count: 128)
        guard fgets(&buffer, 128, file) != nil else { return 0 }
        let words = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            .split(separator: " ").compactMap { Int($0) }
        if words.count > 1 { (size, resident) = (words[0], words[1]) }
        return size == 0 ? 0 : resident * 4_096
    }

    private static func complain(_ text: String) -> Int32 {
        let line = Array("apus-bench: \(text)\n".utf8)
        _ = write(2, line, line.count)
        return 2
    }
}
