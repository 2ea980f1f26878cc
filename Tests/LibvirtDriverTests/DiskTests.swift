import Compute
import Configuration
import Foundation
import Libvirt
import Model
import Processes
import Telemetry
import Testing
import XML

@testable import LibvirtDriver

/// A driver over libvirt's test driver, which opens no disk.
private final class DiskBench: Sendable {
    let folder: TemporaryFolder
    let host: LibvirtHost
    let content = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 13) }

    init() throws {
        folder = try TemporaryFolder()
        let node = try folder.write(Array("<node/>".utf8), to: "node.xml")
        host = LibvirtHost(uri: "test://" + node)
    }

    var instances: String { folder.path + "/instances" }

    func driver(_ values: [String: String] = [:]) async throws -> LibvirtDriver {
        let driver = LibvirtDriver(
            configuration: try Sample.configuration(folder, values), host: host, domainType: "test",
            clock: ContinuousClock(), soleRole: .control)
        try await driver.start()
        return driver
    }

    func guest(
        _ id: InstanceID = Sample.id, _ flavor: Flavor = Sample.flavor(), properties: [String: String] = [:]
    ) -> GuestSpecification {
        var instance = Sample.instance(id, flavor: flavor)
        instance.networks = .none
        var image = Sample.image(content)
        image.properties = properties
        return Sample.guest(instance, image: image, interfaces: [])
    }

    func make(_ guest: GuestSpecification, _ driver: LibvirtDriver) async throws {
        try await driver.prepareImage(guest.image, for: guest.instance.flavor) { [content] in try await $1(content) }
        try await driver.createDisks(guest)
    }

    func path(_ guest: GuestSpecification, _ name: String) -> String { "\(instances)/\(guest.instance.id)/\(name)" }

    func info(_ guest: GuestSpecification) throws -> [String: String] {
        let members = try JSON(parsing: Array(contents(path(guest, "disk.info")).utf8)).members ?? [:]
        return Dictionary(uniqueKeysWithValues: members.map { ($0.key, $0.value.text ?? "") })
    }
}

@Suite("Disks")
struct DiskTests {
    private let bench: DiskBench

    init() throws { bench = try DiskBench() }

