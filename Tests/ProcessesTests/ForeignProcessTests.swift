import Foundation
import Processes
import Testing

@Suite("Processes that others have started", .timeLimit(.minutes(1)))
struct ForeignProcessTests {
    /// A child that waits for the end of its input, and is told from others by its argument.
    private static func start(_ mark: String) throws -> (Process, Pipe) {
        let (process, input) = (Process(), Pipe())
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "read line", mark]
        process.standardInput = input
        try process.run()
        return (process, input)
    }

    /// A process that has just begun has no arguments for a moment.
    private static func find(_ mark: String) async -> ForeignProcess {
        while true {
            if let found = ForeignProcess.find({ $0.last == mark }) { return found }
            await Task.yield()
        }
    }

    @Test("One is found by its arguments, and its end is seen")
    func end() async throws {
        let mark = UUID().uuidString
        let (process, input) = try Self.start(mark)
        let found = await Self.find(mark)
        #expect(found.number == process.processIdentifier)
        async let ended = found.end()
        try input.fileHandleForWriting.close()
        #expect(await ended)
        #expect(await found.end(), "it stays ended")
        process.waitUntilExit()
        #expect(ForeignProcess.find { $0.last == mark } == nil)
    }

    @Test("Who is cancelled waits no longer")
    func cancelled() async throws {
        let mark = UUID().uuidString
        let (process, input) = try Self.start(mark)
        let found = await Self.find(mark)
        let waiting = Task { await found.end() }
        waiting.cancel()
        #expect(await !waiting.value)
        try input.fileHandleForWriting.close()
        process.waitUntilExit()
    }
}
