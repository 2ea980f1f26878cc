import Compute
import Configuration
import Foundation
import Libvirt
import Model
import Processes
import Synchronization
import Telemetry
import Testing

@testable import LibvirtDriver

private let first = MigrationID("aaaaaaaa-2222-4333-8444-555555555555")
private let second = MigrationID("bbbbbbbb-2222-4333-8444-555555555555")

/// One host: a driver over libvirt's test driver, which opens no disk, with a folder of its own.
final class MoveBench: Sendable {
    static let image = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 13) }

    let folder: TemporaryFolder
    let driver: LibvirtDriver

    init(_ values: [String: String] = [:]) async throws {
        folder = try TemporaryFolder()
        let node = try folder.write(Array("<node/>".utf8), to: "node.xml")
        driver = LibvirtDriver(
            configuration: try Sample.configuration(folder, values), host: LibvirtHost(uri: "test://" + node),
            domainType: "test", clock: ContinuousClock(), soleRole: .control)
        try await driver.start()
    }

    var instances: String { folder.path + "/instances" }

    static func guest(_ flavor: Flavor = Sample.flavor()) -> GuestSpecification {
        var instance = Sample.instance(flavor: flavor)
        instance.networks = .none
        var image = Sample.image(image)
        image.properties = ["os_type": "linux"]
        return Sample.guest(instance, image: image, interfaces: [])
    }

    func prepare(_ guest: GuestSpecification) async throws {
        try await driver.prepareImage(guest.image, for: guest.instance.flavor) { try await $1(Self.image) }
    }

    func make(_ guest: GuestSpecification) async throws {
        try await prepare(guest)
        try await driver.createDisks(guest)
    }

    func path(_ name: String) -> String { "\(instances)/\(Sample.id)/\(name)" }
    func aside(_ name: String) -> String { "\(instances)/\(Sample.id)_resize/\(name)" }
    func names(_ folder: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder).sorted()) ?? []
    }

    func takeOver(
        _ guest: GuestSpecification, _ source: any MovedFiles, of migration: MigrationID = first
    ) async throws -> [(Int64, Int64)] {
        let told = Mutex<[(Int64, Int64)]>([])
        try await driver.takeOverDisks(guest, of: migration, from: source) { done, total in
            told.withLock { $0.append((done, total)) }
        }
        return told.withLock { $0 }
    }
}

/// What one driver gives another, as the tests want it to be.
private final class Given: MovedFiles {
    struct Change: Sendable {
        var list: @Sendable ([MovedFile]) -> [MovedFile] = { $0 }
        var read: @Sendable (String, Int64, [UInt8]) throws -> [UInt8] = { $2 }
    }

    private let driver: LibvirtDriver
    let change: Mutex<Change>
    /// Bytes that were read, by the file.
    let read = Mutex<[String: Int]>([:])

    init(_ driver: LibvirtDriver, _ change: Change = Change()) {
        self.driver = driver
        self.change = Mutex(change)
    }

    func list() async throws -> [MovedFile] {
        let files = try await driver.setAsideFiles(Sample.id, of: first)
        return change.withLock { $0 }.list(files)
    }

    func extents(of name: String, from offset: Int64) async throws -> [DataExtent] {
        try await driver.setAsideExtents(Sample.id, of: first, file: name, from: offset)
    }

    func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8] {
        let bytes = try await driver.readSetAside(Sample.id, of: first, file: name, at: offset, count: count)
        let given = try change.withLock { $0 }.read(name, offset, bytes)
        read.withLock { $0[name, default: 0] += given.count }
        return given
    }
}

/// A source that has nothing to be asked.
private struct Nobody: MovedFiles {
    private static let failure = Failure(.internalError, "nobody is to be asked")
    func list() async throws -> [MovedFile] { throw Self.failure }
    func extents(of name: String, from offset: Int64) async throws -> [DataExtent] { throw Self.failure }
    func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8] { throw Self.failure }
}

private func tool(_ name: String, _ arguments: String...) async throws -> CommandResult {
    try await run(Command(name, arguments, timeout: .seconds(60)))
}