    @Test(
        "The format of disks follows the configuration, and disk.info says it",
        arguments: [
            ([:], DiskFormat.qcow2), (["DEFAULT.use_cow_images": "false"], .raw),
            (["libvirt.images_type": "raw"], .raw),
            (["libvirt.images_type": "flat"], .raw),
            (["libvirt.images_type": "qcow2", "DEFAULT.use_cow_images": "false"], .qcow2),
        ])
    func format(values: [String: String], expected: DiskFormat) async throws {
        let driver = try await bench.driver(values)
        let guest = bench.guest()
        for _ in 0..<2 { try await bench.make(guest, driver) }
        #expect(
            try bench.info(guest) == [
                bench.path(guest, "disk"): expected.rawValue, bench.path(guest, "disk.config"): "raw",
            ])
        let disk = try #require(try await driver.disks(of: guest).first)
        #expect(disk.format == expected && disk.role == .root && disk.path == bench.path(guest, "disk"))
        #expect(try mode(disk.path) == 0o600)
        if expected == .raw {
            #expect(disk.backing == nil)
            #expect(Files.size(disk.path) == 1 << 30)
            #expect(try Files.read(disk.path, limit: bench.content.count) == bench.content)
            // Sparse: what the image holds, not what the flavor promises.
            #expect(try #require(Files.allocatedBytes(disk.path)) < 1 << 20)
        } else {
            #expect(disk.backing == bench.instances + "/_base/" + guest.image.sha512)
            #expect(try OverlayHeader.read(disk.path)?.virtualSizeBytes == 1 << 30)
        }
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: bench.instances + "/\(Sample.id)").sorted()
                == ["disk", "disk.info"])
        await driver.stop()
    }

    @Test("A disk keeps the format it was made with, also one that a killed agent had only fixed")
    func pinned() async throws {
        let first = try await bench.driver()
        let guest = bench.guest()
        try await bench.make(guest, first)
        let second = try await bench.driver(["libvirt.images_type": "raw"])
        #expect(try await second.disks(of: guest).map(\.format) == [.qcow2])
        // As if killed before the disk had its name.
        try FileManager.default.moveItem(atPath: bench.path(guest, "disk"), toPath: bench.path(guest, "disk.new"))
        try await bench.make(guest, second)
        #expect(try await second.disks(of: guest).map(\.format) == [.qcow2])
        #expect(try OverlayHeader.read(bench.path(guest, "disk")) != nil)
        #expect(!FileManager.default.fileExists(atPath: bench.path(guest, "disk.new")))
        await first.stop()
        await second.stop()
    }

    @Test("A guest that writes a qcow2 header into its raw disk stays with a raw disk, and keeps no base")
    func disguise() async throws {
        let driver = try await bench.driver(["libvirt.images_type": "raw"])
        let guest = bench.guest()
        try await bench.make(guest, driver)
        let made = try await run(
            Command(
                "qemu-img",
                [
                    "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", bench.folder.path + "/evil",
                    "1G",
                ],
                timeout: .seconds(20)))
        #expect(made.status == 0)
        let header = try #require(try Files.read(bench.folder.path + "/evil", limit: 4_096))
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: bench.path(guest, "disk")))
        try file.write(contentsOf: Data(header))
        try file.close()
        let disk = try #require(try await driver.disks(of: guest).first)
        #expect(disk.format == .raw && disk.backing == nil)
        try await driver.define(guest)
        let connection = try await bench.host.connection(.control)
        let domain = try XMLNode(parsing: try await connection.xml(of: .uuid(Sample.id.rawValue), options: .inactive))
        #expect(domain.first("devices/disk/driver")?["type"] == "raw")
        #expect(try DiskUsage.backings(in: bench.instances, except: bench.instances + "/_base").isEmpty)
        _ = try await driver.capacity()
        await driver.stop()
    }

    @Test("A folder of an older release, without disk.info, has one overlay")
    func older() async throws {
        let driver = try await bench.driver()
        let guest = bench.guest()
        try await bench.make(guest, driver)
        try FileManager.default.removeItem(atPath: bench.path(guest, "disk.info"))
        let other = try await bench.driver(["libvirt.images_type": "raw"])
        #expect(try await other.disks(of: guest).map(\.format) == [.qcow2])
        try await other.createDisks(guest)
        #expect(try bench.info(guest)[bench.path(guest, "disk")] == "qcow2")
        await driver.stop()
        await other.stop()
    }

    @Test("A disk.info that cannot be read is an error, not a guess", arguments: ["", "[]", #"{"/x/disk":"vmdk"}"#])
    func spoiledInfo(text: String) async throws {
        let driver = try await bench.driver()
        let guest = bench.guest()
        try await bench.make(guest, driver)
        try Data(text.utf8).write(to: URL(fileURLWithPath: bench.path(guest, "disk.info")))
        let error = await #expect(throws: Failure.self) { try await driver.define(guest) }
        #expect(error?.kind == .storage)
        await driver.stop()
    }

    private func label(_ path: String) async throws -> String {
        let result = try await run(
            Command("blkid", ["-p", "-s", "LABEL", "-s", "TYPE", "-o", "value", path], timeout: .seconds(20)))
        return result.outputText.split(whereSeparator: \.isNewline).joined(separator: " ")
    }

    @Test(
        "Ephemeral and swap disks follow the root disk, formatted; overlays share a template",
        arguments: [
            ([:], [:], "vfat"), ([:], ["os_type": "linux"], "ext4"),
            (["DEFAULT.default_ephemeral_format": "ext3"], ["os_type": "linux"], "ext3"),
        ] as [([String: String], [String: String], String)])
    func ephemeral(values: [String: String], properties: [String: String], system: String) async throws {
        let driver = try await bench.driver(values)
        let flavor = Sample.flavor(ephemeral: 1, swap: 64)
        let guest = bench.guest(Sample.id, flavor, properties: properties)
        for _ in 0..<2 { try await bench.make(guest, driver) }
        let base = bench.instances + "/_base/"
        let template = base + "ephemeral_1_\(system)"
        let disks = try await driver.disks(of: guest)
        #expect(disks.map(\.role) == [.root, .ephemeral(0), .swap])
        #expect(disks.map(\.path) == ["disk", "disk.local", "disk.swap"].map { bench.path(guest, $0) })
        #expect(disks.dropFirst().map(\.backing) == [template, base + "swap_64"])
        #expect(try OverlayHeader.read(disks[1].path)?.virtualSizeBytes == 1 << 30)
        #expect(try OverlayHeader.read(disks[2].path)?.virtualSizeBytes == 64 << 20)
        let found = try await label(template)
        #expect(found.lowercased() == "ephemeral0 \(system)")
        #expect(try await label(base + "swap_64") == "swap")

        let other = bench.guest(InstanceID("00000000-0000-4000-8000-000000000001"), flavor, properties: properties)
        let inode = try FileManager.default.attributesOfItem(atPath: template)[.systemFileNumber] as? Int
        try await bench.make(other, driver)
        #expect(try FileManager.default.attributesOfItem(atPath: template)[.systemFileNumber] as? Int == inode)
        try await driver.removeDisks(Sample.id)
        #expect(!FileManager.default.fileExists(atPath: bench.path(guest, "")))
        await driver.stop()
    }

    @Test("Disks that the user asked for take the place of the flavor's")
    func localDisks() async throws {
        let driver = try await bench.driver()
        var guest = bench.guest(Sample.id, Sample.flavor(ephemeral: 4, swap: 128))
        guest.instance.localDisks = LocalDisks(
            ephemerals: [.init(sizeGiB: 1, fileSystem: "ext2"), .init(sizeGiB: 2)], swapMiB: 64)
        try await bench.make(guest, driver)
        let disks = try await driver.disks(of: guest)
        #expect(disks.map(\.role) == [.root, .ephemeral(0), .ephemeral(1), .swap])
        #expect(
            disks.map(\.path) == ["disk", "disk.eph0", "disk.eph1", "disk.swap"].map { bench.path(guest, $0) })
        let base = bench.instances + "/_base/"
        #expect(
            disks.dropFirst().map(\.backing)
                == [base + "ephemeral_1_ext2", base + "ephemeral_2_vfat_ephemeral1", base + "swap_64"])
        #expect(try await label(base + "ephemeral_2_vfat_ephemeral1").lowercased() == "ephemeral1 vfat")
        await driver.stop()
    }

    @Test("Vendor data that is no JSON object fails the config drive, and is named")
    func vendorData() async throws {
        let path = try bench.folder.write(Array("[1]".utf8), to: "vendor.json")
        let driver = try await bench.driver(["api.vendordata_jsonfile_path": path])
        let guest = bench.guest()
        try await bench.make(guest, driver)
        let error = await #expect(throws: Failure.self) {
            try await driver.writeConfigDrive(guest, secrets: ConfigDriveSecrets())
        }
        #expect(error?.message.contains(path) == true)
        _ = try bench.folder.write(Array(#"{"a":1}"#.utf8), to: "vendor.json")
        try await driver.writeConfigDrive(guest, secrets: ConfigDriveSecrets())
        #expect(Files.exists(bench.path(guest, "disk.config")))
        await driver.stop()
    }

    @Test("Raw ephemeral and swap disks are formatted themselves")
    func rawEphemeral() async throws {
        let driver = try await bench.driver(["libvirt.images_type": "raw"])
        let guest = bench.guest(Sample.id, Sample.flavor(ephemeral: 1, swap: 64), properties: ["os_type": "linux"])
        try await bench.make(guest, driver)
        #expect(try await label(bench.path(guest, "disk.local")) == "ephemeral0 ext4")
        #expect(try await label(bench.path(guest, "disk.swap")) == "swap")
        #expect(Files.size(bench.path(guest, "disk.local")) == 1 << 30)
        let names = try FileManager.default.contentsOfDirectory(atPath: bench.instances + "/_base")
        #expect(names == [guest.image.sha512])
        await driver.stop()
    }

    @Test("With preallocation the whole size is reserved", arguments: ["qcow2", "raw"])
    func preallocated(type: String) async throws {
        let driver = try await bench.driver(["libvirt.images_type": type, "DEFAULT.preallocate_images": "space"])
        let guest = bench.guest()
        try await bench.make(guest, driver)
        #expect(try #require(Files.allocatedBytes(bench.path(guest, "disk"))) >= 1 << 30)
        let disk = try #require(try await driver.disks(of: guest).first)
        #expect(disk.isPreallocated)
        if type == "raw" {
            #expect(try Files.read(disk.path, limit: bench.content.count) == bench.content)
        } else {
            #expect(try OverlayHeader.read(disk.path)?.virtualSizeBytes == 1 << 30)
        }
        await driver.stop()
    }

    @Test(
        "Disks that do not fit are refused before a byte is fetched, with what is asked and what is free",
        arguments: [["libvirt.images_type": "raw"], ["DEFAULT.preallocate_images": "space"]])
    func tooLarge(values: [String: String]) async throws {
        let driver = try await bench.driver(values)
        let guest = bench.guest(Sample.id, Sample.flavor(root: 1 << 20, ephemeral: 1 << 20, swap: 1 << 20))
        let needed = Int64(1) << 51 + Int64(1) << 40
        let early = await #expect(throws: Failure.self) {
            try await driver.prepareImage(guest.image, for: guest.instance.flavor) { _, _ in Issue.record("fetched") }
        }
        #expect(early?.kind == .storage && early?.isRetriable == true)
        #expect(early?.message.contains("needs \(needed) bytes in \(bench.instances), where ") == true)
        let late = await #expect(throws: Failure.self) { try await driver.createDisks(guest) }
        #expect(late?.message.contains("needs \(needed) bytes in \(bench.instances), where ") == true)
        #expect(late?.message.hasSuffix(" bytes are free") == true)
        await driver.stop()
    }

    @Test("Two launches do not count on the same free space")
    func reservations() throws {
        let reservations = DiskReservations()
        let free = try Files.space(at: bench.folder.path).freeBytes
        let other = InstanceID("00000000-0000-4000-8000-000000000001")
        try reservations.take(free / 4 * 3, for: Sample.id, "one", in: bench.folder.path)
        try reservations.take(free / 4 * 3, for: Sample.id, "one again", in: bench.folder.path)
        #expect(throws: Failure.self) { try reservations.take(free / 2, for: other, "two", in: bench.folder.path) }
        reservations.give(Sample.id)
        try reservations.take(free / 2, for: other, "two", in: bench.folder.path)
    }

    @Test("A sparse copy has the same bytes, and holes where the source has them")
    func sparseCopy() async throws {
        let (from, to) = (bench.folder.path + "/from", bench.folder.path + "/to")
        try Files.write(Array("begin".utf8), to: from, mode: 0o600)
        try Files.resize(from, to: 300 << 20)
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: from))
        try file.seek(toOffset: 200 << 20)
        try file.write(contentsOf: Data("middle".utf8))
        try file.close()
        for mayShare in [true, false] {
            try Files.write([], to: to, mode: 0o600)
            try Files.resize(to, to: 400 << 20)
            try await SparseCopy.run(from, to: to, mayShare: mayShare, files: .init(name: "test", threads: 1))
            #expect(try Files.read(to, limit: 5) == Array("begin".utf8))
            #expect(try Files.read(to, from: 200 << 20, limit: 6) == Array("middle".utf8))
            #expect(try #require(Files.allocatedBytes(to)) < 1 << 20)
        }
    }
}
