import Compute
import Configuration
import Crypto
import Foundation
import HostTopology
import LibvirtDriver
import Model
import Processes
import Testing

@Suite("Guests that really boot", .serialized, .enabled(if: isHypervisorTier))
struct LibvirtDriverSystemTests {
    /// A driver over a private host, ended whatever happens.
    static func withDriver(
        _ values: [String: String] = [:], _ body: (LibvirtDriver, LabHost) async throws -> Void
    ) async throws {
        try await LabHost.with { host in
            try await withDriver(on: host, values) { try await body($0, host) }
        }
    }

    static func withDriver(
        on host: LabHost, _ values: [String: String], _ body: (LibvirtDriver) async throws -> Void
    ) async throws {
        let driver = LibvirtDriver(
            configuration: try Configuration(
                options: LibvirtDriverOptions.all + CommonOptions.all,
                values: [
                    "libvirt.connection_uri": host.uri, "DEFAULT.instances_path": host.instancesPath,
                    "compute.spare_addresses": "0",
                ].merging(values) { $1 }))
        do {
            try await driver.start()
            try await body(driver)
        } catch {
            await driver.stop()
            throw error
        }
        await driver.stop()
    }

    static func instance(number: Int64 = 1, memoryMiB: Int = 96) -> Instance {
        let flavor = Flavor(id: FlavorID("1"), name: "m1.tiny", vcpus: 1, memoryMiB: memoryMiB, rootGiB: 1)
        return Instance(
            id: InstanceID(makeUUID()), number: number, projectID: ProjectID("p"), userID: UserID("u"),
            name: "web & <co>",
            hostname: "web-\(number)", flavor: flavor, imageID: ImageID("i"), keyName: "k",
            publicKey: "ssh-ed25519 AAAA me",
            reservationID: "r-1", createdAt: Timestamp(seconds: 1_700_000_000))
    }

    static func build(
        _ driver: LibvirtDriver, _ instance: Instance, _ image: TestImage, files: [InjectedFile] = [],
        placement: TopologyPlacement? = nil
    ) async throws -> GuestSpecification {
        try await driver.prepareImage(image.reference, for: instance.flavor) { start, write in
            var offset = Int(start)
            while offset < image.bytes.count {
                let end = min(offset + 65_536, image.bytes.count)
                try await write(Array(image.bytes[offset..<end]))
                offset = end
            }
        }
        var guest = GuestSpecification(
            instance: instance, image: image.reference, interfaces: try await driver.plugNetwork(instance))
        guest.placement = placement
        try await driver.createDisks(guest)
        try await driver.writeConfigDrive(guest, secrets: ConfigDriveSecrets(adminPassword: "s3cret", files: files))
        try await driver.define(guest)
        try await driver.powerOn(instance.id)
        return guest
    }

    static func remove(_ driver: LibvirtDriver, _ guest: GuestSpecification) async throws {
        try await driver.powerOff(guest.instance.id, grace: .zero)
        try await driver.undefine(guest.instance.id)
        try await driver.removeDisks(guest.instance.id)
        try await driver.unplugNetwork(guest.instance.id, guest.interfaces)
    }