/// Has a guest have written `pattern` there.
private func write(_ path: String, _ format: DiskFormat, _ pattern: Int, at place: String) async throws {
    let made = try await tool("qemu-io", "-f", format.rawValue, "-c", "write -P \(pattern) \(place)", path)
    try #require(made.status == 0, "\(made.outputText) \(made.errorText)")
}

/// Whether guests see the same in both; what one of them has more of is empty.
private func areSame(_ one: String, _ format: DiskFormat, _ other: String) async throws -> Bool {
    let result = try await tool("qemu-img", "compare", "-f", format.rawValue, "-F", format.rawValue, one, other)
    return result.status == 0
}

@Suite("Disks that are taken over")
struct TakeOverTests {
    @Test(
        "A guest has on the other host what it had, at the new sizes, over that host's own base",
        arguments: [DiskFormat.qcow2, .raw])
    func moved(format: DiskFormat) async throws {
        let values = ["libvirt.images_type": format.rawValue]
        let (here, there) = (try await MoveBench(values), try await MoveBench(values))
        let before = MoveBench.guest(Sample.flavor(root: 1, ephemeral: 1, swap: 64))
        let after = MoveBench.guest(Sample.flavor(root: 2, ephemeral: 2, swap: 64))
        try await here.make(before)
        try await write(here.path("disk"), format, 0x5A, at: "100M 3M")
        try await write(here.path("disk.local"), format, 0x5B, at: "700M 1M")
        try await write(here.path("disk.swap"), format, 0x5C, at: "8M 64k")
        try Files.write(Array("booted".utf8), to: here.path("console.log"), mode: 0o600)
        try await here.driver.setAside(Sample.id, for: first)
        #expect(try await here.driver.setAside() == [Sample.id: first])
        #expect(!FileManager.default.fileExists(atPath: here.path("")))

        try await there.prepare(after)
        let source = Given(here.driver)
        let told = try await there.takeOver(after, source)
        #expect(told.last.map { $0.0 == $0.1 } == true)
        #expect(told.map(\.0) == told.map(\.0).sorted())
        for name in ["disk", "disk.local", "disk.swap"] {
            #expect(try await areSame(here.aside(name), format, there.path(name)), "\(name)")
            #expect(try mode(there.path(name)) == 0o600)
        }
        #expect(try contents(there.path("console.log")) == "booted")
        let disks = try await there.driver.disks(of: after)
        let sizes: [Int64] = [2 << 30, 2 << 30, 64 << 20]
        for (disk, size) in zip(disks, sizes) {
            let has = format == .raw ? Files.size(disk.path) : try OverlayHeader.read(disk.path)?.virtualSizeBytes
            #expect(has == size, "\(disk.path)")
            #expect(disk.format == format)
            #expect(disk.backing.map { Files.parent($0) } == (format == .raw ? nil : there.instances + "/_base"))
            // Holes stay holes.
            #expect(try #require(Files.allocatedBytes(disk.path)) < 128 << 20)
        }
        // The file system that began on the other host's template is whole.
        let raw = there.folder.path + "/checked"
        #expect(
            try await tool(
                "qemu-img", "convert", "-f", format.rawValue, "-O", "raw", there.path("disk.local"), raw
            ).status == 0)
        #expect(try await tool("e2fsck", "-fn", raw).status == 0)
        #expect(
            there.names(there.path("")).filter { $0 != "migration.in" && $0 != "disk.info" }
                == ["console.log", "disk", "disk.local", "disk.swap"])

        // Done again nothing is fetched.
        source.read.withLock { $0 = [:] }
        _ = try await there.takeOver(after, source)
        #expect(source.read.withLock { $0.isEmpty })
        for _ in 1...2 { try await there.driver.removeTakenOver(Sample.id, of: first) }
        #expect(!FileManager.default.fileExists(atPath: there.path("")))
        for _ in 1...2 { try await here.driver.bringBack(Sample.id, of: first) }
        #expect(FileManager.default.fileExists(atPath: here.path("disk")))
        #expect(try await here.driver.setAside().isEmpty)
        await here.driver.stop()
        await there.driver.stop()
    }

    @Test("A disk that the flavor has anew, and swap of another size, are made; so is nothing for what it has no more")
    func changed() async throws {
        let (here, there) = (try await MoveBench(), try await MoveBench())
        try await here.make(MoveBench.guest(Sample.flavor(swap: 128)))
        try await here.driver.setAside(Sample.id, for: first)
        let after = MoveBench.guest(Sample.flavor(ephemeral: 1, swap: 64))
        try await there.prepare(after)
        for _ in 1...2 { _ = try await there.takeOver(after, Given(here.driver)) }
        #expect(try OverlayHeader.read(there.path("disk.local"))?.virtualSizeBytes == 1 << 30)
        #expect(try OverlayHeader.read(there.path("disk.swap"))?.virtualSizeBytes == 64 << 20)
        #expect(try OverlayHeader.read(there.path("disk.swap"))?.backing == there.instances + "/_base/swap_64")
        #expect(there.names(there.path("")).allSatisfy { !$0.hasSuffix(".arrived") && !$0.contains(".incoming") })
        try await there.driver.removeTakenOver(Sample.id, of: first)
        let none = MoveBench.guest(Sample.flavor())
        _ = try await there.takeOver(none, Given(here.driver))
        #expect(!FileManager.default.fileExists(atPath: there.path("disk.swap")))
        await here.driver.stop()
        await there.driver.stop()
    }

    @Test("A move whose source breaks off goes on where it was, whatever had been done to what is here")
    func resumed() async throws {
        let (here, there) = (try await MoveBench(), try await MoveBench())
        let before = MoveBench.guest(Sample.flavor(root: 1, ephemeral: 1))
        let after = MoveBench.guest(Sample.flavor(root: 3, ephemeral: 1))
        try await here.make(before)
        try await write(here.path("disk"), .qcow2, 0x5A, at: "0 80M")
        try await here.driver.setAside(Sample.id, for: first)
        try await there.prepare(after)
        let cable = Failure(.unreachable, "the cable is out", isRetriable: true)
        let source = Given(here.driver, .init(read: { if $0 == "disk", $1 > 70 << 20 { throw cable } else { $2 } }))
        await #expect(throws: cable) { _ = try await there.takeOver(after, source) }
        source.change.withLock { $0.read = { if $0 == "disk.local" { throw cable } else { $2 } } }
        source.read.withLock { $0 = [:] }
        await #expect(throws: cable) { _ = try await there.takeOver(after, source) }
        // 64 MiB were durable.
        #expect(source.read.withLock { $0["disk", default: 0] } < 20 << 20)
        #expect(FileManager.default.fileExists(atPath: there.path("disk")))

        // As if killed after the disk was fitted in, and before it had its name.
        try FileManager.default.moveItem(atPath: there.path("disk"), toPath: there.path("disk.arrived"))
        source.change.withLock { $0 = Given.Change() }
        source.read.withLock { $0 = [:] }
        _ = try await there.takeOver(after, source)
        #expect(source.read.withLock { $0["disk"] == nil })
        #expect(try await areSame(here.aside("disk"), .qcow2, there.path("disk")))
        #expect(try await areSame(here.aside("disk.local"), .qcow2, there.path("disk.local")))
        #expect(try OverlayHeader.read(there.path("disk"))?.virtualSizeBytes == 3 << 30)
        await #expect(throws: Failure.self) { _ = try await there.takeOver(after, source, of: second) }
        await here.driver.stop()
        await there.driver.stop()
    }

    @Test("In its own folder a disk is copied without anybody, and the old one is the way back")
    func resized() async throws {
        let bench = try await MoveBench()
        let before = MoveBench.guest(Sample.flavor(root: 1, ephemeral: 1))
        let after = MoveBench.guest(Sample.flavor(root: 2, ephemeral: 3))
        try await bench.make(before)
        try await write(bench.path("disk"), .qcow2, 0x5A, at: "100M 3M")
        try await write(bench.path("disk.local"), .qcow2, 0x5B, at: "300M 3M")
        for _ in 1...2 { try await bench.driver.setAside(Sample.id, for: first) }
        await #expect(throws: Failure.self) { try await bench.driver.setAside(Sample.id, for: second) }
        let old = try #require(FileManager.default.contents(atPath: bench.aside("disk")))
        for _ in 1...2 { _ = try await bench.takeOver(after, Nobody()) }
        #expect(try await areSame(bench.aside("disk"), .qcow2, bench.path("disk")))
        #expect(try await areSame(bench.aside("disk.local"), .qcow2, bench.path("disk.local")))
        #expect(try OverlayHeader.read(bench.path("disk"))?.virtualSizeBytes == 2 << 30)
        // On the template that it began on: on another, of another size, it would be bits and pieces.
        #expect(try OverlayHeader.read(bench.path("disk.local"))?.backing?.hasSuffix("/ephemeral_1_ext4") == true)
        #expect(FileManager.default.contents(atPath: bench.aside("disk")) == old)
        let conflict = await #expect(throws: Failure.self) { try await bench.driver.bringBack(Sample.id, of: first) }
        #expect(conflict?.kind == .conflict)
        try await bench.driver.removeTakenOver(Sample.id, of: first)
        try await bench.driver.bringBack(Sample.id, of: first)
        #expect(FileManager.default.contents(atPath: bench.path("disk")) == old)
        await bench.driver.stop()
    }

    @Test("A disk that is larger than the new flavor's is refused, and stays where it is")
    func smaller() async throws {
        let (here, there) = (try await MoveBench(), try await MoveBench())
        try await here.make(MoveBench.guest(Sample.flavor(root: 2)))
        try await here.driver.setAside(Sample.id, for: first)
        let after = MoveBench.guest(Sample.flavor(root: 1))
        try await there.prepare(after)
        let failure = await #expect(throws: Failure.self) { _ = try await there.takeOver(after, Given(here.driver)) }
        #expect(failure?.kind == .invalidParameters && failure?.isRetriable == false)
        #expect(!there.names(there.path("")).contains { $0.hasPrefix("disk") && $0 != "disk.info" })
        await here.driver.stop()
        await there.driver.stop()
    }

    @Test(
        "Files that no host of ours offers are refused before anything of them is asked for",
        arguments: ["../x", "disk.info", "disk/../../x", "migration", "disk.base", ""])
    func hostileName(name: String) async throws {
        try await refused { $0 + [MovedFile(name: name, sizeBytes: 1, dataBytes: 1, format: .raw)] }
    }

    @Test("Sizes that no disk of the flavor has are refused before anything of them is asked for")
    func hostileSizes() async throws {
        for (size, data) in [(Int64(-1), Int64(0)), (1, 2), (3 << 30, 1), (.max, 0), (1, -1)] {
            try await refused { $0.map { MovedFile(name: $0.name, sizeBytes: size, dataBytes: data, format: .qcow2) } }
        }
        try await refused { $0 + $0 }
        try await refused { _ in [] }
        try await refused { $0.map { MovedFile(name: $0.name, sizeBytes: 512, dataBytes: 512) } }
        try await refused { $0 + [MovedFile(name: "console.log", sizeBytes: 1 << 40, dataBytes: 0)] }
        try await refused { $0.map { MovedFile(name: $0.name, sizeBytes: 1 << 30, dataBytes: 1 << 62, format: .raw) } }
    }

    private func refused(_ list: @escaping @Sendable ([MovedFile]) -> [MovedFile]) async throws {
        let bench = try await MoveBench()
        let guest = MoveBench.guest()
        try await bench.make(guest)
        try await bench.driver.setAside(Sample.id, for: first)
        let source = Given(bench.driver, .init(list: list))
        let files = try await source.list()
        let plan = try DiskPlan(guest, fileSystem: nil)
        #expect(throws: Failure.self) { _ = try MoveOffer(files, plan) }
        await bench.driver.stop()
    }

    @Test(
        "A qcow2 file that names another host's secrets, or keeps data elsewhere, is refused and nothing is opened",
        arguments: [
            ["-o", "backing_file=/etc/passwd,backing_fmt=raw"], ["-o", "data_file=DATA,data_file_raw=on"],
            ["-o", #"backing_file=json:{"driver":"raw"},backing_fmt=raw"#], ["-o", "lazy_refcounts=on,extended_l2=on"],
        ])
    func hostileOverlay(options: [String]) async throws {
        let (here, there) = (try await MoveBench(), try await MoveBench())
        let guest = MoveBench.guest()
        try await here.make(guest)
        let options = options.map { $0.replacing("DATA", with: here.folder.path + "/data") }
        let made = try await run(
            Command(
                "qemu-img", ["create", "-q", "-u", "-f", "qcow2"] + options + [here.path("disk"), "1G"],
                timeout: .seconds(20)))
        try #require(made.status == 0, "\(made.errorText)")
        try await here.driver.setAside(Sample.id, for: first)
        try await there.prepare(guest)
        let failure = await #expect(throws: Failure.self) { _ = try await there.takeOver(guest, Given(here.driver)) }
        #expect(failure?.kind == .storage && failure?.isRetriable == false)
        #expect(!there.names(there.path("")).contains { $0.hasPrefix("disk") && $0 != "disk.info" })
        await here.driver.stop()
        await there.driver.stop()
    }

    @Test("A disk that stands alone stays so")
    func alone() async throws {
        let (here, there) = (try await MoveBench(), try await MoveBench())
        let guest = MoveBench.guest(Sample.flavor(root: 2))
        try await here.make(MoveBench.guest())
        let made = try await tool("qemu-img", "create", "-q", "-f", "qcow2", here.path("disk"), "1G")
        try #require(made.status == 0)
        try await here.driver.setAside(Sample.id, for: first)
        try await there.prepare(guest)
        _ = try await there.takeOver(guest, Given(here.driver))
        let header = try #require(try OverlayHeader.read(there.path("disk")))
        #expect(header.backing == nil && header.virtualSizeBytes == 2 << 30)
        await here.driver.stop()
        await there.driver.stop()
    }

    @Test("More data than was announced is refused, so that it takes no more room than there was")
    func flood() async throws {
        let folder = try TemporaryFolder()
        let file = MovedFile(name: "disk", sizeBytes: 1 << 40, dataBytes: 0, format: .raw)
        let incoming = IncomingFile(file: file, path: folder.path + "/disk", files: .init(name: "test", threads: 1))
        let flood = Flood()
        let failure = await #expect(throws: Failure.self) { try await incoming.fetch(from: flood) { _ in } }
        #expect(failure?.isRetriable == false)
        #expect(flood.reads.withLock { $0 } <= 65)
    }

    private final class Flood: MovedFiles {
        let reads = Mutex(0)
        func list() async throws -> [MovedFile] { [] }
        func extents(of name: String, from offset: Int64) async throws -> [DataExtent] {
            [DataExtent(offset: 0, length: 1 << 40)]
        }
        func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8] {
            reads.withLock { $0 += 1 }
            return [UInt8](repeating: 1, count: count)
        }
    }

    @Test("A fetch that is cancelled ends between two reads")
    func cancelled() async throws {
        let folder = try TemporaryFolder()
        let file = MovedFile(name: "disk", sizeBytes: 1 << 40, dataBytes: 1 << 40, format: .raw)
        let incoming = IncomingFile(file: file, path: folder.path + "/disk", files: .init(name: "test", threads: 1))
        let flood = Flood()
        let fetch = Task { try await incoming.fetch(from: flood) { _ in withUnsafeCurrentTask { $0?.cancel() } } }
        let failure = await #expect(throws: Failure.self) { try await fetch.value }
        #expect(failure?.kind == .cancelled && failure?.isRetriable == true)
        #expect(flood.reads.withLock { $0 } <= 3, "one, and the two that were under way")
    }

    @Test("The next pieces are asked for while one is on its way, and written in their order")
    func ahead() async throws {
        let folder = try TemporaryFolder()
        let source = Backward()
        let file = MovedFile(
            name: "disk", sizeBytes: Backward.size, dataBytes: Backward.size, format: .raw)
        let incoming = IncomingFile(file: file, path: folder.path + "/disk", files: .init(name: "test", threads: 1))
        let told = Mutex<[Int64]>([])
        try await incoming.fetch(from: source) { bytes in told.withLock { $0.append(bytes) } }
        let written = try #require(try Files.read(incoming.arrived, limit: Int(Backward.size)))
        #expect((0..<4).allSatisfy { written[$0 << 21] == UInt8($0 + 1) } && Int64(written.count) == Backward.size)
        #expect(told.withLock { $0 } == [1, 2, 3, 4].map { $0 << 21 })
    }

    /// Gives its first piece only once the third was asked for.
    private final class Backward: MovedFiles {
        static let size: Int64 = 8 << 20
        private let (third, sink) = AsyncStream<Void>.makeStream()

        func list() async throws -> [MovedFile] { [] }
        func extents(of name: String, from offset: Int64) async throws -> [DataExtent] {
            offset < Self.size ? [DataExtent(offset: 0, length: Self.size)] : []
        }
        func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8] {
            if offset == 0 { for await _ in third { break } }
            if offset == 4 << 20 { sink.yield() }
            var bytes = [UInt8](repeating: 0, count: count)
            bytes[0] = UInt8(offset >> 21) + 1
            return bytes
        }
    }
}

