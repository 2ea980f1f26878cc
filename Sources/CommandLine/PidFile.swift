internal import CSystem
internal import Glibc

/// `apus.pid` in the state folder: locked for as long as its process lives, so that two never share a state.
struct PidFile: ~Copyable {
    private let descriptor: Int32

    /// Another process holds the lock.
    struct Held: Error, Sendable, Hashable, CustomStringConvertible {
        var statePath: String
        var holder: String

        var description: String {
            "\(holder) holds \(statePath) already; stop it first, or choose another --state-path."
        }
    }

    /// Takes the lock and writes this process's id, or says who has it.
    init(statePath: String) throws {
        let path = PidFile.path(in: statePath)
        descriptor = apus_open(path, O_RDWR | O_CREAT, 0o600)
        guard descriptor >= 0 else { throw FileError(path: path, call: "open", code: errno) }
        guard apus_lock_file(descriptor) == 0 else {
            let code = errno
            guard code == EWOULDBLOCK else { throw FileError(path: path, call: "flock", code: code) }
            throw Held(statePath: statePath, holder: PidFile.holder(path: path))
        }
        let text = Array("\(getpid())\n".utf8)
        let isWritten =
            ftruncate(descriptor, 0) == 0
            && text.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) } == text.count
        guard isWritten else { throw FileError(path: path, call: "write", code: errno) }
    }

    // The file stays: removing it would let a process that waits for its lock share the state with the next one.
    deinit { if descriptor >= 0 { close(descriptor) } }

    static func path(in statePath: String) -> String { "\(statePath)/apus.pid" }

    /// The process that holds the lock; `nil` when none does.
    static func runningProcess(statePath: String) -> Int32? {
        let path = path(in: statePath)
        let descriptor = apus_open(path, O_RDONLY, 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        guard apus_lock_file(descriptor) != 0, errno == EWOULDBLOCK else { return nil }
        return number(in: path)
    }

    private static func holder(path: String) -> String {
        guard let pid = number(in: path) else { return "Another process" }
        return ProcessTable.describe(pid)
    }

    private static func number(in path: String) -> Int32? {
        guard let text = try? readTextFile(path) else { return nil }
        return Int32(text.prefix { $0.isNumber })
    }
}
