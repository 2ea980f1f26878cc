import Compute
import Crypto
import Foundation
import Glibc
import Model
import Processes
import Synchronization
import Telemetry
import Testing

@testable import LibvirtDriver

@Suite("Image cache")
struct ImageCacheTests {
    private let folder: TemporaryFolder
    private let cache: ImageCache
    private let files = BlockingExecutor(name: "test", threads: 2)

    init() throws {
        folder = try TemporaryFolder()
        cache = ImageCache(folder: folder.path, qemuImg: try #require(QemuImg()), files: files)
    }

    /// Hands `bytes` over in pieces, and counts how often it was asked.
    private final class Source: Sendable {
        let bytes: [UInt8]
        let calls = Atomic<Int>(0)

        init(_ bytes: [UInt8]) { self.bytes = bytes }

        var count: Int { calls.load(ordering: .relaxed) }

        var function: ImageSource {
            { write in
                self.calls.add(1, ordering: .relaxed)
                var offset = 0
                while offset < self.bytes.count {
                    let end = min(offset + 1_000, self.bytes.count)
                    try await write(Array(self.bytes[offset..<end]))
                    offset = end
                }
            }
        }
    }

    private func makeQCOW2(_ sizeMiB: Int = 3) async throws -> [UInt8] {
        let path = folder.path + "/made.qcow2"
        let made = try await run(
            Command("qemu-img", ["create", "-q", "-f", "qcow2", path, "\(sizeMiB)M"], timeout: .seconds(20)))
        #expect(made.status == 0)
        defer { unlink(path) }
        return Array(try Data(contentsOf: URL(fileURLWithPath: path)))
    }

    private let content = (0..<5_000).map { UInt8(truncatingIfNeeded: $0 * 7) }

    @Test("A raw image becomes a base of whole sectors, readable for QEMU's user")
    func raw() async throws {
        let image = Sample.image(content)
        try await cache.prepare(image, source: Source(content).function)
        let base = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/" + image.sha512))
        #expect(base.count == 5_120 && Array(base.prefix(5_000)) == content)
        #expect(try folder.names == [image.sha512])
        #expect(try mode(folder.path + "/" + image.sha512) == 0o644)
    }

    @Test("A qcow2 image becomes a raw base of its virtual size")
    func qcow2() async throws {
        let bytes = try await makeQCOW2()
        let image = Sample.image(bytes, format: .qcow2, virtualSize: 3 << 20)
        try await cache.prepare(image, source: Source(bytes).function)
        #expect(Files.size(folder.path + "/" + image.sha512) == 3 << 20)
    }

    @Test("One fetch however many ask")
    func singleFlight() async throws {
        let source = Source(content)
        let image = Sample.image(content)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<16 { group.addTask { [cache] in try await cache.prepare(image, source: source.function) } }
            try await group.waitForAll()
        }
        try await cache.prepare(image, source: source.function)
        #expect(source.count == 1)
    }

    @Test("Two processes that share the folder fetch once")
    func shared() async throws {
        let other = ImageCache(folder: folder.path, qemuImg: try #require(QemuImg()), files: files)
        let source = Source(content)
        let image = Sample.image(content)
        async let first: Void = cache.prepare(image, source: source.function)
        async let second: Void = other.prepare(image, source: source.function)
        _ = try await (first, second)
        #expect(source.count == 1)
        #expect(try folder.names == [image.sha512])
    }

    private func failure(_ image: ImageReference, _ bytes: [UInt8]) async throws -> Failure? {
        let error = await #expect(throws: Failure.self) {
            try await cache.prepare(image, source: Source(bytes).function)
        }
        #expect(try folder.names.isEmpty, "nothing may stay behind")
        return error
    }

    @Test("Bytes that are not those of the record are refused")
    func otherBytes() async throws {
        let image = Sample.image(content)
        #expect(try await failure(image, Array(content.dropLast()))?.message.contains("4999 came") == true)
        #expect(try await failure(image, content + [0])?.message.contains("more than the announced 5000") == true)
        let changed = try await failure(image, [9] + content.dropFirst())
        #expect(changed?.message.contains("another sha512 digest") == true)
        #expect(changed?.kind == .imageUnacceptable)
    }

