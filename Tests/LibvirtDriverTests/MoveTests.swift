import Compute
import Crypto
import Foundation
import Model
import Synchronization
import Telemetry
import Testing

@testable import LibvirtDriver

@Suite("Folders that are set aside, and what arrives")
struct SetAsideTests {
    private let id = InstanceID("11111111-2222-4333-8444-555555555555")
    private let first = MigrationID("aaaaaaaa-2222-4333-8444-555555555555")
    private let second = MigrationID("bbbbbbbb-2222-4333-8444-555555555555")

    @Test("A folder is set aside and put back, as often as it is asked, and for its own migration alone")
    func aside() throws {
        let place = try Place()
        try place.make(id, ["disk": "data"])
        let folder = try SetAsideFolder(id, in: place.path, host: "kvm1")
        for _ in 1...2 {
            try folder.fill(for: first)
            #expect(try folder.migration() == first)
            #expect(place.names == ["\(id)_resize"])
        }
        #expect(throws: Failure.self) { try folder.fill(for: second) }
        try folder.empty(of: second)
        try folder.remove(of: second)
        #expect(place.names == ["\(id)_resize"])
        for _ in 1...2 {
            try folder.empty(of: first)
            #expect(place.names == [id.rawValue] && place.files(id) == ["disk"])
        }
        try folder.fill(for: second)
        try folder.remove(of: second)
        try folder.remove(of: second)
        #expect(place.names.isEmpty)
        #expect(throws: Failure.self) { try folder.fill(for: first) }
    }

    @Test("What would be overwritten is a conflict")
    func conflict() throws {
        let place = try Place()
        try place.make(id, ["disk": "old"])
        let folder = try SetAsideFolder(id, in: place.path, host: "kvm1")
        try folder.fill(for: first)
        try place.make(id, ["disk": "new"])
        let failure = #expect(throws: Failure.self) { try folder.empty(of: first) }
        #expect(failure?.kind == .conflict)
        #expect(place.files(id) == ["disk"])
    }

    @Test("Only what came by the migration is removed with it: on a shared folder the rest is the guest's own")
    func arrival() throws {
        let place = try Place()
        try place.make(id, ["disk": "the guest's own"])
        let folder = try SetAsideFolder(id, in: place.path, host: "kvm1")
        #expect(throws: Failure.self) { try folder.begin(first) }
        try folder.removeArrival(of: first)
        #expect(place.files(id) == ["disk"])
        try folder.fill(for: first)
        for _ in 1...2 { try folder.begin(first) }
        #expect(throws: Failure.self) { try folder.begin(second) }
        // Another host that shares the folder, and was asked for room by the same migration, has made nothing of it.
        let other = try SetAsideFolder(id, in: place.path, host: "kvm2")
        #expect(try other.arrival() == nil)
        try other.removeArrival(of: first)
        #expect(throws: Failure.self) { try other.begin(first) }
        try folder.removeArrival(of: second)
        #expect(place.names == [id.rawValue, "\(id)_resize"])
        for _ in 1...2 { try folder.removeArrival(of: first) }
        #expect(place.names == ["\(id)_resize"])
    }

    @Test("Ids that are no uuids lead nowhere", arguments: ["../x", "", "AAAAAAAA-2222-4333-8444-555555555555"])
    func ids(text: String) throws {
        let place = try Place()
        #expect(throws: Failure.self) { _ = try SetAsideFolder(InstanceID(text), in: place.path, host: "kvm1") }
        try place.make(id, [:])
        #expect(throws: Failure.self) {
            try SetAsideFolder(id, in: place.path, host: "kvm1").fill(for: MigrationID(text))
        }
        #expect(place.names == [id.rawValue])
    }

    @Test("Of the files only disks, the config drive and the console's log are moved")
    func names() {
        for name in ["disk", "disk.local", "disk.eph0", "disk.eph12", "disk.swap", "disk.config", "console.log.1"] {
            #expect(MovedName.isOne(name), "\(name)")
        }
        for name in [
            "", "migration", "disk.info", "disk.eph", "disk.ephx", "disk.eph0000", "../disk", "disk/../x",
            "disk.rescue",
            "console.log.2",
        ] {
            #expect(!MovedName.isOne(name), "\(name)")
        }
    }
}

@Suite("Files from another host")
struct IncomingFileTests {
    private let executor = BlockingExecutor(name: "incoming", threads: 2)

