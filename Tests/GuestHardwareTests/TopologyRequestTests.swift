import GuestHardware
import Model
import Testing

@Suite("What a guest asks of its host's processors and memory")
struct TopologyRequestTests {
    @Test("Nothing, unless something is asked for")
    func none() throws {
        #expect(try hardware().topology == nil)
        #expect(try hardware(["hw:cpu_policy": "shared"]).topology == nil)
    }

    @Test("Cells are even, or as they are described")
    func cells() throws {
        let even = try #require(try hardware(["hw:numa_nodes": "2"]).topology)
        #expect(even.cells.map(\.vcpus) == [[0, 1], [2, 3]] && even.cells.map(\.memoryMiB) == [64, 64])
        let image = try #require(
            try hardware(
                [:],
                [
                    "hw_numa_nodes": "2", "hw_numa_cpus.0": "3", "hw_numa_mem.0": "28", "hw_numa_cpus.1": "0-2",
                    "hw_numa_mem.1": "100",
                ]
            ).topology)
        #expect(image.cells.map(\.vcpus) == [[3], [0, 1, 2]] && image.cells.map(\.memoryMiB) == [28, 100])
    }

    @Test(
        "Who has the say over the policy",
        arguments: [
            Row(["hw:cpu_policy": "dedicated"], [:], 4),
            Row(["hw:cpu_policy": "dedicated"], ["hw_cpu_policy": "shared"], 4),
            Row([:], ["hw_cpu_policy": "dedicated"], 4),
            Row(["hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "1-2"], [:], 2),
            Row(["hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"], ["hw_cpu_policy": "mixed"], 3),
        ])
    func policy(_ row: Row<Int>) throws {
        #expect(try hardware(row.specs, row.properties).topology?.dedicated.count == row.expected)
    }

    @Test("Pages, threads, the emulator and locking are read as they are written")
    func others() throws {
        let found = try #require(
            try hardware(
                [
                    "hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "prefer", "hw:mem_page_size": "large",
                    "hw:emulator_threads_policy": "isolate", "hw:locked_memory": "true",
                ], ["hw_cpu_thread_policy": "require", "hw_mem_page_size": "2MB"]
            ).topology)
        #expect(found.threadPolicy == .require && found.pageSize == .exactly(kibibytes: 2_048))
        #expect(found.emulatorPolicy == .isolate && found.isMemoryLocked)
    }

    @Test(
        "What cannot be together is refused by name",
        arguments: [
            Row(
                ["hw:cpu_policy": "shared"], ["hw_cpu_policy": "dedicated"],
                "hw_cpu_policy (image property) = 'dedicated': the flavor says shared"),
            Row(
                ["hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0"], ["hw_cpu_policy": "dedicated"],
                "the flavor says mixed"),
            Row(["hw:cpu_policy": "mixed"], [:], "hw:cpu_dedicated_mask is wanted with it"),
            Row(
                ["hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-3"], [:],
                "some, but not all, of the vCPUs 0 to 3"),
            Row(["hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "9"], [:], "some, but not all"),
            Row(["hw:cpu_dedicated_mask": "0"], [:], "hw:cpu_policy mixed is wanted with it"),
            Row(["hw:cpu_thread_policy": "isolate"], [:], "hw:cpu_policy dedicated or mixed is wanted with it"),
            Row(
                ["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate"], ["hw_cpu_thread_policy": "require"],
                "the flavor says isolate"),
            Row(["hw:emulator_threads_policy": "isolate"], [:], "hw:cpu_policy dedicated or mixed is wanted with it"),
            Row([:], ["hw_mem_page_size": "2MB"], "the flavor does not leave the size of pages to the image"),
            Row(["hw:mem_page_size": "small"], ["hw_mem_page_size": "2MB"], "does not leave the size"),
            Row(["hw:mem_page_size": "3TB"], [:], "small, large, any, or a size is wanted"),
            Row(["hw:mem_page_size": "0"], [:], "small, large, any, or a size is wanted"),
            Row(["hw:numa_nodes": "3"], [:], "4 vCPUs and 128 MiB cannot be shared out evenly"),
            Row(["hw:numa_nodes": "0"], [:], "hw:numa_nodes (flavor extra spec) = '0'"),
            Row(["hw:numa_nodes": "65"], [:], "from 1 to 64"),
            Row(
                ["hw:numa_nodes": "2"], ["hw_numa_nodes": "2"],
                "hw_numa_nodes (image property) = '2': the flavor has it, too"),
            Row(["hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "128"], [:], "hw:numa_nodes is wanted with it"),
            Row(
                ["hw:numa_nodes": "2", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "128"], [:],
                "hw:numa_cpus.1 and hw:numa_mem.1 are wanted, too"),
            Row(
                ["hw:numa_nodes": "1", "hw:numa_cpus.0": "0-2", "hw:numa_mem.0": "128"], [:],
                "the cells have 3 of 4 vCPUs and 128 of 128 MiB"),
            Row(["hw:numa_nodes": "1", "hw:numa_cpus.0": "0-4", "hw:numa_mem.0": "128"], [:], "vCPUs from 0 to 3"),
            Row(["hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "100"], [:], "100 of 128 MiB"),
            Row(["hw:numa_cpus.64": "0"], [:], "there is no flavor extra spec of this name"),
            Row(["hw:numa_cpus.00": "0"], [:], "there is no flavor extra spec of this name"),
            Row(["hw:numa_cpus.0": "x"], [:], "a list of CPUs is wanted"),
            Row(["hw:locked_memory": "true"], [:], "hw:mem_page_size is wanted with it"),
        ])
    func refused(_ row: Row<String>) {
        #expect(refusal(row.specs, row.properties).contains(row.expected))
    }
}
