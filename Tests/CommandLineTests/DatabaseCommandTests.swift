import Foundation
import Testing

@testable import CommandLine

@Suite("apus db")
struct DatabaseCommandTests {
    /// What a command on a state folder prints, and its exit code.
    private func run(_ arguments: String..., in folder: String) async -> (code: Int32, text: String) {
        let transcript = Transcript()
        let code = await ApusProgram.run(
            ["db"] + arguments + ["--state-path", folder, "--config-file", folder + "/none.conf"], transcript.terminal)
        return (code, transcript.out + transcript.err)
    }

    @Test("A database is made, checked, copied into another and compared")
    func life() async throws {
        let folder = NSTemporaryDirectory() + "apus-db-" + UUID().uuidString
        let other = folder + "/other"
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
        try Data().write(to: URL(fileURLWithPath: folder + "/none.conf"))
        try Data().write(to: URL(fileURLWithPath: other + "/none.conf"))
        defer { try? FileManager.default.removeItem(atPath: folder) }

        let absent = await run("version", in: folder)
        #expect(absent.code == 1 && absent.text.contains("apus db sync makes one"))
        let made = await run("sync", in: folder)
        #expect(made.code == 0 && made.text.contains("control") && !made.text.contains("too old"))
        #expect(await run("version", in: folder) == made)
        let checked = await run("check", in: folder)
        #expect(checked.code == 0 && checked.text == "Nothing contradicts.\n")
        #expect(await run("check", "--json", in: folder).text == "[]\n")

        let file = folder + "/copy.jsonl"
        let written = await run("export", file, in: folder)
        #expect(written.code == 0 && written.text.contains("flavors") && written.text.contains("SHA-256"))
        let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(await run("export", file, in: folder).code == 1, "a file that is there is not overwritten")
        let read = await run("import", file, in: other)
        #expect(read.code == 0 && read.text == written.text)
        #expect(await run("import", folder + "/none.conf", in: other).code == 1)
        #expect(await run("import", folder + "/nothing", in: other).code == 1)

        let purged = await run("purge", "--older-than", "1", "--archive", folder + "/old.jsonl", in: folder)
        #expect(purged.code == 0 && purged.text.hasPrefix("0 servers, 0 actions and 0 events"))
        #expect(await run("purge", "--older-than", "0", in: folder).code != 0)
    }
}
