internal import CSystem
internal import Glibc
internal import Telemetry

/// Starts this program once more, in a session of its own, and waits until it says that it is ready.
struct Detached {
    /// The child's end of the pipe on which it says "ready", by this variable.
    static let variable = "APUS_READY_FD"

    /// Returns the child's process id when it is ready; throws what it wrote when it ended before.
    ///
    /// - Parameters:
    ///   - arguments: what stands behind the program's name.
    ///   - logFile: takes the child's output, appended; made readable by its owner only.
    static func start(arguments: [String], logFile: String) async throws -> Int32 {
        let log = apus_open(logFile, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        guard log >= 0 else { throw FileError(path: logFile, call: "open", code: errno) }
        defer { close(log) }
        let before = lseek(log, 0, SEEK_END)
        var ends: [Int32] = [-1, -1]
        guard apus_pipe(&ends) == 0 else { throw FileError(path: "pipe", call: "pipe", code: errno) }
        let (reader, writer) = (ends[0], ends[1])
        defer { close(reader) }

        let pid: Int32
        do {
            defer { close(writer) }
            pid = try spawn(arguments, log: log, writer: writer)
        }
        let executor = BlockingExecutor(name: "detached", threads: 1)
        let isReady = await executor.run { () -> Bool in
            var byte: UInt8 = 0
            while true {
                let count = read(reader, &byte, 1)
                if count < 0, errno == EINTR { continue }
                return count == 1
            }
        }
        guard isReady else {
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            throw CommandError.failure(said(logFile, from: before))
        }
        return pid
    }

    /// Called by the child: closes the parent's wait. Nothing when there is no parent that waits.
    static func announceReady() {
        guard let text = processEnvironment()[variable], let descriptor = Int32(text), descriptor > 2 else { return }
        unsetenv(variable)
        var byte: UInt8 = 1
        _ = write(descriptor, &byte, 1)
        close(descriptor)
    }

    private static func spawn(_ arguments: [String], log: Int32, writer: Int32) throws -> Int32 {
        // 3 is free in the child: everything of this process is closed on exec.
        let target: Int32 = 3
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, log, 1)
        posix_spawn_file_actions_adddup2(&actions, log, 2)
        posix_spawn_file_actions_adddup2(&actions, writer, target)
        let setsid: Int16 = 0x80  // POSIX_SPAWN_SETSID, which the headers show only with _GNU_SOURCE.
        posix_spawnattr_setflags(&attributes, setsid)

        let path = ProcessTable.ownProgram
        var words: [UnsafeMutablePointer<CChar>?] = ([processName()] + arguments).map { strdup($0) }
        var environment = processEnvironment()
        environment[variable] = "\(target)"
        var variables: [UnsafeMutablePointer<CChar>?] = environment.map { strdup("\($0.key)=\($0.value)") }
        words.append(nil)
        variables.append(nil)
        defer { (words + variables).forEach { free($0) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, path, &actions, &attributes, words, variables)
        guard code == 0 else { throw FileError(path: path, call: "posix_spawn", code: code) }
        return pid
    }

    private static func processName() -> String {
        let text = (try? readTextFile("/proc/self/cmdline")) ?? nil
        return text.map { String($0.prefix { $0 != "\0" }) } ?? "apus"
    }

    /// The last lines that the child wrote.
    private static func said(_ logFile: String, from offset: Int) -> String {
        let text = (try? readTextFile(logFile)) ?? nil
        let new = (text ?? "").utf8.dropFirst(max(0, offset))
        let lines = String(decoding: new, as: UTF8.self).split(separator: "\n").suffix(12)
        return lines.isEmpty
            ? "It ended before it was ready, without a word; see \(logFile)." : lines.joined(separator: "\n")
    }
}
