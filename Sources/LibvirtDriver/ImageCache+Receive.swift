internal import Compute
internal import Model
internal import Telemetry

/// The bytes of an image broke off; what came stays, for the next fetch.
struct BrokenOff: Error {
    let reason: any Error
}

extension ImageCache {
    /// Bytes that must have come before a source that broke off is asked again at once.
    private static let worthwhile: Int64 = 1 << 20

    /// Brings all bytes of an image into the part file, beginning after those that an earlier fetch left there.
    ///
    /// - Throws: `BrokenOff` for what the source threw and may not throw the next time.
    func receive(_ image: ImageReference, _ lock: PartLock, _ source: ImageSource) async throws -> ImageDownload {
        let download = ImageDownload(lock, limit: image.sizeBytes)
        while try await files.run({ () throws(Failure) in try download.takeOver() }) {
            guard !Task.isCancelled else { throw BrokenOff(reason: CancellationError()) }
        }
        if download.count > 0 {
            log.notice(
                "going on with an unfinished image",
                ["image": image.id, "bytes": download.count, "of": image.sizeBytes])
        }
        while download.count < image.sizeBytes || image.sizeBytes == 0 {
            let start = download.count
            try await files.run { () throws(Failure) in
                try Files.requireSpace(image.sizeBytes - start, for: "image \(image.id)", in: folder)
            }
            do {
                try await source(start) { [files] bytes in
                    try await files.run { () throws(Failure) in try download.take(bytes) }
                }
                break
            } catch  where Self.mayGoOn(after: error) {
                guard !Task.isCancelled, download.count - start >= Self.worthwhile else {
                    throw BrokenOff(reason: error)
                }
                log.notice(
                    "an image broke off and is gone on with", ["image": image.id, "bytes": download.count])
            }
        }
        return download
    }

    /// Whether the bytes that came before the error are worth keeping.
    private static func mayGoOn(after error: any Error) -> Bool {
        guard let failure = error as? Failure else { return error is CancellationError }
        switch failure.kind {
        case .imageUnacceptable, .storage: return false
        case .cancelled: return true
        default: return failure.isRetriable
        }
    }
}
