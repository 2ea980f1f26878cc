import Compute
import Configuration
import Crypto
import Foundation
import LibvirtDriver
import Model
import Processes
import Synchronization
import Testing

@Suite("Copies of the disks of real guests", .serialized, .enabled(if: isHypervisorTier), .timeLimit(.minutes(20)))
struct SnapshotSystemTests {
    /// A driver, and a guest of the test image whose disk holds a known pattern of `mebibytes`.
    private struct Scene: Sendable {
        let driver: LibvirtDriver
        let host: LabHost
        let guest: GuestSpecification

        var id: InstanceID { guest.instance.id }
        var disk: String { "\(host.instancesPath)/\(id)/disk" }

        func take(
            _ name: String, _ quiesce: SnapshotRequest.Quiesce = .no, format: DiskFormat = .qcow2,
            progress: @escaping @Sendable (Double) async -> Void = { _ in }
        ) async throws -> SnapshotFile {
            try await driver.takeSnapshot(
                guest, name: name, order: SnapshotRequest(format: format, quiesce: quiesce), progress: progress)
        }

        var files: [String] {
            let folder = host.instancesPath + "/snapshots"
            return ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
        }

        func jobType() async throws -> String {
            try await host.virsh("domjobinfo", guest.instance.domainName).split(whereSeparator: \.isNewline)
                .first.map(String.init) ?? ""
        }

        /// Waits until the guest has ticked once more than before.
        func ticks() async throws {
            let seen = try await count()
            let deadline = ContinuousClock.now + .seconds(60)
            while try await count() <= seen {
                guard ContinuousClock.now < deadline else { throw Failure(.timeout, "the guest does not tick") }
                try await Task.sleep(for: .milliseconds(200))
            }
        }

        private func count() async throws -> Int {
            let text = String(decoding: try await driver.consoleLog(id, limit: 1 << 20), as: UTF8.self)
            return text.split(whereSeparator: \.isNewline).count { $0.contains("tick") }
        }
    }

    private static func with(
        mebibytes: Int = 64, on: Bool = true, _ body: (Scene) async throws -> Void
    ) async throws {
        let image = try await TestImage.build()
        try await LabHost.with { host in
            let driver = LibvirtDriver(
                configuration: try Configuration(
                    options: LibvirtDriverOptions.all + CommonOptions.all,
                    values: [
                        "libvirt.connection_uri": host.uri, "DEFAULT.instances_path": host.instancesPath,
                        "compute.spare_addresses": "0",
                    ]))
            try await driver.start()
            let guest = try await make(driver, image, number: 1)
            let scene = Scene(driver: driver, host: host, guest: guest)
            let pattern = host.folder + "/pattern"
            try await tool("dd", ["if=/dev/urandom", "of=\(pattern)", "bs=1M", "count=\(mebibytes)", "status=none"])
            try await tool(
                "qemu-io", ["-f", "qcow2", "-c", "write -q -s \(pattern) 200M \(mebibytes)M", scene.disk])
            if on {
                try await driver.powerOn(scene.id)
                try await scene.ticks()
            }
            let result: Result<Void, any Error>
            do { result = .success(try await body(scene)) } catch { result = .failure(error) }
            await driver.stop()
            try result.get()
        }
    }

    private static func make(
        _ driver: LibvirtDriver, _ image: TestImage, number: Int64
    ) async throws -> GuestSpecification {
        let instance = Instance(
            id: InstanceID(makeUUID()), number: number, projectID: ProjectID("p"), userID: UserID("u"), name: "web",
            hostname: "web-\(number)",
            flavor: Flavor(id: FlavorID("1"), name: "m1.tiny", vcpus: 1, memoryMiB: 96, rootGiB: 1),
            imageID: image.reference.id, reservationID: "r-1", createdAt: Timestamp(seconds: 1_700_000_000))
        try await driver.prepareImage(image.reference, for: instance.flavor) { start, write in
            try await write(Array(image.bytes[Int(start)...]))
        }
        let guest = GuestSpecification(instance: instance, image: image.reference, interfaces: [])
        try await driver.createDisks(guest)
        try await driver.writeConfigDrive(guest, secrets: ConfigDriveSecrets())
        try await driver.define(guest)
        return guest
    }

    private static func information(_ path: String, _ format: String) async throws -> JSON {
        try JSON(parsing: Array(try await tool("qemu-img", ["info", "-f", format, "--output=json", path]).utf8))
    }

