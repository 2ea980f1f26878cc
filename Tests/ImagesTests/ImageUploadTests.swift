import Crypto
import Foundation
import HTTP
import Images
import Model
import Testing

@Suite("Uploading an image")
struct ImageUploadTests {
    static let bytes = [UInt8]((0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })

    @Test("Bytes that are what was claimed make the image active, with size and digests")
    func success() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.upload(id, Self.bytes).status == 204)
            let image = try await images.show(id)
            #expect(image["status"] == "active")
            #expect(image["size"] == 10_000)
            #expect(image["virtual_size"] == 10_240)
            #expect(image["checksum"]?.text == Hex.encode(digest(.md5, of: Self.bytes)))
            #expect(image["os_hash_algo"] == "sha512")
            #expect(image["os_hash_value"]?.text == Hex.encode(digest(.sha512, of: Self.bytes)))
            #expect(try images.files == [id])
            #expect(FileManager.default.contents(atPath: "\(images.folder)/\(id)").map([UInt8].init) == Self.bytes)
        }
    }

    @Test("What is refused leaves the image queued and nothing on disk", arguments: Refusal.all)
    func refusal(_ refusal: Refusal) async throws {
        try await ImageFixture.run(sizeLimit: 20_000) { images in
            let id = try await images.register(["disk_format": .string(refusal.format)])
            let answer = await images.send(
                .put, "/v2/images/\(id)/file", type: refusal.type, length: refusal.length,
                body: .stream(refusal.source))
            #expect(answer.status == refusal.status)
            #expect(String(decoding: answer.bytes, as: UTF8.self).contains(refusal.text))
            #expect(try await images.show(id)["status"] == "queued")
            #expect(try await images.show(id)["size"] == .null)
            #expect(try images.files.isEmpty)
            #expect(await images.upload(id, refusal.format == "raw" ? Self.bytes : Self.qcow2).status == 204)
        }
    }

    struct Refusal: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var format = "raw"
        var type = "application/octet-stream"
        var length: Int?
        var source: any ByteSource
        var status: Int
        var text: String

        static let all = [
            Refusal(
                testDescription: "raw that begins as qcow2", length: 512, source: BytesSource(qcow2),
                status: 400, text: "raw"),
            Refusal(
                testDescription: "qcow2 that is raw", format: "qcow2", length: 10_000, source: BytesSource(bytes),
                status: 400, text: "qcow2"),
            Refusal(
                testDescription: "qcow2 with a backing file", format: "qcow2",
                source: BytesSource(backed), status: 400, text: "backing file"),
            Refusal(
                testDescription: "fewer bytes than announced", length: 10_001, source: BytesSource(bytes),
                status: 400, text: "10001"),
            Refusal(
                testDescription: "the client goes away", length: 10_000, source: broken(.disconnected),
                status: 400, text: "before all bytes"),
            Refusal(testDescription: "too slow", source: broken(.timedOut), status: 408, text: "in time"),
            Refusal(
                testDescription: "announced beyond the limit", length: 20_001, source: BytesSource(bytes),
                status: 413, text: "20000 bytes"),
            Refusal(
                testDescription: "beyond the limit, not announced", source: BytesSource(bytes + bytes + bytes),
                status: 413, text: "20000 bytes"),
            Refusal(testDescription: "empty", length: 0, source: BytesSource([]), status: 400, text: "empty"),
            Refusal(
                testDescription: "not octets", type: "application/json", source: BytesSource(bytes), status: 415,
                text: "octet-stream"),
        ]

        /// Gives 1,000 bytes and then `error`.
        private static func broken(_ error: RequestBodyError) -> ClosureSource {
            let first = BytesSource([UInt8](repeating: 1, count: 1_000))
            return ClosureSource {
                if let bytes = await first.next() { return bytes }
                throw error
            }
        }
    }

    /// An empty qcow2 disk of 32 KiB: version 2, clusters of 512 bytes, its tables in place.
    static let qcow2: [UInt8] = {
        var file = [UInt8](repeating: 0, count: 2_048)
        file.replaceSubrange(0..<8, with: [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 2])
        file[23] = 9
        file[30] = 0x80
        file[39] = 1
        file[46] = 6
        file[54] = 2
        file[59] = 1
        return file
    }()

    static let backed: [UInt8] = {
        var header = qcow2
        header[15] = 72
        header[19] = 4
        header.replaceSubrange(72..<76, with: Array("/etc".utf8))
        return header
    }()

    @Test("An image takes bytes once; then 409")
    func onlyOnce() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.upload(id, Self.bytes).status == 204)
            #expect(await images.upload(id, [1, 2, 3]).status == 409)
            #expect(try await images.show(id)["size"] == 10_000)
        }
    }

    @Test("While one upload runs, another one and a delete do not break each other")
    func overlap() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            let (gate, opener) = AsyncStream.makeStream(of: [UInt8].self)
            let begun = AsyncStream.makeStream(of: Void.self)
            let feed = Feed(gate) { begun.continuation.yield() }
            async let first = images.send(
                .put, "/v2/images/\(id)/file", type: "application/octet-stream", body: .stream(feed))
            var waiting = begun.stream.makeAsyncIterator()
            await waiting.next()
            #expect(try await images.show(id)["status"] == "saving")
            #expect(await images.upload(id, Self.bytes).status == 409)
            #expect(await images.send(.delete, "/v2/images/\(id)").status == 204)
            opener.yield(Self.bytes)
            opener.finish()
            #expect(await first.status == 404)
            #expect(try images.files.isEmpty)
        }
    }

    actor Feed: ByteSource {
        private let stream: AsyncStream<[UInt8]>
        private let onFirst: @Sendable () -> Void
        private var hasBegun = false

        init(_ stream: AsyncStream<[UInt8]>, onFirst: @escaping @Sendable () -> Void) {
            (self.stream, self.onFirst) = (stream, onFirst)
        }

        func next() async throws -> [UInt8]? {
            if !hasBegun {
                hasBegun = true
                onFirst()
            }
            return await stream.first { _ in true }
        }
    }

    @Test("Disk format and container format must be set before the bytes come")
    func formatsFirst() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register(["container_format": .null])
            let answer = await images.upload(id, Self.bytes)
            #expect(answer.status == 400)
            #expect(String(decoding: answer.bytes, as: UTF8.self).contains("must be set prior"))
        }
    }

    @Test("At start, parts without a writer go, and their images are queued again")
    func recovery() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            var image = try #require(try await images.storage.find(ImageID(id)))
            image.status = .saving
            #expect(try await images.storage.replace(image))
            #expect(FileManager.default.createFile(atPath: "\(images.folder)/\(id).part", contents: Data([1, 2])))
            try await images.service.recover()
            #expect(try images.files.isEmpty)
            #expect(try await images.show(id)["status"] == "queued")
        }
    }

    @Test("Downloads give the file with its MD5; without bytes 204; deactivated images give none")
    func download() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.send(.get, "/v2/images/\(id)/file").status == 204)
            #expect(await images.upload(id, Self.bytes).status == 204)
            let answer = await images.send(.get, "/v2/images/\(id)/file")
            #expect(answer.status == 200)
            #expect(answer.headers["Content-MD5"] == Hex.encode(digest(.md5, of: Self.bytes)))
            guard case .file(let path, _, let length) = answer.body else {
                Issue.record("the body is not the file")
                return
            }
            #expect(path == "\(images.folder)/\(id)" && length == 10_000)
            #expect(await images.send(.post, "/v2/images/\(id)/actions/deactivate").status == 204)
            #expect(await images.send(.get, "/v2/images/\(id)/file").status == 403)
            #expect(await images.send(.get, "/v2/images/\(id)/file", as: "p2/admin").status == 200)
            #expect(await images.send(.post, "/v2/images/\(id)/actions/reactivate").status == 204)
            #expect(await images.send(.get, "/v2/images/\(id)/file").status == 200)
        }
    }
}
