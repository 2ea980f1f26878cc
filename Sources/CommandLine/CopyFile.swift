internal import CSystem
internal import Glibc
internal import Synchronization

/// A file of lines, written or read from its beginning to its end.
final class CopyFile: Sendable {
    private struct State {
        var buffer: [UInt8] = []
        var start = 0
        var isAtEnd = false
    }

    /// The longest line: a record of an instance, or a task's state, with its user data and files.
    private static let lineLimit = 64 << 20
    private static let chunk = 1 << 18

    private let path: String
    private let file: Int32
    private let state = Mutex(State())

    /// Makes the file, for its owner alone. One that is there already is an error.
    init(writing path: String) throws(FileError) {
        self.path = path
        file = apus_open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw FileError(path: path, call: "open", code: errno) }
    }

    init(reading path: String) throws(FileError) {
        self.path = path
        file = apus_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard file >= 0 else { throw FileError(path: path, call: "open", code: errno) }
    }

    deinit { close(file) }

    func write(_ line: String) throws(FileError) {
        try state.withLock { state throws(FileError) in
            state.buffer += line.utf8
            state.buffer.append(UInt8(ascii: "\n"))
            if state.buffer.count >= Self.chunk { try flush(&state) }
        }
    }

    /// Everything written so far is on the disk when it returns.
    func finish() throws(FileError) {
        try state.withLock { state throws(FileError) in try flush(&state) }
        guard fsync(file) == 0 else { throw FileError(path: path, call: "fsync", code: errno) }
    }

    private func flush(_ state: inout State) throws(FileError) {
        var done = 0
        while done < state.buffer.count {
            let count = state.buffer.withUnsafeBytes { bytes in
                Glibc.write(file, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw FileError(path: path, call: "write", code: errno)
            }
            done += count
        }
        state.buffer.removeAll(keepingCapacity: true)
    }

    /// The next line without its line feed; `nil` after the last.
    func next() throws(FileError) -> String? {
        try state.withLock { state throws(FileError) in
            while true {
                if let end = state.buffer[state.start...].firstIndex(of: UInt8(ascii: "\n")) {
                    defer { state.start = end + 1 }
                    return String(decoding: state.buffer[state.start..<end], as: UTF8.self)
                }
                if state.isAtEnd {
                    guard state.start < state.buffer.count else { return nil }
                    defer { state.start = state.buffer.count }
                    return String(decoding: state.buffer[state.start...], as: UTF8.self)
                }
                try fill(&state)
            }
        }
    }

    private func fill(_ state: inout State) throws(FileError) {
        state.buffer.removeFirst(state.start)
        state.start = 0
        guard state.buffer.count <= Self.lineLimit else { throw FileError(path: path, call: "read", code: E2BIG) }
        var chunk = [UInt8](repeating: 0, count: Self.chunk)
        let count = chunk.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress, $0.count) }
        if count < 0 {
            if errno == EINTR { return }
            throw FileError(path: path, call: "read", code: errno)
        }
        if count == 0 { state.isAtEnd = true }
        state.buffer += chunk[..<count]
    }
}
