import Foundation
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
}
