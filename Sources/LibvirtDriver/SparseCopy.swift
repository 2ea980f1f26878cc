internal import CSystem
internal import Glibc
internal import Model
internal import Telemetry

/// A copy of a raw file on the same host that leaves holes as holes and shares blocks where the file system can.
final class SparseCopy: Sendable {
    private static let piece: Int64 = 64 << 20

    private let source: Descriptor
    private let target: Descriptor
    private let paths: (source: String, target: String)

    private init(_ from: String, _ to: String) throws(Failure) {
        source = try Descriptor(opening: from, O_RDONLY)
        target = try Descriptor(opening: to, O_RDWR | O_CREAT)
        paths = (from, to)
    }

    /// Copies the data of `from` into the file `to`, which has no other data. Ends soon after a cancellation.
    ///
    /// - Parameter mayShare: whether `to` may have the very blocks of `from`; then blocks reserved for it would be lost.
    static func run(_ from: String, to: String, mayShare: Bool, files: BlockingExecutor) async throws {
        let copy = try await files.run { () throws(Failure) in try SparseCopy(from, to) }
        if mayShare, await files.run({ apus_clone_file(copy.target.number, copy.source.number) == 0 }) { return }
        var offset: Int64 = 0
        while true {
            guard !Task.isCancelled else {
                throw Failure(.cancelled, "copying \(from) was cancelled", isRetriable: true)
            }
            let start = offset
            guard let next = try await files.run({ () throws(Failure) in try copy.step(from: start) }) else { return }
            offset = next
        }
    }

    /// Copies the next piece of data at or after `offset`; its end, or `nil` when there is no more.
    private func step(from offset: Int64) throws(Failure) -> Int64? {
        let start = apus_seek_data(source.number, offset)
        guard start >= 0 else {
            if errno == ENXIO { return nil }
            throw Files.failure("read", paths.source)
        }
        let hole = apus_seek_hole(source.number, start)
        guard hole >= 0 else { throw Files.failure("read", paths.source) }
        let end = min(hole, start + Self.piece)
        var position = start
        while position < end {
            let count = apus_copy_range(source.number, target.number, position, end - position)
            if count > 0 {
                position += count
            } else if count == 0 {
                throw Failure(.storage, "\(paths.source) became shorter while it was copied", isRetriable: true)
            } else if [EXDEV, EINVAL, ENOSYS, EOPNOTSUPP].contains(errno) {
                try copyByHand(position, end)
                position = end
            } else if errno != EINTR {
                throw Files.failure("write", paths.target)
            }
        }
        return end
    }

    private func copyByHand(_ start: Int64, _ end: Int64) throws(Failure) {
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var position = start
        while position < end {
            let wanted = Int(min(Int64(buffer.count), end - position))
            let count = buffer.withUnsafeMutableBytes { pread(source.number, $0.baseAddress, wanted, off_t(position)) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Files.failure("read", paths.source) }
            try target.write(buffer[..<count], at: position, paths.target)
            position += Int64(count)
        }
    }
}
