internal import CSystem
internal import Glibc

/// A failed call of the C library, read from `errno` at once.
struct SystemError: Error {
    let call: String
    let code: Int32

    var reason: String { "\(call): \(String(cString: strerror(code)))" }

    static func last(_ call: StaticString) -> SystemError { SystemError(call: call.description, code: errno) }
}

/// Owns a file descriptor and closes it once.
final class Descriptor: Sendable {
    let number: Int32

    init(_ number: Int32, _ call: StaticString) throws(SystemError) {
        guard number >= 0 else { throw .last(call) }
        self.number = number
    }

    deinit { close(number) }

    static func pipe() throws(SystemError) -> (reading: Descriptor, writing: Descriptor) {
        var ends: [Int32] = [-1, -1]
        guard apus_pipe(&ends) == 0 else { throw .last("pipe2") }
        return (try Descriptor(ends[0], "pipe2"), try Descriptor(ends[1], "pipe2"))
    }

    /// A nameless file in memory that holds `bytes`, to be read from its beginning.
    static func memory(_ bytes: [UInt8]) throws(SystemError) -> Descriptor {
        let file = try Descriptor(apus_memory_file("input"), "memfd_create")
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(file.number, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno != EINTR {
                throw .last("write")
            }
        }
        guard lseek(file.number, 0, SEEK_SET) == 0 else { throw .last("lseek") }
        return file
    }
}

/// One output of a child: keeps the first bytes, reads and drops the rest.
struct Output {
    private(set) var bytes: [UInt8] = []
    private(set) var isTruncated = false
    private(set) var isOpen = true
    let descriptor: Descriptor
    let limit: Int

    init(_ descriptor: Descriptor, limit: Int) throws(SystemError) {
        guard apus_set_nonblocking(descriptor.number) == 0 else { throw .last("fcntl") }
        (self.descriptor, self.limit) = (descriptor, limit)
    }

    /// Reads what is there now, at most 4 MiB, so that a flood cannot keep the caller from its other work.
    mutating func drain() {
        withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 16) { buffer in
            for _ in 0..<64 where isOpen {
                let count = read(descriptor.number, buffer.baseAddress, buffer.count)
                if count > 0 {
                    let kept = min(count, limit - bytes.count)
                    bytes.append(contentsOf: buffer.prefix(kept))
                    if kept < count { isTruncated = true }
                } else if count < 0, errno == EINTR {
                    continue
                } else {
                    if count == 0 || errno != EAGAIN { isOpen = false }
                    return
                }
            }
        }
    }
}