    @Test("Data arrives, holes stay holes, and what is complete has its name")
    func whole() async throws {
        let place = try Place()
        let source = Source(size: 8 << 20, data: [(1 << 20, 3 << 20), (6 << 20, 1_000)])
        let incoming = source.incoming(place.path + "/disk", executor)
        try await incoming.fetch(from: source) { _ in }
        #expect(!FileManager.default.fileExists(atPath: incoming.path))
        try await incoming.finish()
        #expect(FileManager.default.contents(atPath: incoming.path).map(Array.init) == source.content)
        #expect((Files.allocatedBytes(incoming.path) ?? .max) < 5 << 20)
        #expect(place.names == ["disk"])
    }

    @Test("A fetch that broke off goes on from what was durable")
    func resumed() async throws {
        let place = try Place()
        let source = Source(size: 200 << 20, data: [(0, 200 << 20)])
        source.breaksAt.withLock { $0 = 150 << 20 }
        let incoming = source.incoming(place.path + "/disk", executor)
        let failure = await #expect(throws: Failure.self) { try await incoming.fetch(from: source) { _ in } }
        #expect(failure?.isRetriable == true)
        source.breaksAt.withLock { $0 = nil }
        source.lowest.withLock { $0 = .max }
        try await incoming.fetch(from: source) { _ in }
        // Two stretches of 64 MiB were durable.
        #expect(source.lowest.withLock { $0 } == 128 << 20)
        try await incoming.finish()
        #expect(FileManager.default.contents(atPath: incoming.path).map(Array.init) == source.content)
        // What is of another size is begun anew.
        let other = Source(size: 1 << 20, data: [(0, 1 << 20)])
        let again = other.incoming(place.path + "/disk", executor)
        try await again.fetch(from: other) { _ in }
        #expect(other.lowest.withLock { $0 } == 0)
    }

    @Test("What was written beyond the durable part is not counted twice when a fetch goes on")
    func countedOnce() async throws {
        let place = try Place()
        let source = Source(size: 192 << 20, data: [(0, 32 << 20), (96 << 20, 96 << 20)])
        source.breaksAt.withLock { $0 = 150 << 20 }
        let incoming = source.incoming(place.path + "/disk", executor)
        await #expect(throws: Failure.self) { try await incoming.fetch(from: source) { _ in } }
        source.breaksAt.withLock { $0 = nil }
        source.lowest.withLock { $0 = .max }
        let told = Mutex<[Int64]>([])
        try await incoming.fetch(from: source) { bytes in told.withLock { $0.append(bytes) } }
        // The first stretch ended with the first piece behind the hole; in front of it are 34 MiB of data.
        #expect(source.lowest.withLock { $0 } == 98 << 20)
        #expect(told.withLock { $0.first } == 36 << 20 && told.withLock { $0.last } == 128 << 20)
    }

    @Test(
        "Parts that cannot be are refused, and nothing goes on for ever",
        arguments: [
            [DataExtent(offset: -1, length: 10)], [DataExtent(offset: 0, length: 0)],
            [DataExtent(offset: 1_048_570, length: 10)], [DataExtent(offset: Int64.max - 2, length: 10)],
            [DataExtent(offset: 100, length: 10), DataExtent(offset: 0, length: 10)],
            [DataExtent(offset: 0, length: 100), DataExtent(offset: 50, length: 100)],
            [DataExtent(offset: 0, length: 10), DataExtent(offset: 0, length: 10)],
            (0...1_000).map { DataExtent(offset: $0 * 8, length: 4) },
            [DataExtent(offset: 0, length: Int64.max)],
        ])
    func hostile(extents: [DataExtent]) async throws {
        let place = try Place()
        let source = Source(size: 1 << 20, data: [(0, 1 << 20)])
        source.told.withLock { $0 = extents }
        let incoming = source.incoming(place.path + "/disk", executor)
        await #expect(throws: Failure.self) { try await incoming.fetch(from: source) { _ in } }
        #expect(!place.names.contains("disk"))
    }

    @Test("Bytes of another number than were asked for are refused")
    func short() async throws {
        let place = try Place()
        let source = Source(size: 1 << 20, data: [(0, 1 << 20)])
        source.shortens.withLock { $0 = true }
        let incoming = source.incoming(place.path + "/disk", executor)
        await #expect(throws: Failure.self) { try await incoming.fetch(from: source) { _ in } }
    }
}

