internal import CSystem
internal import Glibc
internal import HTTP
internal import Telemetry

/// A system call's failure with the path it was about.
struct FileError: Error, Sendable, Hashable, CustomStringConvertible {
    var path: String
    var call: String
    var code: Int32

    var description: String { "\(path): \(String(cString: strerror(code)))" }
}

/// Files below this size are read whole.
let wholeFileLimit = 1 << 20

/// The file's text; `nil` when there is none.
///
/// - Parameter limit: the most bytes; a larger file is an error.
func readTextFile(_ path: String, limit: Int = wholeFileLimit) throws(FileError) -> String? {
    try readFile(path, limit: limit).map { String(decoding: $0, as: UTF8.self) }
}

/// The file's bytes, likewise.
func readFile(_ path: String, limit: Int) throws(FileError) -> [UInt8]? {
    let file = apus_open(path, O_RDONLY, 0)
    guard file >= 0 else {
        if errno == ENOENT || errno == ENOTDIR { return nil }
        throw FileError(path: path, call: "open", code: errno)
    }
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16_384)
    while bytes.count < limit {
        let count = buffer.withUnsafeMutableBytes { read(file, $0.baseAddress, $0.count) }
        if count < 0 {
            if errno == EINTR { continue }
            throw FileError(path: path, call: "read", code: errno)
        }
        if count == 0 { return bytes }
        bytes += buffer[..<count]
    }
    throw FileError(path: path, call: "read", code: EFBIG)
}

/// Writes a file that only its owner can read: beside its place first, then by rename, so that nobody sees half of it.
func writePrivateFile(_ path: String, _ text: String) throws(FileError) {
    let temporary = "\(path).new.\(getpid())"
    unlink(temporary)
    let file = apus_open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    guard file >= 0 else { throw FileError(path: temporary, call: "open", code: errno) }
    var isRenamed = false
    defer {
        close(file)
        if !isRenamed { unlink(temporary) }
    }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
        if count < 0 {
            if errno == EINTR { continue }
            throw FileError(path: temporary, call: "write", code: errno)
        }
        bytes = bytes.dropFirst(count)
    }
    guard fsync(file) == 0 else { throw FileError(path: temporary, call: "fsync", code: errno) }
    guard rename(temporary, path) == 0 else { throw FileError(path: path, call: "rename", code: errno) }
    isRenamed = true
}

/// The folder, made with its parents; `mode` is of what is made.
func makeFolder(_ path: String, mode: UInt32) throws(FileError) {
    var soFar = path.hasPrefix("/") ? "" : "."
    for part in path.split(separator: "/") {
        soFar += "/\(part)"
        if mkdir(soFar, mode) != 0, errno != EEXIST { throw FileError(path: soFar, call: "mkdir", code: errno) }
    }
}

/// The process's environment variables.
func processEnvironment() -> [String: String] {
    var found: [String: String] = [:]
    guard let list = apus_environ() else { return found }
    var index = 0
    while let entry = list[index] {
        let parts = String(cString: entry).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        if parts.count == 2 { found[String(parts[0])] = String(parts[1]) }
        index += 1
    }
    return found
}

/// A file's bytes in pieces of 256 KiB, read on threads of their own.
final class FileSource: ByteSource {
    let length: Int64
    private let path: String
    private let descriptor: Int32
    private let executor = BlockingExecutor(name: "cli-file", threads: 1)
    private let onRead: @Sendable (Int) -> Void

    /// `onRead` hears the size of each piece as it is handed on.
    init(path: String, onRead: @escaping @Sendable (Int) -> Void) throws(FileError) {
        let descriptor = apus_open(path, O_RDONLY, 0)
        guard descriptor >= 0 else { throw FileError(path: path, call: "open", code: errno) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & 0o170000 == 0o100000 else {
            close(descriptor)
            throw FileError(path: path, call: "fstat", code: EINVAL)
        }
        (self.path, self.descriptor, length, self.onRead) = (path, descriptor, Int64(status.st_size), onRead)
    }

    deinit { close(descriptor) }

    /// The first bytes, without moving on.
    func peek(_ count: Int) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let got = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
        return Array(buffer.prefix(max(0, got)))
    }

    func next() async throws -> [UInt8]? {
        let piece = try await executor.run { [descriptor, path] () throws(FileError) -> [UInt8] in
            var buffer = [UInt8](repeating: 0, count: 262_144)
            while true {
                let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else { throw FileError(path: path, call: "read", code: errno) }
                buffer.removeLast(buffer.count - count)
                return buffer
            }
        }
        guard !piece.isEmpty else { return nil }
        onRead(piece.count)
        return piece
    }
}