    @Test("A guest ticks on while its disk is copied; the copy stands alone, is sparse, and boots")
    func live() async throws {
        try await Self.with { scene in
            let parts = Mutex<[Double]>([])
            let name = makeUUID()
            let file = try await scene.take(name) { part in parts.withLock { $0.append(part) } }
            #expect(try await scene.driver.observe(scene.id)?.powerState == .running)
            try await scene.ticks()
            #expect(parts.withLock { $0.first } == 0)
            let facts = try await Self.information(file.path, "qcow2")
            #expect(facts["backing-filename"] == nil && facts["virtual-size"]?.int == 1 << 30)
            #expect(file.sizeBytes < 300 << 20 && file.sizeBytes > 64 << 20)
            // The same name gives the same copy.
            #expect(try await scene.take(name) == file)
            #expect(try await scene.driver.snapshots() == [SnapshotName(instance: scene.id, name: name)])

            let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: file.path)))
            let image = TestImage(
                bytes: bytes,
                reference: ImageReference(
                    id: ImageID(makeUUID()), format: .qcow2, sizeBytes: Int64(bytes.count), virtualSizeBytes: 1 << 30,
                    sha512: Hex.encode(digest(.sha512, of: bytes))))
            let second = try await Self.make(scene.driver, image, number: 2)
            try await scene.driver.powerOn(second.instance.id)
            try await Scene(driver: scene.driver, host: scene.host, guest: second).ticks()
            try await scene.driver.removeSnapshot(scene.id, name: name)
            #expect(scene.files.isEmpty)
            try await scene.driver.removeSnapshot(scene.id, name: name)
        }
    }

    @Test("What is copied is the disk as it was at that moment, whether its guest stands still or is off")
    func content() async throws {
        try await Self.with { scene in
            try await scene.host.virsh("suspend", scene.guest.instance.domainName)
            let live = try await scene.take(makeUUID())
            let raw = try await scene.take(makeUUID(), format: .raw)
            try await scene.driver.powerOff(scene.id, grace: .zero)
            try await tool("qemu-img", ["compare", "-f", "qcow2", "-F", "qcow2", live.path, scene.disk])
            try await tool("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", raw.path, scene.disk])
            let cold = try await scene.take(makeUUID())
            try await tool("qemu-img", ["compare", "-f", "qcow2", "-F", "qcow2", cold.path, scene.disk])
            #expect(try await Self.information(cold.path, "qcow2")["backing-filename"] == nil)
            #expect(scene.files.count == 3)
        }
    }

    @Test("A copy that is cancelled ends its job at once and leaves no file; the guest ticks on")
    func cancelled() async throws {
        try await Self.with(mebibytes: 400) { scene in
            let name = makeUUID()
            let begun = AsyncStream.makeStream(of: Void.self)
            let copy = Task { try await scene.take(name) { _ in begun.continuation.yield() } }
            for await _ in begun.stream { break }
            copy.cancel()
            await #expect(throws: (any Error).self) { _ = try await copy.value }
            let start = ContinuousClock.now
            try await scene.driver.removeSnapshot(scene.id, name: name)
            #expect(start.duration(to: .now) < .seconds(15))
            #expect(scene.files.isEmpty)
            #expect(try await scene.jobType().contains("None"))
            try await scene.ticks()
        }
    }

    @Test("QEMU killed during a copy fails it, and nothing is left of it")
    func guestDies() async throws {
        try await Self.with(mebibytes: 400) { scene in
            let name = makeUUID()
            let qemu = try scene.host.pid("qemu/\(scene.guest.instance.domainName).pid")
            let failure = await #expect(throws: Failure.self) {
                _ = try await scene.take(name) { _ in kill(qemu, SIGKILL) }
            }
            #expect(failure?.kind == .hypervisor && failure?.isRetriable == true)
            try await scene.driver.removeSnapshot(scene.id, name: name)
            #expect(scene.files.isEmpty)
        }
    }

    @Test("libvirtd killed during a copy: the attempt fails, the next one copies anew, the guest ticks on")
    func daemonDies() async throws {
        try await Self.with(mebibytes: 400) { scene in
            let name = makeUUID()
            let isKilled = Atomic<Bool>(false)
            let daemon = try scene.host.pid("libvirtd.pid")
            let failure = await #expect(throws: Failure.self) {
                _ = try await scene.take(name) { _ in
                    if !isKilled.exchange(true, ordering: .relaxed) { kill(daemon, SIGKILL) }
                }
            }
            #expect(failure?.isRetriable == true)
            try await scene.host.inside(["libvirtd", "--daemon", "--pid-file", "/run/libvirt/libvirtd.pid"])
            let deadline = ContinuousClock.now + .seconds(120)
            var file: SnapshotFile?
            while file == nil {
                do {
                    file = try await scene.take(name)
                } catch let failure as Failure where failure.isRetriable && ContinuousClock.now < deadline {
                    try await Task.sleep(for: .milliseconds(500))
                }
            }
            // QEMU holds a file locked for as long as it writes it: what an earlier attempt's end made believe to be
            // complete was still being written.
            let facts = try await Self.information(try #require(file).path, "qcow2")
            #expect(facts["virtual-size"]?.int == 1 << 30)
            try await tool("qemu-img", ["check", "-q", "-f", "qcow2", try #require(file).path])
            try await scene.ticks()
            try await scene.driver.removeSnapshot(scene.id, name: name)
            #expect(scene.files.isEmpty)
        }
    }

    @Test("A guest without an agent is not copied when it must be quiesced, and is when it need not")
    func quiesce() async throws {
        try await Self.with(mebibytes: 1) { scene in
            let name = makeUUID()
            let failure = await #expect(throws: Failure.self) { _ = try await scene.take(name, .required) }
            #expect(failure?.kind == .conflict)
            #expect(scene.files.isEmpty)
            _ = try await scene.take(name, .ifPossible)
            #expect(scene.files == ["\(scene.id).\(name).qcow2"])
        }
    }
}