@Suite("Files that are given to another host")
struct GivenFilesTests {
    @Test("The parts with data are told, and read; holes are not")
    func extents() async throws {
        let bench = try await MoveBench(["libvirt.images_type": "raw"])
        try await bench.make(MoveBench.guest())
        try await write(bench.path("disk"), .raw, 0x5A, at: "512M 2M")
        try await bench.driver.setAside(Sample.id, for: first)
        let driver = bench.driver
        let disk = try #require(try await driver.setAsideFiles(Sample.id, of: first).first { $0.name == "disk" })
        #expect(disk.sizeBytes == 1 << 30 && disk.format == .raw && (2 << 20...4 << 20).contains(disk.dataBytes))
        let all = try await driver.setAsideExtents(Sample.id, of: first, file: "disk", from: 0)
        #expect(all.reduce(0) { $0 + $1.length } == disk.dataBytes)
        #expect(all.last?.offset == 512 << 20)
        let rest = try await driver.setAsideExtents(Sample.id, of: first, file: "disk", from: (512 << 20) + 4_096)
        #expect(rest == [DataExtent(offset: (512 << 20) + 4_096, length: (2 << 20) - 4_096)])
        #expect(try await driver.setAsideExtents(Sample.id, of: first, file: "disk", from: 1 << 40).isEmpty)
        let piece = try await driver.readSetAside(Sample.id, of: first, file: "disk", at: 512 << 20, count: 4 << 20)
        #expect(piece.prefix(2 << 20).allSatisfy { $0 == 0x5A } && piece.dropFirst(2 << 20).allSatisfy { $0 == 0 })
        for (offset, count) in [(Int64(-1), 1), (0, 0), (0, (4 << 20) + 1), ((1 << 30) - 1, 2), (.max - 8, 4)] {
            await #expect(throws: Failure.self) {
                _ = try await driver.readSetAside(Sample.id, of: first, file: "disk", at: offset, count: count)
            }
        }
        await #expect(throws: Failure.self) {
            _ = try await driver.setAsideExtents(Sample.id, of: first, file: "disk", from: -1)
        }
        await driver.stop()
    }

    @Test("A file with very many parts is told of in pieces")
    func many() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/disk"
        try Files.write([], to: path, mode: 0o600)
        try Files.resize(path, to: 64 << 20)
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        for number in 0..<1_500 {
            try handle.seek(toOffset: UInt64(number) * 32_768)
            try handle.write(contentsOf: Data([1]))
        }
        try handle.close()
        guard let file = try SetAsideFile(path) else {
            Issue.record("it is a regular file")
            return
        }
        let head = try file.extents(from: 0, limit: 1_000)
        #expect(head.count == 1_000)
        let end = try #require(head.last).end
        let tail = try file.extents(from: end, limit: 1_000)
        #expect(tail.count == 500)
        #expect(try file.dataBytes() == (head + tail).reduce(0) { $0 + $1.length })
    }

    @Test("Names that are none of a moved file's, links, and other migrations give nothing")
    func hostile() async throws {
        let bench = try await MoveBench()
        try await bench.make(MoveBench.guest(Sample.flavor(swap: 64)))
        try FileManager.default.createSymbolicLink(
            atPath: bench.path("disk.eph0"), withDestinationPath: "/etc/passwd")
        try #require(mkfifo(bench.path("disk.eph1"), 0o600) == 0)
        try FileManager.default.createDirectory(atPath: bench.path("disk.eph2"), withIntermediateDirectories: false)
        try Files.write([1], to: bench.path("notes"), mode: 0o600)
        try await bench.driver.setAside(Sample.id, for: first)
        let driver = bench.driver
        let names = try await driver.setAsideFiles(Sample.id, of: first).map(\.name)
        #expect(names == ["disk", "disk.swap", "disk.swap.base"])
        for name in [
            "../x", "../../../etc/passwd", "disk.eph0", "disk.eph1", "disk.eph2", "notes", "migration", "disk.info", "",
            "disk.base", "disk.local.base", ".", "disk.local",
        ] {
            let told = await #expect(throws: Failure.self, "\(name)") {
                _ = try await driver.setAsideExtents(Sample.id, of: first, file: name, from: 0)
            }
            let read = await #expect(throws: Failure.self, "\(name)") {
                _ = try await driver.readSetAside(Sample.id, of: first, file: name, at: 0, count: 1)
            }
            #expect(told?.kind == .notFound && read?.kind == .notFound)
        }
        let other = await #expect(throws: Failure.self) {
            _ = try await driver.setAsideFiles(Sample.id, of: second)
        }
        #expect(other?.kind == .notFound)
        await driver.stop()
    }

    @Test("Folders whose mark says nothing are left out of the list, and block no other")
    func unreadable() async throws {
        let bench = try await MoveBench()
        try await bench.make(MoveBench.guest())
        try await bench.driver.setAside(Sample.id, for: first)
        let odd = bench.instances + "/00000000-0000-4000-8000-000000000001_resize"
        try FileManager.default.createDirectory(atPath: odd, withIntermediateDirectories: false)
        try Files.write(Array("../x".utf8), to: odd + "/migration", mode: 0o600)
        try Files.write([], to: bench.instances + "/00000000-0000-4000-8000-000000000002_resize", mode: 0o600)
        #expect(try await bench.driver.setAside() == [Sample.id: first])
        _ = try await bench.driver.capacity()
        await bench.driver.stop()
    }

    @Test("The empty folder that a removal leaves which was cut off is in nobody's way")
    func leftovers() throws {
        let folder = try TemporaryFolder()
        let aside = try SetAsideFolder(Sample.id, in: folder.path, host: "kvm1")
        let home = folder.path + "/\(Sample.id)"
        try Files.makeFolder(home, mode: 0o711)
        try Files.write([1], to: home + "/disk", mode: 0o600)
        try Files.makeFolder(aside.path, mode: 0o711)
        try aside.fill(for: first)
        try Files.makeFolder(home, mode: 0o711)
        try aside.begin(first)
        #expect(try aside.arrival() == first)
        try aside.removeArrival(of: first)
        try Files.makeFolder(home, mode: 0o711)
        try aside.empty(of: first)
        #expect(Files.exists(home + "/disk") && !Files.exists(aside.path))
        // What had begun to arrive, and does not say of what.
        try Files.makeFolder(aside.unfinished, mode: 0o711)
        try aside.removeArrival(of: first)
        #expect(try folder.names == [Sample.id.rawValue])
    }
}