@Suite("qcow2 files from another host")
struct IncomingOverlayTests {
    @Test("A disk that stands on another host's base comes to stand on our own; the other is never opened")
    func rebased() async throws {
        let place = try Place()
        let tool = try #require(QemuImg())
        let (mine, disk) = (place.path + "/base", place.path + "/disk")
        try Files.write(Array(repeating: 7, count: 1 << 20), to: mine, mode: 0o600)
        try await tool.createOverlay(disk, base: mine, sizeBytes: 1 << 20)
        var bytes = try #require(FileManager.default.contents(atPath: disk)).map(\.self)
        // As a hostile host would have it.
        let evil = Array("/etc/shadow".utf8)
        let offset = bytes[8..<16].reduce(0) { $0 << 8 | Int($1) }
        bytes.replaceSubrange(offset..<(offset + evil.count), with: evil)
        bytes[19] = UInt8(evil.count)
        try Files.write(bytes, to: disk, mode: 0o600)
        #expect(try OverlayHeader.inspect(disk).backing == "/etc/shadow")
        try await tool.rebase(disk, onto: mine)
        #expect(try OverlayHeader.inspect(disk).backing == mine)
        try await tool.grow(disk, format: .qcow2, to: 3 << 20)
        #expect(try OverlayHeader.inspect(disk).virtualSizeBytes == 3 << 20)
    }

    @Test(
        "What no disk of ours is, is refused",
        arguments: [(79, 4), (79, 2), (79, 16), (72, 128), (35, 1), (63, 1), (7, 9), (0, 0)] as [(Int, UInt8)])
    func refused(place offset: Int, value: UInt8) async throws {
        let place = try Place()
        let tool = try #require(QemuImg())
        let (mine, disk) = (place.path + "/base", place.path + "/disk")
        try Files.write(Array(repeating: 7, count: 1 << 20), to: mine, mode: 0o600)
        try await tool.createOverlay(disk, base: mine, sizeBytes: 1 << 20)
        var bytes = try #require(FileManager.default.contents(atPath: disk)).map(\.self)
        bytes[offset] = value
        try Files.write(bytes, to: disk, mode: 0o600)
        #expect(throws: Failure.self) { _ = try OverlayHeader.inspect(disk) }
    }
}

@Suite("Addresses that come along")
struct AdoptedAddressTests {
    @Test("An entry is found by its MAC, and becomes the instance's")
    func table() throws {
        let address = try #require(IPv4Address("192.168.122.7"))
        let id = InstanceID("11111111-2222-4333-8444-555555555555")
        var table = AddressTable(target: 2)
        table.insert(AddressTable.Entry(mac: "fa:16:3e:00:00:01", address: address, owner: nil))
        let spare = try #require(table.entry(withMAC: "fa:16:3e:00:00:01"))
        table.give(spare, to: id, key: "second")
        #expect(table.entry(of: id, key: "second")?.address == address)
        #expect(table.entry(withMAC: "fa:16:3e:00:00:02") == nil && table.spares.isEmpty)
    }
}

/// A folder of a test, removed with it.
private final class Place: Sendable {
    let path = NSTemporaryDirectory() + "apus-moves-" + UUID().uuidString

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }

    func files(_ id: InstanceID) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: path + "/" + id.rawValue).sorted()) ?? []
    }

    func make(_ id: InstanceID, _ files: [String: String]) throws {
        let folder = path + "/" + id.rawValue
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for (name, text) in files { try Files.write(Array(text.utf8), to: folder + "/" + name, mode: 0o600) }
    }
}

/// Another host with one file, as honest as the test says.
private final class Source: MovedFiles {
    let content: [UInt8]
    private let data: [DataExtent]
    let breaksAt = Mutex<Int64?>(nil)
    /// The lowest place that was asked for.
    let lowest = Mutex<Int64>(.max)
    let told = Mutex<[DataExtent]?>(nil)
    let shortens = Mutex(false)

    init(size: Int, data: [(Int, Int)]) {
        var content = [UInt8](repeating: 0, count: size)
        for (offset, length) in data {
            for index in stride(from: offset, to: offset + length, by: 509) { content[index] = UInt8(index % 251 + 1) }
        }
        self.content = content
        self.data = data.map { DataExtent(offset: Int64($0.0), length: Int64($0.1)) }
    }

    func incoming(_ path: String, _ executor: BlockingExecutor) -> IncomingFile {
        let file = MovedFile(
            name: "disk", sizeBytes: Int64(content.count), dataBytes: data.reduce(0) { $0 + $1.length }, format: .raw)
        return IncomingFile(file: file, path: path, files: executor)
    }

    func list() async throws -> [MovedFile] { [] }

    func extents(of name: String, from offset: Int64) async throws -> [DataExtent] {
        if let told = told.withLock({ $0 }) { return told }
        return data.filter { $0.end > offset }
    }

    func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8] {
        if let end = breaksAt.withLock({ $0 }), offset >= end {
            throw Failure(.unreachable, "the cable is out", isRetriable: true)
        }
        lowest.withLock { $0 = min($0, offset) }
        return Array(content[Int(offset)..<Int(offset) + count].dropLast(shortens.withLock { $0 } ? 1 : 0))
    }
}