    /// The console's lines, once one of them holds `text`. The guest gets 90 s, since it may be emulated on a busy machine.
    static func console(
        _ driver: LibvirtDriver, _ id: InstanceID, until text: String
    ) async throws -> [Substring] {
        let deadline = ContinuousClock.now + .seconds(90)
        while true {
            let lines = String(decoding: try await driver.consoleLog(id, limit: 100_000), as: UTF8.self)
                .split(whereSeparator: \.isNewline)
            if lines.contains(where: { $0.contains(text) }) { return lines }
            guard ContinuousClock.now < deadline else {
                throw Failure(.timeout, "no '\(text)' on the console: \(lines.suffix(20))")
            }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    static func value(_ name: String, in lines: [Substring]) -> String? {
        lines.last { $0.contains("apus-guest: \(name) ") }?.split(separator: " ").last.map(String.init)
    }

    @Test("A guest boots, learns who it is, reboots, shuts down when asked, and leaves nothing")
    func life() async throws {
        let image = try await TestImage.build()
        try await Self.withDriver { driver, host in
            var events = driver.events.makeAsyncIterator()
            #expect(await events.next() == .resynchronise)
            let instance = Self.instance()
            let guest = try await Self.build(driver, instance, image)
            let id = instance.id
            #expect(await events.next() == .changed(id))

            let first = try await Self.console(driver, id, until: "apus-guest: address")
            #expect(Self.value("hostname", in: first) == "web-1")
            #expect(Self.value("uuid", in: first) == id.rawValue)
            #expect(Self.value("mac", in: first) == guest.interfaces[0].macAddress)
            #expect(Self.value("address", in: first) == guest.interfaces[0].ipv4Address)
            #expect(Self.value("MiB", in: first) == nil)
            let boot = try #require(Self.value("boot", in: first))
            _ = try await Self.console(driver, id, until: "tick")

            #expect(try await driver.softReboot(id, grace: .seconds(60)))
            let second = try await Self.console(driver, id, until: "tick")
            #expect(try #require(Self.value("boot", in: second)) != boot)

            // Far less than the grace: the guest did it itself.
            let start = ContinuousClock.now
            try await driver.powerOff(id, grace: .seconds(120))
            #expect(start.duration(to: .now) < .seconds(100))
            #expect(try await host.virsh("domstate", "--reason", instance.domainName).contains("(shutdown)"))
            #expect(try await driver.observe(id)?.powerState == .shutdown)

            try await driver.powerOn(id)
            try await Self.remove(driver, guest)
            #expect(try await driver.guests().isEmpty)
            #expect(try await !host.virsh("net-dumpxml", "default").contains("<host"))
            let left = try FileManager.default.contentsOfDirectory(atPath: host.instancesPath)
            #expect(Set(left) == ["_base", "_networks"])
        }
    }

    @Test(
        "A guest sees its ephemeral disk and swap formatted, and the files that were injected",
        arguments: [["libvirt.images_type": "qcow2"], ["libvirt.images_type": "raw"]])
    func localDisks(values: [String: String]) async throws {
        let image = try await TestImage.build()
        try await Self.withDriver(values) { driver, host in
            var instance = Self.instance()
            (instance.flavor.ephemeralGiB, instance.flavor.swapMiB) = (1, 64)
            instance.localDisks = LocalDisks(ephemerals: [.init(sizeGiB: 1, fileSystem: "ext4")])
            let file = InjectedFile(path: "/etc/motd", contents: "aGVsbG8=")
            let guest = try await Self.build(driver, instance, image, files: [file])
            let lines = try await Self.console(driver, instance.id, until: "tick")
            for line in [
                "vdb 1024 MiB 'ephemeral0'", "vdc 64 MiB 'SWAPSPACE2'",
                "injected \(Hex.encode(digest(.md5, of: Array("hello".utf8))))",
            ] {
                #expect(lines.contains { $0.contains("apus-guest: " + line) }, "\(line)")
            }
            try await Self.remove(driver, guest)
            let left = try FileManager.default.contentsOfDirectory(atPath: host.instancesPath)
            #expect(Set(left) == ["_base", "_networks"])
        }
    }

    @Test("A guest that dies while it is asked to shut down is off, which is no failure")
    func diesWhileAsked() async throws {
        let image = try await TestImage.build()
        try await Self.withDriver { driver, host in
            let instance = Self.instance()
            let guest = try await Self.build(driver, instance, image)
            let emulator = try #require(try Self.emulator(of: instance.id))
            // Halted, it leaves the request in its socket unread.
            #expect(kill(emulator, SIGSTOP) == 0)
            async let off: Void = driver.powerOff(instance.id, grace: .seconds(60))
            let deadline = ContinuousClock.now + .seconds(30)
            while try await host.unreadMonitorBytes(of: instance.domainName) == 0 {
                try #require(ContinuousClock.now < deadline, "libvirt has asked nothing")
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(kill(emulator, SIGKILL) == 0)
            try await off
            #expect(try await driver.observe(instance.id)?.powerState != .running)
            try await Self.remove(driver, guest)
        }
    }

    /// The process of a guest's QEMU, which has the guest's uuid on its command line.
    private static func emulator(of id: InstanceID) throws -> Int32? {
        for name in try FileManager.default.contentsOfDirectory(atPath: "/proc") {
            guard let process = Int32(name), let line = FileManager.default.contents(atPath: "/proc/\(name)/cmdline")
            else { continue }
            let words = String(decoding: line, as: UTF8.self).split(separator: "\0")
            guard words.first?.contains("qemu-system") == true, words.contains(Substring(id.rawValue)) else { continue }
            return process
        }
        return nil
    }

    @Test("A domain that somebody else made is a conflict, and stays as it is")
    func foreign() async throws {
        try await Self.withDriver { driver, host in
            let file = host.folder + "/foreign.xml"
            let instance = Self.instance(number: 7)
            try Data(
                "<domain type='qemu'><name>\(instance.domainName)</name><memory>16384</memory><os><type>hvm</type></os></domain>"
                    .utf8
            ).write(to: URL(fileURLWithPath: file))
            try await host.virsh("define", file)
            let before = try await host.virsh("dumpxml", instance.domainName)
            let bytes = [UInt8](repeating: 0, count: 1 << 20)
            let image = TestImage(
                bytes: bytes,
                reference: ImageReference(
                    id: ImageID("i"), format: .raw, sizeBytes: 1 << 20, virtualSizeBytes: 1 << 20,
                    sha512: Hex.encode(digest(.sha512, of: bytes))))
            let error = await #expect(throws: Failure.self) { try await Self.build(driver, instance, image) }
            #expect(error?.kind == .conflict)
            try await driver.removeDisks(instance.id)
            try await driver.unplugNetwork(instance.id, [])
            let foreign = try #require(try await driver.guests().first)
            #expect(!foreign.isOurs)
            for action in [driver.undefine, { try await driver.powerOff($0, grace: .zero) }, driver.powerOn] {
                let error = await #expect(throws: Failure.self) { try await action(foreign.id) }
                #expect(error?.kind == .conflict)
            }
            #expect(try await host.virsh("dumpxml", instance.domainName) == before)
        }
    }

    @Test("On a full disk the image is refused with path and figures, and nothing of it stays")
    func fullDisk() async throws {
        let image = try await TestImage.build()
        try await LabHost.with { host in
            let small = host.folder + "/small"
            try FileManager.default.createDirectory(atPath: small, withIntermediateDirectories: true)
            // Room for the upload, not for the disk in it.
            try await tool("mount", ["-t", "tmpfs", "-o", "size=\(image.bytes.count + (2 << 20))", "tmpfs", small])
            do {
                try await Self.withDriver(on: host, ["DEFAULT.instances_path": small]) { driver in
                    try await Self.expectFull(driver, image, small)
                }
            } catch {
                try await tool("umount", [small])
                throw error
            }
            try await tool("umount", [small])
        }
    }

    private static func expectFull(_ driver: LibvirtDriver, _ image: TestImage, _ folder: String) async throws {
        let error = await #expect(throws: Failure.self) { try await build(driver, instance(), image) }
        #expect(error?.kind == .storage && error?.isRetriable == true)
        #expect(error?.message.contains(folder + "/_base") == true, "\(error?.message ?? "")")
        #expect(error?.message.contains("bytes are free") == true, "\(error?.message ?? "")")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/_base").isEmpty)
    }

    @Test("Guests launched at once share one fetch and get addresses of their own")
    func together() async throws {
        let image = try await TestImage.build()
        try await Self.withDriver(["compute.spare_addresses": "4"]) { driver, host in
            let guests = try await withThrowingTaskGroup(of: GuestSpecification.self) { group in
                for number in 1...4 {
                    group.addTask { try await Self.build(driver, Self.instance(number: Int64(number)), image) }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(Set(guests.compactMap { $0.interfaces.first?.ipv4Address }).count == 4)
            #expect(Set(guests.compactMap { $0.interfaces.first?.macAddress }).count == 4)
            #expect(try await driver.guests().map(\.powerState) == Array(repeating: .running, count: 4))
            #expect(try FileManager.default.contentsOfDirectory(atPath: host.instancesPath + "/_base").count == 1)
            for guest in guests { try await Self.remove(driver, guest) }
            #expect(try await driver.guests().isEmpty)
        }
    }
}