@Suite("NICs that come along")
struct AdoptedNetworkTests {
    @Test("On a bridge a NIC keeps its MAC and its role, in the network that this host has")
    func bridge() async throws {
        let bench = try await MoveBench(["compute.network": "bridge:br7"])
        let moved = NetworkInterface(
            network: "elsewhere", macAddress: "fa:16:3e:0a:0b:0c", ipv4Address: "10.9.0.7", tag: "front")
        let second = NetworkInterface(network: "br7", macAddress: "fa:16:3e:0a:0b:0d")
        for _ in 1...2 {
            #expect(
                try await bench.driver.adoptNetwork(Sample.id, [moved, second]) == [
                    NetworkInterface(network: "br7", macAddress: "fa:16:3e:0a:0b:0c", tag: "front"), second,
                ])
        }
        let guest = MoveBench.guest()
        var other = guest
        other.instance = Sample.instance(InstanceID("00000000-0000-4000-8000-000000000001"), number: 43)
        other.interfaces = [second]
        try await bench.make(other)
        try await bench.driver.define(other)
        let failure = await #expect(throws: Failure.self) {
            _ = try await bench.driver.adoptNetwork(Sample.id, [moved, second])
        }
        #expect(failure?.kind == .conflict)
        #expect(try await bench.driver.adoptNetwork(other.instance.id, [second]) == [second])
        try await bench.driver.leaveNetwork(Sample.id, [moved])
        await bench.driver.stop()
    }
}
