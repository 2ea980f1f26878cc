import GuestHardware
import HostTopology
import Model
import Testing

@Suite("Where a guest's topology goes")
struct PlacementTests {
    private func place(
        _ specs: [String: String], vcpus: Int = 4, memoryMiB: Int = 2_048, on host: HostTopology,
        beside others: [TopologyPlacement] = [], ratios: AllocationRatios = AllocationRatios(cpu: 4)
    ) throws -> TopologyPlacement {
        try host.place(
            try request(specs, vcpus: vcpus, memoryMiB: memoryMiB),
            beside: TopologyUsage(others, on: host), ratios: ratios)
    }

    private func shortage(_ body: () throws -> TopologyPlacement) -> [String] {
        let error = #expect(throws: TopologyShortage.self) { try body() }
        return (error?.items ?? []).map { "\($0.resource) \($0.requested) \($0.free) \($0.total)" }
    }

    @Test("Cells go to the cells with the most free memory, each to its own")
    func cells() throws {
        let host = twoSockets()
        let first = try place(["hw:numa_nodes": "1"], on: host)
        #expect(first.cells.map(\.hostCell) == [0] && first.cells[0].vcpus == CPUSet([0, 1, 2, 3]))
        let second = try place(["hw:numa_nodes": "1"], on: host, beside: [first])
        #expect(second.cells.map(\.hostCell) == [1])
        let both = try place(["hw:numa_nodes": "2"], on: host, beside: [first])
        #expect(both.cells.map(\.hostCell) == [1, 0] && both.cells.map(\.memoryMiB) == [1_024, 1_024])
        #expect(both.cells[0].sharedCPUs == CPUSet(Set(16..<32).union(48..<64)) && both.cells[0].pins.isEmpty)
        #expect(shortage { try place(["hw:numa_nodes": "3"], vcpus: 3, memoryMiB: 3, on: host) } == ["cells 3 2 2"])
    }

    @Test("Cells of their own sizes")
    func uneven() throws {
        let specs = [
            "hw:numa_nodes": "2", "hw:numa_cpus.0": "0,2-3", "hw:numa_mem.0": "1536", "hw:numa_cpus.1": "1",
            "hw:numa_mem.1": "512",
        ]
        let placed = try place(specs, on: twoSockets())
        #expect(placed.cells.map(\.vcpus) == [CPUSet([0, 2, 3]), CPUSet([1])])
        #expect(placed.cells.map(\.memoryMiB) == [1_536, 512])
    }

    @Test("Dedicated processors are whole cores where there are some; by policy always, or one of each alone")
    func threads() throws {
        let host = twoSockets(shared: "0-1,32-33", dedicated: "2-31,34-63")
        let specs = ["hw:cpu_policy": "dedicated"]
        let prefer = try place(specs, on: host)
        #expect(prefer.cells[0].pins.map(\.cpu) == [16, 48, 17, 49])
        let isolate = try place(specs.merging(["hw:cpu_thread_policy": "isolate"]) { $1 }, on: host, beside: [prefer])
        #expect(isolate.cells[0].hostCell == 0 && isolate.cells[0].pins.map(\.cpu) == [2, 3, 4, 5])
        #expect(isolate.cells[0].silentCPUs == CPUSet([34, 35, 36, 37]))
        #expect(isolate.dedicatedCPUs.count == 8)
        let require = try place(
            specs.merging(["hw:cpu_thread_policy": "require"]) { $1 }, vcpus: 3, on: host, beside: [prefer, isolate])
        #expect(require.cells[0].pins.map(\.cpu) == [18, 50, 19])
        #expect(
            shortage {
                try place(["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "require"], vcpus: 2, on: small)
            } == ["thread_siblings 2 0 2"])
    }

    @Test("A core of which one thread is shared is nobody's alone")
    func mixedCore() throws {
        let host = twoSockets(shared: "0-15", dedicated: "32-47")
        #expect(
            shortage {
                try place(["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate"], vcpus: 1, on: host)
            } == ["thread_siblings 1 0 16"])
        #expect(try place(["hw:cpu_policy": "dedicated"], vcpus: 2, on: host).cells[0].pins.map(\.cpu) == [32, 33])
    }

    @Test("Mixed guests have some processors of their own, and share for the others")
    func mixed() throws {
        let host = twoSockets(shared: "0-7", dedicated: "8-15,40-47")
        let placed = try place(["hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0-1"], on: host)
        #expect(placed.cells[0].pins.map(\.vcpu) == [2, 3] && placed.cells[0].pins.map(\.cpu) == [8, 40])
        #expect(placed.cells[0].sharedCPUs == CPUSet(Set(0...7)) && placed.cells[0].sharedCount == 2)
    }

