internal import CSystem
internal import Glibc

/// A file that log lines are appended to, readable by its owner only.
final class LogFile: Sendable {
    private let descriptor: Int32

    init(path: String) throws(FileError) {
        descriptor = apus_open(path, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        guard descriptor >= 0 else { throw FileError(path: path, call: "open", code: errno) }
    }

    deinit { close(descriptor) }

    /// One write a line, so that lines of several threads do not mix. A full disk loses the line, not the daemon.
    func write(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        while bytes.withUnsafeBytes({ Glibc.write(descriptor, $0.baseAddress, $0.count) }) < 0, errno == EINTR {}
    }
}
