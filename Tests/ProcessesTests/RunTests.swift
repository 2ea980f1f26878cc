import Foundation
import Processes
import Testing

@Suite("Child programs", .timeLimit(.minutes(1)))
struct RunTests {
    private func shell(
        _ script: String, input: [UInt8]? = nil, limits: Command.Limits = .none, timeout: Duration = .seconds(30),
        outputLimit: Int = 1 << 20
    ) -> Command {
        Command("sh", ["-c", script], input: input, limits: limits, timeout: timeout, outputLimit: outputLimit)
    }

    @Test("Both outputs and the exit code come back")
    func result() async throws {
        let result = try await run(shell("echo out; echo err >&2; exit 3"))
        #expect(result.status == 3)
        #expect(result.outputText == "out\n")
        #expect(result.errorText == "err\n")
        #expect(!result.isTruncated)
    }

    @Test("Death by a signal is 128 and the signal's number")
    func signal() async throws {
        #expect(try await run(shell("kill -9 $$")).status == 137)
    }

    @Test("Input of any size reaches the child, and none is an empty one")
    func input() async throws {
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) }
        #expect(try await run(Command("cat", [], input: bytes, timeout: .seconds(30))).standardOutput == bytes)
        #expect(try await run(Command("cat", [], timeout: .seconds(30))).standardOutput.isEmpty)
    }

    @Test("Output beyond the limit is dropped and said to be")
    func bounded() async throws {
        let result = try await run(shell("head -c 5000000 /dev/zero; echo end >&2", outputLimit: 1_000))
        #expect(result.standardOutput.count == 1_000)
        #expect(result.errorText == "end\n")
        #expect(result.isTruncated)
        #expect(result.status == 0)
    }

    @Test("Environment and folder are the given ones")
    func surroundings() async throws {
        let result = try await run(
            Command(
                "sh", ["-c", "pwd; echo $A-$HOME"], environment: ["A": "b"], directory: "/usr", timeout: .seconds(30)))
        #expect(result.outputText == "/usr\nb-\n")
    }

    @Test("The child has no descriptor but its three")
    func descriptors() async throws {
        let file = open("/dev/null", O_RDONLY)
        defer { close(file) }
        let result = try await run(Command("ls", ["/proc/self/fd"], timeout: .seconds(30)))
        // The fourth is ls's own, for the folder.
        #expect(result.outputText == "0\n1\n2\n3\n")
    }

    @Test("Limits hold from the program's first instruction")
    func limits() async throws {
        let limits = Command.Limits(addressSpaceBytes: 512 << 20, cpuSeconds: 7)
        let result = try await run(shell("ulimit -v; ulimit -Hv; ulimit -t", limits: limits))
        #expect(result.outputText == "524288\n524288\n7\n")
    }

    @Test("A timeout ends the whole process group, and says what stood on stderr")
    func timeout() async throws {
        let command = shell("echo $$; echo stuck >&2; sleep 1000 & sleep 1000; wait", timeout: .milliseconds(200))
        await #expect(throws: ProcessError.timedOut(program: "sh", after: .milliseconds(200), errorText: "stuck\n")) {
            try await run(command)
        }
    }

    @Test("A child that ignores TERM is killed")
    func stubborn() async throws {
        var command = shell("trap '' TERM; while :; do sleep 0.05; done", timeout: .milliseconds(100))
        command.grace = .milliseconds(100)
        await #expect(throws: ProcessError.self) { try await run(command) }
    }

    @Test("Cancellation ends the child, and a cancelled task starts none")
    func cancellation() async throws {
        let marker = NSTemporaryDirectory() + "apus-processes-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: marker) }
        let task = Task { try await run(shell("echo $$ > \(marker); exec sleep 1000", timeout: .seconds(60))) }
        var text = ""
        while !text.hasSuffix("\n") {
            text = (try? String(contentsOfFile: marker, encoding: .utf8)) ?? ""
            await Task.yield()
        }
        task.cancel()
        await #expect(throws: ProcessError.cancelled(program: "sh")) { try await task.value }
        let pid = try #require(pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)))
        #expect(kill(pid, 0) == -1 && errno == ESRCH)
    }

    @Test("A grandchild that keeps the output open holds up nobody")
    func grandchild() async throws {
        let result = try await run(shell("sleep 3 & echo done"))
        #expect(result.outputText == "done\n")
    }

    @Test(
        "What cannot be started says why",
        arguments: [
            (Command("no-such-program", [], timeout: .seconds(1)), ProcessError.notFound(program: "no-such-program")),
            (Command("/etc/passwd", [], timeout: .seconds(1)), .notFound(program: "/etc/passwd")),
            (
                Command("true", [], directory: "/no/such/folder", timeout: .seconds(1)),
                .notStarted(program: "true", reason: "posix_spawn: No such file or directory")
            ),
            (
                Command("true", ["a\0b"], timeout: .seconds(1)),
                .notStarted(program: "true", reason: "an argument contains a NUL")
            ),
        ])
    func notStarted(command: Command, expected: ProcessError) async {
        await #expect(throws: expected) { try await run(command) }
    }

    @Test("Many children at once all end")
    func many() async throws {
        try await withThrowingTaskGroup(of: Int32.self) { group in
            for index in 0..<60 { group.addTask { try await run(shell("exit \(index)")).status } }
            var sum: Int32 = 0
            for try await status in group { sum += status }
            #expect(sum == 60 * 59 / 2)
        }
    }

    @Test("Programs for administrators are found, folders and plain files are not")
    func lookup() {
        #expect(find(program: "sh") != nil)
        #expect(find(program: "ldconfig") != nil)
        #expect(find(program: "/etc") == nil)
        #expect(find(program: "") == nil)
    }
}