    @Test("The emulator has a processor of its own, or the shared ones")
    func emulator() throws {
        let specs = ["hw:cpu_policy": "dedicated"]
        let own = try place(
            specs.merging(["hw:emulator_threads_policy": "isolate"]) { $1 }, vcpus: 1, on: small)
        #expect(own.cells[0].pins.map(\.cpu) == [0] && own.emulatorCPUs == CPUSet([1]))
        #expect(own.dedicatedCPUs == CPUSet([0, 1]))
        #expect(
            shortage {
                try place(specs.merging(["hw:emulator_threads_policy": "isolate"]) { $1 }, vcpus: 2, on: small)
            } == ["dedicated_cpus 3 2 2"])
        let host = twoSockets(shared: "0-1", dedicated: "2-15")
        let shared = try place(
            specs.merging(["hw:emulator_threads_policy": "share"]) { $1 }, vcpus: 1, on: host)
        #expect(shared.emulatorCPUs == CPUSet([0, 1]))
    }

    @Test("Pages: the size that is asked for, or the largest that there are enough of")
    func pages() throws {
        let host = twoSockets()
        func size(_ wish: String, _ memory: Int = 2_048) throws -> Int? {
            try place(["hw:mem_page_size": wish], memoryMiB: memory, on: host).cells[0].pageSizeKiB
        }
        #expect(try size("2MB") == 2_048 && size("2048") == 2_048 && size("1GB") == 1_048_576)
        #expect(try size("small") == 4 && size("large") == 1_048_576 && size("any") == 1_048_576)
        #expect(try size("large", 1_026) == 2_048, "which is no multiple of a gibibyte")
        #expect(try size("any", 2_049) == nil, "ordinary pages are no huge ones")
        #expect(
            shortage { try place(["hw:mem_page_size": "1GB"], memoryMiB: 8_192, on: host) } == [
                "pages_1048576_kib 8 4 4"
            ])
        #expect(shortage { try place(["hw:mem_page_size": "64KB"], on: host) } == ["pages_64_kib 32768 0 0"])
    }

    @Test("Reserved pages are no guest's")
    func reserved() throws {
        var host = twoSockets(largePages: 64)
        try host.reserve([
            try #require(HugePageReserve(parsing: "node:0,size:2048,count:60")),
            try #require(HugePageReserve(parsing: "node: 1, size: 2MB, count: 62")),
        ])
        #expect(
            shortage { try place(["hw:mem_page_size": "2MB"], memoryMiB: 16, on: host) } == ["pages_2048_kib 8 4 64"])
        #expect(throws: Failure.self) {
            try host.reserve([try #require(HugePageReserve(parsing: "node:2,size:4,count:1"))])
        }
    }

    @Test("What others have taken is not there, and everything that is short is told")
    func shortages() throws {
        let host = twoSockets(shared: "0", dedicated: "1-2")
        let first = try place(["hw:cpu_policy": "dedicated"], vcpus: 1, on: host)
        #expect(
            shortage {
                try place(
                    ["hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-2"], vcpus: 5, memoryMiB: 70_000, on: host,
                    beside: [first])
            } == ["cell_memory_mib 70000 61440 63488", "shared_cpus 2 1 1", "dedicated_cpus 3 1 2"])
    }

    @Test("What huge pages have is no ordinary memory, and ordinary memory takes no huge pages")
    func ordinary() throws {
        // Of 64 GiB are 48 in pages of 2 MiB, and some of the rest is kept from guests.
        var host = HostTopology(
            cells: [
                HostCell(
                    id: 0, memoryMiB: 65_536, cpus: CPUSet([0, 1]), cores: [CPUSet([0]), CPUSet([1])],
                    pages: [.init(sizeKiB: 4, total: 4_194_304), .init(sizeKiB: 2_048, total: 24_576)])
            ])
        let specs = ["hw:numa_nodes": "1"]
        let first = try place(specs, vcpus: 1, memoryMiB: 16_384, on: host)
        #expect(
            shortage { try place(specs, vcpus: 1, memoryMiB: 1, on: host, beside: [first]) } == [
                "cell_memory_mib 1 0 16384"
            ])
        let large = ["hw:mem_page_size": "large"]
        let second = try place(large, vcpus: 1, memoryMiB: 49_152, on: host, beside: [first])
        #expect(second.cells[0].pageSizeKiB == 2_048)
        #expect(try place(specs, vcpus: 1, memoryMiB: 16_384, on: host, beside: [second]).cells.count == 1)
        try host.reserve([try #require(HugePageReserve(parsing: "node:0,size:4,count:262144"))])
        #expect(
            shortage { try place(specs, vcpus: 1, memoryMiB: 16_384, on: host) } == [
                "cell_memory_mib 16384 15360 15360"
            ])
    }

    @Test("Shared processors are promised as often as the ratio says, to one guest no more than there are")
    func ratio() throws {
        let host = twoSockets(shared: "0-1")
        let specs = ["hw:numa_nodes": "1"]
        var placed: [TopologyPlacement] = []
        for _ in 1...3 {
            placed.append(try place(specs, vcpus: 2, memoryMiB: 64, on: host, beside: placed, ratios: .init(cpu: 3)))
        }
        #expect(
            shortage { try place(specs, vcpus: 1, memoryMiB: 64, on: host, beside: placed, ratios: .init(cpu: 3)) }
                == ["shared_cpus 1 0 6"])
        #expect(shortage { try place(specs, vcpus: 3, on: host) } == ["shared_cpus 3 2 2"])
    }

    @Test("A placement survives being written down")
    func coding() throws {
        let placed = try place(
            ["hw:cpu_policy": "dedicated", "hw:mem_page_size": "2MB", "hw:numa_nodes": "2"],
            on: twoSockets(dedicated: "0-63"))
        let text = try JSONText.encode(placed)
        #expect(try JSONText.decode(TopologyPlacement.self, text) == placed)
        #expect(
            placed.summary
                == "cell 0, CPUs 0,32, 1024 MiB in pages of 2048 KiB; cell 1, CPUs 16,48, 1024 MiB in pages of 2048 KiB"
        )
    }

    @Test(
        "However guests come and go, no processor is two guests', and usage is the sum of what they hold",
        arguments: 1...20)
    func random(seed: UInt64) throws {
        var generator = Generator(seed: seed)
        let host = twoSockets(shared: "0-3,32-35", dedicated: "4-31,36-63", largePages: 256)
        let ratios = AllocationRatios(cpu: 2)
        let wishes: [[String: String]] = [
            ["hw:numa_nodes": "1"], ["hw:numa_nodes": "2"], ["hw:cpu_policy": "dedicated"],
            ["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate"],
            ["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "require", "hw:emulator_threads_policy": "isolate"],
            ["hw:cpu_policy": "dedicated", "hw:numa_nodes": "2", "hw:mem_page_size": "2MB"],
            ["hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0"], ["hw:mem_page_size": "any"],
        ]
        var held: [Int: TopologyPlacement] = [:]
        var refusals = 0
        for step in 0..<200 {
            if !held.isEmpty, Bool.random(using: &generator),
                let gone = held.keys.sorted().randomElement(using: &generator)
            {
                held[gone] = nil
            } else {
                let vcpus = [2, 4, 8].randomElement(using: &generator) ?? 2
                let wanted = try request(
                    wishes.randomElement(using: &generator) ?? [:], vcpus: vcpus,
                    memoryMiB: [64, 512, 4_096].randomElement(using: &generator) ?? 64)
                do {
                    held[step] = try host.place(wanted, beside: TopologyUsage(held.values, on: host), ratios: ratios)
                } catch {
                    refusals += 1
                    #expect(!error.items.isEmpty && error.items.allSatisfy { $0.free >= 0 && $0.requested > 0 })
                }
            }
            let taken = held.values.flatMap { $0.cells.flatMap { Array($0.taken) } }
            #expect(Set(taken).count == taken.count)
            #expect(Set(taken).isSubset(of: host.dedicated.numbers))
            let usage = TopologyUsage(held.values, on: host)
            for cell in host.cells {
                let own = held.values.flatMap(\.cells).filter { $0.hostCell == cell.id }
                #expect(usage[cell.id].memoryMiB == own.reduce(0) { $0 + $1.memoryMiB })
                #expect(usage[cell.id].memoryMiB <= cell.memoryMiB)
                #expect(usage[cell.id].sharedVCPUs <= 8 * 2)
                for pages in cell.pages {
                    #expect(usage[cell.id].pages[pages.sizeKiB, default: 0] <= pages.total)
                }
            }
        }
        #expect(refusals > 0, "the host was never full")
    }
}
