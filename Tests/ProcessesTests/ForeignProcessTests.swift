import Foundation
import Processes
import Testing

@Suite("Processes that others have started", .timeLimit(.minutes(1)))
struct ForeignProcessTests {
    /// A shell that runs until `end` is called, and is told from others by its last argument.
    private static func withShell(_ body: (_ mark: String, _ end: () -> Void) async throws -> Void) async throws {
        let mark = FileManager.default.temporaryDirectory.path + "/apus-foreign-\(UUID().uuidString)"
        #expect(mkfifo(mark, 0o600) == 0)
        defer { unlink(mark) }
        async let shell = run(Command("sh", ["-c", "read line < \"$0\"", mark], timeout: .seconds(50)))
        try await body(mark) {
            // Whoever reads sees the end of its input.
            close(open(mark, O_WRONLY | O_CLOEXEC))
        }
        _ = try await shell
    }

    /// A process that has just begun has no arguments for a moment.
    private static func find(_ mark: String) async throws -> ForeignProcess {
        while true {
            try Task.checkCancellation()
            if let found = ForeignProcess.find({ $0.last == mark }) { return found }
            await Task.yield()
        }
    }

    @Test("One is found by its arguments, and its end is seen")
    func end() async throws {
        try await Self.withShell { mark, end in
            let found = try await Self.find(mark)
            #expect(found.number != getpid())
            async let ended = found.end()
            end()
            #expect(await ended)
            #expect(await found.end(), "it stays ended")
        }
    }

    @Test("Who is cancelled waits no longer")
    func cancelled() async throws {
        try await Self.withShell { mark, end in
            let found = try await Self.find(mark)
            let waiting = Task { await found.end() }
            waiting.cancel()
            #expect(await !waiting.value)
            end()
        }
    }

    @Test("A program whose file is gone is told from one whose file is there")
    func replaced() async throws {
        try await Self.withShell { mark, end in
            let found = try await Self.find(mark)
            #expect(!found.isProgramReplaced)
            end()
        }
        let folder = FileManager.default.temporaryDirectory
        let program = folder.path + "/apus-program-\(UUID().uuidString)"
        let mark = "60.\(UInt32.random(in: 1...UInt32.max))"
        try FileManager.default.copyItem(atPath: "/bin/sleep", toPath: program)
        let sleeping = Task { try await run(Command(program, [mark], timeout: .seconds(50))) }
        let found = try await Self.find(mark)
        #expect(!found.isProgramReplaced)
        unlink(program)
        #expect(found.isProgramReplaced)
        sleeping.cancel()
        _ = await sleeping.result
        #expect(await found.end())
        #expect(found.isProgramReplaced, "of one that is gone nothing can be seen")
    }

    @Test("What nobody runs is not found")
    func nobody() { #expect(ForeignProcess.find { $0.last == "apus-nobody-\(UUID().uuidString)" } == nil) }
}
