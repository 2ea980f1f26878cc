import Configuration
import Crypto
import Foundation
import HostTopology
import Model
import RPC
import Synchronization
import Telemetry
import Testing
import XML

@testable import Compute
@testable import LibvirtDriver

/// Agents whose hosts are machines of `Capabilities`, whose README says where they come from. What the agent promises
/// there is what its libvirt driver would make a document of.
@Suite("Guests on captured machines", .timeLimit(.minutes(2)))
struct CapturedHostTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Capabilities"

    /// A running agent on such a machine.
    private struct Running: Sendable {
        let core: AgentCore
        let driver: FakeDriver
        let started: AsyncStream<InstanceID>

        /// Builds a guest, waits until it runs, and gives its claim.
        func build(_ instance: Instance) async throws -> Claim {
            try await offer(instance)
            for await id in started where id == instance.id { break }
            return try #require(core.tracker.snapshot.claims[instance.id])
        }

        func offer(_ instance: Instance) async throws {
            let header = CommandHeader(task: TaskID(makeUUID()), instance: instance.id, fence: instance.fence)
            try await core.dispatcher.build(
                .init(header: header, instance: instance, image: Sample.image([1]), adminPassword: nil, attempt: 1),
                RequestScope.makeID())
        }
    }

    private func run(
        on machine: String, _ settings: [String: String] = [:], devices: [PCIDevice] = [],
        _ body: @escaping @Sendable (Running) async throws -> Void
    ) async throws {
        let folder = try TemporaryFolder()
        try AgentIdentity(
            host: HostName("host1"), secret: "s", conductorSecretHash: Hex.encode(digest(.sha256, of: [1])),
            conductors: []
        ).save(statePath: folder.path)
        let found = HostCapabilities(try XMLNode(parsing: try contents(Self.folder + "/\(machine).xml")))
        var capacity = HostCapacity.fake
        (capacity.cells, capacity.cpuTopology) = (found.cells, found.topology)
        capacity.total = Resources(
            vcpus: found.cells.reduce(0) { $0 + $1.cpus.count },
            memoryMiB: found.cells.reduce(0) { $0 + $1.memoryMiB }, diskGiB: 100)
        let host = FakeHost()
        host.change { state in
            state.images.insert(Sample.image([1]).sha512)
            state.devices = devices
        }
        let (started, sink) = AsyncStream.makeStream(of: InstanceID.self)
        let driver = FakeDriver(host: host, capacity: capacity) { call, phase, id in
            if call == .powerOn, phase == .after, let id { sink.yield(id) }
        }
        let values = [
            "DEFAULT.host": "host1", "DEFAULT.state_path": folder.path, "compute.listen": "127.0.0.1:0",
            "compute.metadata_service": "no", "compute.memory_overhead_mib": "0", "DEFAULT.shutdown_timeout": "1s",
        ].merging(settings) { $1 }
        // Nobody listens there: the agent promises and builds all the same.
        let agent = Agent(
            configuration: try Configuration(options: ComputeOptions.all + RPCOptions.all, values: values),
            driver: driver, conductors: ["http://127.0.0.1:1"])
        let life = Task { try await agent.run() }
        let isReady = await agent.ready()
        let result: Result<Void, any Error>
        do {
            guard isReady, let core = agent.core.withLock({ $0 }) else {
                throw Failure(.internalError, "the agent ended before it served")
            }
            result = .success(try await body(Running(core: core, driver: driver, started: started)))
        } catch {
            result = .failure(error)
        }
        life.cancel()
        try await life.value
        try result.get()
    }

    private func instance(
        _ specs: [String: String], vcpus: Int, memoryMiB: Int, _ id: InstanceID = Sample.id
    ) -> Instance {
        var flavor = Sample.flavor()
        (flavor.vcpus, flavor.memoryMiB, flavor.extraSpecs) = (vcpus, memoryMiB, specs)
        return Sample.instance(id, flavor: flavor)
    }

    /// What the journal holds of the guest is what was claimed, and the driver's document of it is the one that is kept.
    private func isKept(_ name: String, _ instance: Instance, _ claim: Claim, _ agent: Running) async throws {
        let record = try #require(try await agent.core.journal.guest(instance.id)).specification
        #expect(record.placement == claim.placement && record.devices == claim.devices)
        #expect(try await agent.core.journal.claims() == Array(agent.core.tracker.snapshot.claims.values))
        let domain = try #require(agent.driver.host.state.domains[instance.id])
        #expect(domain.cpus == claim.placement?.dedicatedCPUs)
        #expect(domain.devices == (claim.devices ?? []).map(\.address))
        var guest = Sample.guest(record.instance)
        (guest.placement, guest.devices) = (record.placement, record.devices)
        let text = try Sample.document(guest).serialized()
        let path = Self.folder + "/Guests/\(name).xml"
        if ProcessInfo.processInfo.environment["APUS_WRITE_GOLDEN"] != nil {
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            Issue.record("\(name).xml was written; look at the change and run again without APUS_WRITE_GOLDEN")
        }
        #expect(try text == contents(path))
    }

    private static let halves = [
        "compute.cpu_shared_set": "0-1,24-25,48-49,72-73", "compute.cpu_dedicated_set": "2-23,26-47,50-71,74-95",
    ]

    @Test("Two cells with whole cores of their own, on two sockets with two threads a core")
    func cores() async throws {
        let specs = ["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "require", "hw:numa_nodes": "2"]
        let instance = instance(specs, vcpus: 4, memoryMiB: 1_024)
        try await run(on: "two-sockets", Self.halves) { agent in
            let claim = try await agent.build(instance)
            let cells = try #require(claim.placement?.cells)
            // The cell with more memory first.
            #expect(cells.map(\.hostCell) == [1, 0] && cells.map(\.memoryMiB) == [512, 512])
            #expect(cells.map { $0.pins.map(\.cpu) } == [[26, 74], [2, 50]])
            // Processors of its own are none of those that are shared.
            #expect(claim.resources == Resources(vcpus: 0, memoryMiB: 1_024, diskGiB: 1))
            try await isKept("two-sockets-cores", instance, claim, agent)
            let report = try await agent.core.reporter.report()
            #expect(report.total.vcpus == 8 && report.total.memoryMiB == 31_881 + 32_209)
            #expect(report.cells?.map(\.takenCPUs.description) == ["2,50", "26,74"])
            #expect(report.cells?.map(\.memoryUsedMiB) == [512, 512])
        }
    }

    @Test("Cores without a sibling, and the emulator on one of its own")
    func isolated() async throws {
        let specs = [
            "hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate", "hw:emulator_threads_policy": "isolate",
        ]
        let instance = instance(specs, vcpus: 2, memoryMiB: 512)
        try await run(on: "two-sockets", Self.halves) { agent in
            let claim = try await agent.build(instance)
            let cell = try #require(claim.placement?.cells.first)
            #expect(cell.hostCell == 1 && cell.pins.map(\.cpu) == [26, 27])
            #expect(cell.silentCPUs == CPUSet([74, 75]) && cell.emulatorCPUs == CPUSet([28]))
            try await isKept("two-sockets-isolated", instance, claim, agent)
            let report = try await agent.core.reporter.report()
            #expect(report.cells?.map(\.takenCPUs.count) == [0, 5])
        }
    }

    @Test("The last whole cores of the machine are promised once, and the next guest hears what is short")
    func full() async throws {
        let specs = ["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "require"]
        try await run(on: "two-sockets", Self.halves) { agent in
            var taken: [Int] = []
            for number in 1...4 {
                let id = InstanceID("00000000-0000-4000-8000-00000000000\(number)")
                let claim = try await agent.build(instance(specs, vcpus: 22, memoryMiB: 64, id))
                taken += claim.placement?.dedicatedCPUs.sorted ?? []
            }
            #expect(taken.count == 88 && Set(taken) == CPUSet(parsing: "2-23,26-47,50-71,74-95")?.numbers)
            let failure = await #expect(throws: Failure.self) {
                try await agent.offer(instance(specs, vcpus: 2, memoryMiB: 64))
            }
            #expect(failure?.message == "dedicated_cpus: 2 requested, 0 free of 44")
            #expect(agent.core.tracker.snapshot.claims.count == 4)
        }
    }

    @Test("Huge pages come from the cell that has them, beside those that are kept for the host")
    func hugePages() async throws {
        let small = ["hw:mem_page_size": "2MB", "hw:locked_memory": "true"]
        let instance = instance(small, vcpus: 2, memoryMiB: 512)
        let other = self.instance(
            ["hw:mem_page_size": "1GB"], vcpus: 2, memoryMiB: 1_024,
            InstanceID("00000000-0000-4000-8000-000000000001"))
        // Of the larger cell 100 pages are left, of which the guest needs 256.
        let settings = ["DEFAULT.reserved_huge_pages": "node:1,size:2048,count:6044"]
        try await run(on: "epyc", settings) { agent in
            let claim = try await agent.build(instance)
            #expect(claim.placement?.cells.map(\.hostCell) == [0])
            #expect(claim.placement?.cells.map(\.pageSizeKiB) == [2_048] && claim.placement?.isMemoryLocked == true)
            try await isKept("epyc-huge-pages", instance, claim, agent)
            let large = try await agent.build(other)
            #expect(large.placement?.cells.map(\.hostCell) == [1])
            #expect(large.placement?.cells.map(\.pageSizeKiB) == [1_048_576])
            let cells = try #require(try await agent.core.reporter.report().cells)
            #expect(cells.map { $0.pages.map(\.total) } == [[2_048, 4_096, 6_144], [4_096, 6_144, 8_192]])
            #expect(cells.map { $0.pages.map(\.used) } == [[0, 256, 0], [0, 0, 1]])
            #expect(cells.map { $0.pages.map(\.reserved) } == [[0, 0, 0], [0, 6_044, 0]])
            let id = InstanceID("00000000-0000-4000-8000-000000000002")
            let failure = await #expect(throws: Failure.self) {
                try await agent.offer(self.instance(["hw:mem_page_size": "64KB"], vcpus: 1, memoryMiB: 64, id))
            }
            #expect(failure?.message == "pages_64_kib: 1024 requested, 0 free of 0")
        }
    }

    @Test("A guest with a virtual function is in the cell that the card is near, though another has more memory")
    func virtualFunction() async throws {
        let card = try #require(PCIDevice(try XMLNode(parsing: HostDeviceTests.virtual)))
        let specs = ["pci_passthrough:alias": "nic:1", "hw:numa_nodes": "1", "hw:cpu_policy": "dedicated"]
        let instance = instance(specs, vcpus: 2, memoryMiB: 512)
        let settings = Self.halves.merging([
            "pci.device_spec": #"{"vendor_id": "8086", "product_id": "10ca"}"#,
            "pci.alias": #"{"name": "nic", "vendor_id": "8086", "product_id": "10ca", "device_type": "type-VF"}"#,
        ]) { $1 }
        try await run(on: "two-sockets", settings, devices: [card]) { agent in
            let claim = try await agent.build(instance)
            #expect(claim.devices?.map(\.address) == ["0000:02:10.7"])
            #expect(claim.placement?.cells.map(\.hostCell) == [0])
            #expect(claim.placement?.dedicatedCPUs == CPUSet([2, 50]))
            try await isKept("two-sockets-virtual-function", instance, claim, agent)
            let pools = try await agent.core.reporter.report().pciPools
            #expect(pools?.map(\.total) == [1] && pools?.map(\.free) == [0])
            let id = InstanceID("00000000-0000-4000-8000-000000000001")
            let failure = await #expect(throws: Failure.self) {
                try await agent.offer(self.instance(specs, vcpus: 2, memoryMiB: 512, id))
            }
            #expect(failure?.message == "pci_nic: 1 requested, 0 free of 1")
        }
    }

    @Test("Every document that is kept belongs to a guest")
    func noneLeft() throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: Self.folder + "/Guests").sorted()
        #expect(
            files == [
                "epyc-huge-pages.xml", "two-sockets-cores.xml", "two-sockets-isolated.xml",
                "two-sockets-virtual-function.xml",
            ])
    }
}
