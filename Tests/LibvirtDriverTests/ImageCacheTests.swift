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
            { start, write in
                self.calls.add(1, ordering: .relaxed)
                var offset = Int(start)
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
            try await cache.prepare(image) { _, write in
                try await write(Array(content.prefix(3)))
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

    @Test("Opening removes what killed processes left and nobody can use, but not what another one is fetching")
    func leftovers() async throws {
        let (dead, alive) = (String(repeating: "a", count: 128), String(repeating: "b", count: 128))
        let empty = String(repeating: "c", count: 128)
        for name in [dead, alive, "swap_64", empty] {
            _ = try folder.write(name == empty ? [] : [1], to: name + ".part")
            _ = try folder.write([1], to: name + ".new")
        }
        let lock = try #require(try PartLock(folder.path + "/" + alive + ".part"))
        try await cache.open()
        #expect(try folder.names == [dead + ".part", alive + ".new", alive + ".part"])
        try lock.removeFile()
    }

    /// Hands `bytes` over from where it is asked, and breaks off after `piece` bytes each time.
    private final class BreakingSource: Sendable {
        let bytes: [UInt8]
        let piece: Int
        let offsets = Mutex<[Int64]>([])
        static let broken = Failure(.unreachable, "broken off", isRetriable: true)

        init(_ bytes: [UInt8], piece: Int) { (self.bytes, self.piece) = (bytes, piece) }

        var function: ImageSource {
            { start, write in
                self.offsets.withLock { $0.append(start) }
                let end = min(Int(start) + self.piece, self.bytes.count)
                if Int(start) < end { try await write(Array(self.bytes[Int(start)..<end])) }
                if end < self.bytes.count { throw Self.broken }
            }
        }
    }

    @Test("After a break the fetch goes on from the bytes that are there, at once while it gets on")
    func resume() async throws {
        let bytes = (0..<5 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let source = BreakingSource(bytes, piece: 2 << 20)
        let image = Sample.image(bytes)
        try await cache.prepare(image, source: source.function)
        #expect(source.offsets.withLock { $0 } == [0, 2 << 20, 4 << 20])
        #expect(try Array(Data(contentsOf: URL(fileURLWithPath: folder.path + "/" + image.sha512))) == bytes)
        #expect(try folder.names == [image.sha512])
    }

    @Test("A fetch that hardly gets on fails as its source did; the next one, of another process, goes on")
    func laterResume() async throws {
        let source = BreakingSource(content, piece: 2_000)
        let image = Sample.image(content)
        for left in [2_000, 4_000] {
            await #expect(throws: BreakingSource.broken) { try await cache.prepare(image, source: source.function) }
            #expect(try folder.names == [image.sha512 + ".part"])
            #expect(Files.size(folder.path + "/" + image.sha512 + ".part") == Int64(left))
        }
        let next = ImageCache(folder: folder.path, qemuImg: try #require(QemuImg()), files: files)
        try await next.open()
        try await next.prepare(image, source: source.function)
        #expect(source.offsets.withLock { $0 } == [0, 2_000, 4_000])
        #expect(try folder.names == [image.sha512])
    }

    @Test("While another process fetches everybody waits; when it is killed, its bytes are gone on from")
    func killed() async throws {
        let image = Sample.image(content)
        let part = try folder.write(Array(content.prefix(3_000)), to: image.sha512 + ".part")
        let other = Process()
        other.executableURL = URL(fileURLWithPath: try #require(find(program: "flock")))
        // Becomes the sleeping program, with the lock.
        other.arguments = ["--no-fork", part, "sleep", "600"]
        try other.run()
        while try PartLock(part) != nil { await Task.yield() }
        let source = BreakingSource(content, piece: 1 << 20)
        let fetch = Task { [cache] in try await cache.prepare(image, source: source.function) }
        let asked = source.offsets.withLock { $0 }
        #expect(asked.isEmpty)
        kill(other.processIdentifier, SIGKILL)
        other.waitUntilExit()
        try await fetch.value
        #expect(source.offsets.withLock { $0 } == [3_000])
        #expect(try folder.names == [image.sha512])
    }

    @Test("A cancelled fetch leaves its bytes to the next one")
    func cancelledFetch() async throws {
        let image = Sample.image(content)
        let (reached, reach) = AsyncStream<Void>.makeStream()
        let fetch = Task { [cache, content] in
            try await cache.prepare(image) { _, write in
                try await write(Array(content.prefix(1_234)))
                reach.yield()
                for await _ in AsyncStream<Void>.makeStream().stream {}
                try Task.checkCancellation()
            }
        }
        for await _ in reached { break }
        fetch.cancel()
        let error = await #expect(throws: Failure.self) { try await fetch.value }
        #expect(error?.kind == .cancelled)
        let source = BreakingSource(content, piece: 1 << 20)
        try await cache.prepare(image, source: source.function)
        #expect(source.offsets.withLock { $0 } == [1_234])
    }

    @Test("Bytes left on disk that are not the image's are found out by the digest, and fetched anew")
    func spoiledRest() async throws {
        let image = Sample.image(content)
        _ = try folder.write([UInt8](repeating: 0, count: 2_000), to: image.sha512 + ".part")
        let error = await #expect(throws: Failure.self) {
            try await cache.prepare(image, source: Source(content).function)
        }
        #expect(error?.kind == .imageUnacceptable && error?.isRetriable == true)
        #expect(try folder.names.isEmpty)
        _ = try folder.write([UInt8](repeating: 0, count: 6_000), to: image.sha512 + ".part")
        try await cache.prepare(image, source: Source(content).function)
        #expect(try folder.names == [image.sha512])
    }

    @Test("All bytes were there when the process was killed: nothing is fetched")
    func completeRest() async throws {
        let image = Sample.image(content)
        _ = try folder.write(content, to: image.sha512 + ".part")
        _ = try folder.write([1], to: image.sha512 + ".new")
        try await cache.prepare(image) { _, _ in Issue.record("fetched") }
        #expect(try folder.names == [image.sha512])
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
