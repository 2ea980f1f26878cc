internal import Crypto
internal import HTTP
internal import ImageFormat
public import Model
public import Telemetry

/// What an upload turned out to be.
struct StoredImage: Sendable, Hashable {
    let sizeBytes: Int64
    let virtualSizeBytes: Int64
    /// Lower-case hex.
    let md5: String
    let sha512: String
}

/// The folder that holds the images' bytes, one file an image, named by its id.
///
/// An upload is written to `<id>.part`, under a lock that other processes on a shared folder see, and gets its name only
/// when it is complete, inspected and on disk. File calls run on the executor.
public final class ImageStore: Sendable {
    private static let pieceSize = 524_288

    public let path: String
    private let sizeLimit: Int64?
    private let executor: BlockingExecutor

    /// - Parameters:
    ///   - path: absolute; made when it is not there.
    ///   - sizeLimit: bytes of the largest image; `nil` for no limit.
    public init(path: String, sizeLimit: Int64?, executor: BlockingExecutor) {
        self.path = path
        self.sizeLimit = sizeLimit
        self.executor = executor
    }

    /// Where the bytes of image `id` lie once the upload is complete.
    public func filePath(_ id: ImageID) -> String { "\(path)/\(id)" }

    private func partPath(_ id: ImageID) -> String { filePath(id) + ".part" }

    /// Makes the folder, removes the parts of uploads that nobody is writing any more, and returns the ids of images
    /// whose upload is still being written, by this or another process.
    func recover() async throws(ImageError) -> Set<ImageID> {
        try await onExecutor {
            () throws(FileFault) in
            try makeFolder(self.path)
            var running: Set<ImageID> = []
            for name in try folderEntries(self.path) where name.hasSuffix(".part") {
                // Locking it succeeds only when its writer is gone; dropping it then removes it.
                guard try PartFile.take("\(self.path)/\(name)") == nil else { continue }

                running.insert(ImageID(String(name.dropLast(".part".count))))
            }
            return running
        }
    }

    /// Writes the bytes of image `id` as they come, inspects them, and keeps the file if they are what was claimed.
    ///
    /// - Parameters:
    ///   - expected: how many bytes were announced; fewer or more is a failure.
    ///   - whenLocked: runs once this upload is the only one of the image, before the first byte is read.
    /// Throws `ImageError`: 400 for what is not what it claims, or is truncated; 409 when another upload is under way;
    /// 413 beyond the limit or with the disk full; 503 for other faults of the disk. Nothing is left behind then.
    func receive(
        _ id: ImageID, from source: any ByteSource, expected: Int64?, claiming format: DiskFormat,
        whenLocked: @Sendable () async throws -> Void
    ) async throws -> StoredImage {
        try await withTaskExecutorPreference(executor) {
            do {
                guard var file = try PartFile.take(partPath(id)) else {
                    throw ImageError.conflict("An upload of image \(id) is already under way.")
                }
                try await whenLocked()
                var inspector = ImageInspector()
                let (md5, sha512) = (RunningDigest(.md5), RunningDigest(.sha512))
                var count: Int64 = 0
                var next = try await nextPiece(source)
                while !next.isEmpty {
                    let piece = next
                    count += Int64(piece.count)
                    try checkLimit(count)
                    // Both digests, the writing, and the arrival of the next piece go on side by side.
                    async let first: Void = md5.update(piece)
                    async let second: Void = sha512.update(piece)
                    inspector.consume(piece)
                    try file.write(piece)
                    next = try await nextPiece(source)
                    _ = await (first, second)
                }
                let facts = try inspector.finish(claimed: format, totalBytes: expected ?? count)
                try file.keep(as: filePath(id), in: path)
                return StoredImage(
                    sizeBytes: count, virtualSizeBytes: facts.virtualSizeBytes, md5: await md5.finish(),
                    sha512: await sha512.finish())
            } catch let fault as FileFault {
                throw Self.answer(to: fault)
            } catch let refusal as ImageFormatError {
                throw ImageError.invalid(refusal.message)
            }
        }
    }

    /// So many bytes that handing them to other threads costs little beside what is done with them; fewer at the end,
    /// and none after it.
    private func nextPiece(_ source: any ByteSource) async throws -> [UInt8] {
        var piece: [UInt8] = []
        while piece.count < Self.pieceSize, let bytes = try await source.next() {
            if piece.isEmpty { piece = bytes } else { piece += bytes }
        }
        return piece
    }

    /// Refuses more bytes than the limit.
    func checkLimit(_ bytes: Int64) throws(ImageError) {
        guard let sizeLimit, bytes > sizeLimit else { return }
        throw ImageError(413, "The image is larger than the limit of \(sizeLimit) bytes.")
    }

    /// How many bytes the image's file has; `nil` when there is no file.
    func size(_ id: ImageID) async throws(ImageError) -> Int64? {
        try await onExecutor { () throws(FileFault) in try fileSize(self.filePath(id)) }
    }

    /// Removes the image's bytes, if there are any.
    func remove(_ id: ImageID) async throws(ImageError) {
        try await onExecutor { () throws(FileFault) in try removeFile(self.filePath(id)) }
    }

    private func onExecutor<T: Sendable>(
        _ body: @Sendable () throws(FileFault) -> T
    ) async throws(ImageError) -> T {
        do {
            return try await executor.run(body)
        } catch {
            throw Self.answer(to: error)
        }
    }

    private static func answer(to fault: FileFault) -> ImageError {
        Logger("images").error(
            "image store: a file call failed",
            ["call": fault.call, "path": fault.path, "reason": fault.reason])
        guard !fault.isStorageFull else {
            return ImageError(413, "Image storage media is full: there is not enough disk space on the image storage.")
        }
        return ImageError(503, "The image storage cannot be read or written: \(fault.call): \(fault.reason).")
    }
}
