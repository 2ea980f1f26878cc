internal import CSystem
internal import Glibc
internal import Telemetry

/// Each wait occupies one of these threads, which waits in `poll`.
private let executor = BlockingExecutor(name: "process-ends", threads: 128)

/// A process that another one has started. A later one with the same number is not taken for it.
public final class ForeignProcess: Sendable {
    public let number: Int32
    private let handle: Descriptor

    private init(_ number: Int32, _ handle: Descriptor) { (self.number, self.handle) = (number, handle) }

    /// The first process among those that this one sees whose arguments satisfy `isIt`; `nil` when there is none, or it
    /// cannot be watched. Blocks, some 10 ms for each thousand processes.
    public static func find(_ isIt: ([String]) -> Bool) -> ForeignProcess? {
        guard let folder = opendir("/proc") else { return nil }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard let number = Int32(name), let read = arguments(of: number), isIt(read),
                let handle = try? Descriptor(apus_pidfd_open(number), "pidfd_open"),
                // It may have ended before the handle was there, and the number be another's.
                let still = arguments(of: number), isIt(still)
            else { continue }
            return ForeignProcess(number, handle)
        }
        return nil
    }

    /// Whether its program's file has been replaced or removed since it began, or that cannot be seen.
    public var isProgramReplaced: Bool {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = bytes.withUnsafeMutableBytes { buffer in
            buffer.baseAddress.map { readlink("/proc/\(number)/exe", $0, buffer.count) } ?? -1
        }
        guard count > 0 else { return true }
        return String(decoding: bytes[..<count], as: UTF8.self).hasSuffix(" (deleted)")
    }

    /// Waits for its end. At most 128 are waited for at once, further ones wait for their turn.
    /// - Returns: whether it has ended; `false` when the task was cancelled first.
    public func end() async -> Bool {
        guard !Task.isCancelled, let stop = try? Descriptor(apus_eventfd(), "eventfd") else { return false }
        defer { withExtendedLifetime(stop) {} }
        return await withTaskCancellationHandler {
            await executor.run { [handle] in
                while true {
                    var polled = [
                        pollfd(fd: handle.number, events: Int16(POLLIN), revents: 0),
                        pollfd(fd: stop.number, events: Int16(POLLIN), revents: 0),
                    ]
                    guard poll(&polled, 2, -1) >= 0 else {
                        guard errno == EINTR else { return false }
                        continue
                    }
                    if polled[0].revents != 0 { return true }
                    if polled[1].revents != 0 { return false }
                }
            }
        } onCancel: {
            var one: UInt64 = 1
            _ = write(stop.number, &one, 8)
        }
    }

    private static func arguments(of number: Int32) -> [String]? {
        let file = open("/proc/\(number)/cmdline", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while bytes.count < 1 << 20 {
            let count = piece.withUnsafeMutableBytes { read(file, $0.baseAddress, $0.count) }
            guard count > 0 else { break }
            bytes += piece[..<count]
        }
        return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
    }
}
