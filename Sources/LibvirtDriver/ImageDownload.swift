internal import CSystem
internal import Crypto
internal import Glibc
internal import ImageFormat
internal import Model
internal import Synchronization

/// The lock of one fetch: the part file, open and locked. Gone with the process.
final class PartLock: Sendable {
    let path: String
    private let file: Descriptor

    /// - Returns: `nil` when another holds it.
    init?(_ path: String) throws(Failure) {
        while true {
            let file = try Descriptor(opening: path, O_RDWR | O_CREAT, mode: 0o600)
            guard flock(file.number, LOCK_EX | LOCK_NB) == 0 else {
                if errno == EWOULDBLOCK || errno == EINTR { return nil }
                throw Files.failure("lock", path)
            }
            // Who had the lock before may have removed the file meanwhile; a lock on a nameless file excludes nobody.
            var mine = stat()
            var named = stat()
            guard fstat(file.number, &mine) == 0 else { throw Files.failure("examine", path) }
            if stat(path, &named) == 0, mine.st_ino == named.st_ino, mine.st_dev == named.st_dev {
                self.file = file
                self.path = path
                return
            }
        }
    }

    func write(_ bytes: [UInt8], at offset: Int64) throws(Failure) { try file.write(bytes[...], at: offset, path) }

    func read(from offset: Int64, limit: Int) throws(Failure) -> [UInt8] {
        try Files.read(path, from: offset, limit: limit) ?? []
    }

    func truncate() throws(Failure) {
        guard ftruncate(file.number, 0) == 0 else { throw Files.failure("empty", path) }
    }

    /// Removes the file while it is locked.
    func removeFile() throws(Failure) { try Files.remove(path) }
}

/// Bytes of an image on their way into the part file: counted, digested and inspected as they come.
final class ImageDownload: Sendable {
    private struct State: ~Copyable {
        var digest: Digest? = Digest(.sha512)
        var inspector = ImageInspector()
    }

    private static let piece = 8 << 20

    private let lock: PartLock
    private let limit: Int64
    private let state = Mutex(State())

    /// - Parameter limit: bytes that were announced; more are an error at once.
    init(_ lock: PartLock, limit: Int64) { (self.lock, self.limit) = (lock, limit) }

    /// How many bytes are in the part file: where the next ones belong.
    var count: Int64 { state.withLock { $0.inspector.bytesSeen } }

    /// Takes the next piece of what an earlier fetch left in the part file, as if it came now. Whether there may be more.
    /// Blocks.
    func takeOver() throws(Failure) -> Bool {
        guard Files.size(lock.path) ?? 0 <= limit else {
            // Not this image's bytes.
            try lock.truncate()
            return false
        }
        return try state.withLock { state throws(Failure) in
            let bytes = try lock.read(from: state.inspector.bytesSeen, limit: Self.piece)
            state.digest?.update(bytes)
            state.inspector.consume(bytes)
            return bytes.count == Self.piece
        }
    }

    /// Takes the next bytes, in order. Blocks.
    func take(_ bytes: [UInt8]) throws(Failure) {
        try state.withLock { state throws(Failure) in
            let offset = state.inspector.bytesSeen
            guard offset + Int64(bytes.count) <= limit else {
                throw Failure(.imageUnacceptable, "more than the announced \(limit) bytes came", isRetriable: true)
            }
            try lock.write(bytes, at: offset)
            state.digest?.update(bytes)
            state.inspector.consume(bytes)
        }
    }

    /// Judges what came against what `image` says. Blocks for moments.
    func finish(_ image: ImageReference) throws(Failure) {
        let (hash, inspector) = state.withLock { state in
            let hash = state.digest.take()?.finish() ?? []
            return (hash, state.inspector)
        }
        guard inspector.bytesSeen == image.sizeBytes else {
            throw Failure(
                .imageUnacceptable, "image \(image.id) has \(image.sizeBytes) bytes, but \(inspector.bytesSeen) came",
                isRetriable: true)
        }
        guard Hex.encode(hash) == image.sha512 else {
            throw Failure(
                .imageUnacceptable, "image \(image.id) came with another sha512 digest: \(Hex.encode(hash))",
                isRetriable: true)
        }
        let facts: ImageFacts
        do {
            facts = try inspector.finish(claimed: image.format, totalBytes: image.sizeBytes)
        } catch {
            throw Failure(.imageUnacceptable, "image \(image.id): \(error.message)")
        }
        guard facts.virtualSizeBytes == image.virtualSizeBytes else {
            throw Failure(
                .imageUnacceptable,
                "image \(image.id) is recorded with \(image.virtualSizeBytes) bytes, but its disk has \(facts.virtualSizeBytes)"
            )
        }
    }
}
