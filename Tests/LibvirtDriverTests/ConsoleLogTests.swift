import Foundation
import Glibc
import Model
import Testing

@testable import LibvirtDriver

@Suite("How much a console's log may take")
struct ConsoleLogTests {
    private func blocks(_ path: String) -> Int64 { Files.allocatedBytes(path) ?? 0 }

    @Test(
        "Of a log that takes too much the end stays, and its writer goes on where it was", arguments: [true, false])
    func cut(appends: Bool) throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/console.log"
        // As QEMU opens it, for a guest that was carried over and for one that was started here.
        let writer = open(path, O_WRONLY | O_CREAT | (appends ? O_APPEND : O_TRUNC), 0o600)
        defer { close(writer) }
        let line = Array("a line of sixteen".utf8.prefix(15)) + [10]
        func write(_ count: Int) {
            for _ in 0..<count { #expect(Glibc.write(writer, line, line.count) == line.count) }
        }
        let limit = ConsoleLogLimit(bytes: 1 << 20)
        write(60_000)
        try limit.apply(to: path)
        #expect(blocks(path) > 900_000, "it is within its limit")
        write(60_000)
        #expect(blocks(path) > 1 << 20)
        try limit.apply(to: path)
        #expect(blocks(path) <= (1 << 19) + 8_192 && blocks(path) >= 1 << 19)
        write(10)
        #expect(Files.size(path) == Int64(120_010 * line.count))
        let tail = try #require(try Files.read(path, from: Int64(120_010 - 30_000) * 16, limit: 30_000 * 16))
        #expect(tail == Array(repeatElement(line, count: 30_000).joined()))
        try limit.apply(to: path)
        #expect(Files.size(path) == Int64(120_010 * line.count), "once is enough")
    }

    @Test("A log that is not there is none, and a link is not followed")
    func absent() throws {
        let folder = try TemporaryFolder()
        try ConsoleLogLimit(bytes: 4_096).apply(to: folder.path + "/console.log")
        let target = folder.path + "/target"
        #expect(FileManager.default.createFile(atPath: target, contents: Data(repeating: 1, count: 1 << 20)))
        try FileManager.default.createSymbolicLink(atPath: folder.path + "/link", withDestinationPath: target)
        #expect(throws: Failure.self) { try ConsoleLogLimit(bytes: 4_096).apply(to: folder.path + "/link") }
        #expect(blocks(target) >= 1 << 20)
    }
}