    @Test("An image that is not what it claims is refused before qemu-img sees it")
    func disguised() async throws {
        let bytes = try await makeQCOW2()
        let disguised = try await failure(Sample.image(bytes), bytes)
        #expect(disguised?.kind == .imageUnacceptable && disguised?.isRetriable == false)
        #expect(disguised?.message.contains("a raw that begins with the signature of qcow2") == true)
        let larger = try await failure(Sample.image(bytes, format: .qcow2, virtualSize: 1 << 20), bytes)
        #expect(larger?.message.contains("recorded with 1048576 bytes, but its disk has 3145728") == true)
    }

    @Test("An image whose tables are garbage fails in qemu-img, within its limits, and leaves nothing")
    func garbage() async throws {
        var bytes = try await makeQCOW2()
        // The L1 table points far beyond the file, at data with the flag of a compressed cluster.
        let table = bytes[40..<48].reduce(0) { $0 << 8 | Int($1) }
        bytes.replaceSubrange(table..<table + 8, with: [0x80, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0x12, 0x34])
        let error = try await failure(Sample.image(bytes, format: .qcow2, virtualSize: 3 << 20), bytes)
        #expect(error?.kind == .storage || error?.kind == .imageUnacceptable)
    }

    @Test("A failing source gives its own error, and the next attempt may succeed")
    func sourceFails() async throws {
        let image = Sample.image(content)
        let unreachable = Failure(.unreachable, "no answer", isRetriable: true)
        await #expect(throws: unreachable) {
            try await cache.prepare(image) { write in
                try await write([1, 2, 3])
                throw unreachable
            }
        }
        try await cache.prepare(image, source: Source(content).function)
        #expect(try folder.names == [image.sha512])
    }

    @Test("What does not fit is refused before it is fetched, with the figures")
    func noSpace() async throws {
        var image = Sample.image(content)
        image.sizeBytes = 1 << 60
        let error = await #expect(throws: Failure.self) {
            try await cache.prepare(image, source: Source([]).function)
        }
        #expect(error?.kind == .storage && error?.isRetriable == true)
        #expect(error?.message.contains("needs \(Int64(1) << 60) bytes in \(folder.path), where ") == true)
    }

    @Test("Opening removes what killed processes left, but not what another one is fetching")
    func leftovers() async throws {
        let (dead, alive) = (String(repeating: "a", count: 128), String(repeating: "b", count: 128))
        for name in [dead, alive] {
            _ = try folder.write([1], to: name + ".part")
            _ = try folder.write([1], to: name + ".new")
        }
        let lock = try #require(try PartLock(folder.path + "/" + alive + ".part"))
        try await cache.open()
        #expect(try folder.names == [alive + ".new", alive + ".part"])
        try lock.removeFile()
    }

    @Test("Without a digest there is no key", arguments: ["", "../../etc/passwd", String(repeating: "A", count: 128)])
    func key(digest: String) async throws {
        var image = Sample.image(content)
        image.sha512 = digest
        let error = await #expect(throws: Failure.self) {
            try await cache.prepare(image, source: Source(content).function)
        }
        #expect(error?.kind == .imageUnacceptable)
    }
}

@Suite("Waiting for one flight")
struct SingleFlightTests {
    @Test("Who is cancelled leaves at once; the others get the result")
    func leave() async throws {
        let flights = SingleFlight()
        let (gate, open) = AsyncStream<Void>.makeStream()
        let (started, start) = AsyncStream<Void>.makeStream()
        let body: SingleFlight.Body = {
            start.yield()
            for await _ in gate { return }
        }
        let stays = Task { try await flights.run("k", body) }
        for await _ in started { break }
        let leaves = Task { try await flights.run("k", body) }
        leaves.cancel()
        await #expect(throws: CancellationError.self) { try await leaves.value }
        open.yield()
        try await stays.value
    }

    @Test("When nobody waits any more the flight is cancelled, and the next one flies anew")
    func abandoned() async throws {
        let flights = SingleFlight()
        let (started, start) = AsyncStream<Void>.makeStream()
        let alone = Task {
            try await flights.run("k") {
                start.yield()
                // Ends by cancellation only.
                for await _ in AsyncStream<Void>.makeStream().stream {}
                try Task.checkCancellation()
            }
        }
        for await _ in started { break }
        alone.cancel()
        await #expect(throws: CancellationError.self) { try await alone.value }
        let ran = Atomic<Bool>(false)
        try await flights.run("k") { ran.store(true, ordering: .relaxed) }
        let hasRun = ran.load(ordering: .relaxed)
        #expect(hasRun)
    }
}
