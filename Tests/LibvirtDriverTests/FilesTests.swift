import Foundation
import Model
import Testing

@testable import LibvirtDriver

@Suite("Files")
struct FilesTests {
    @Test(
        "A file is read from the offset up to its end or the limit, in as much memory as that takes",
        arguments: [
            (0, 0, 4 << 20), (10, 0, 4 << 20), (16_384, 0, 4 << 20), (16_385, 0, 4 << 20), (100_000, 0, 4 << 20),
            (100_000, 99_999, 64), (100_000, 200_000, 64), (100_000, 5, 40_000), (100_000, 0, 32_768), (10, 0, 0),
        ])
    func read(size: Int, offset: Int, limit: Int) throws {
        let folder = try TemporaryFolder()
        let content = (0..<size).map { UInt8(truncatingIfNeeded: $0 % 251) }
        try Data(content).write(to: URL(fileURLWithPath: folder.path + "/file"))
        let read = try #require(try Files.read(folder.path + "/file", from: Int64(offset), limit: limit))
        #expect(read == Array(content.dropFirst(offset).prefix(limit)))
        // A limit far above what is there once cost the agent its 4 MiB for good.
        #expect(read.capacity <= max(2 * size, 65_536))
        #expect(try Files.read(folder.path + "/other", limit: limit) == nil)
    }

    @Test("A file is replaced as a whole, and of a replacement that fails nothing is left")
    func replace() throws {
        let folder = try TemporaryFolder()
        let file = folder.path + "/file"
        for text in ["a long one", "short"] {
            try Files.replace(file, with: Array(text.utf8), mode: 0o600)
            #expect(try Files.read(file, limit: 100) == Array(text.utf8))
        }
        // What the full disk of a host does to the writing, a folder of that name does to the last step.
        let place = folder.path + "/place"
        try FileManager.default.createDirectory(atPath: place + "/inside", withIntermediateDirectories: true)
        #expect(throws: Failure.self) { try Files.replace(place, with: [1], mode: 0o600) }
        #expect(Set(try Files.names(in: folder.path)) == ["file", "place"])
    }
}
