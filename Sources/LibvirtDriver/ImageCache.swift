internal import Compute
internal import Model
internal import Synchronization
internal import Telemetry

/// The base files under the instances' disks, one per image content, named by the digest of the uploaded bytes.
///
/// A base is a raw file: QEMU then reads an overlay's missing parts without a second table of clusters, opens nothing
/// that holds metadata of any kind, and the file's length is the image's virtual size. It is sparse, so it takes what
/// the image holds.
///
/// While an image is fetched, `<digest>.part` holds the uploaded bytes, locked by the process that writes it, and
/// `<digest>.new` the base being written. Both are removed when the process that had the lock is gone.
final class ImageCache: Sendable {
    let folder: String
    private let qemuImg: QemuImg
    private let files: BlockingExecutor
    private let flights = SingleFlight()
    private static let fetches = Metrics.shared.counter(
        "apus_image_cache_fetches_total", help: "Images fetched into the cache, by result.")
    private static let seconds = Metrics.shared.histogram(
        "apus_image_cache_fetch_seconds", help: "From the first byte asked for to the base in place.")
    private let log = Logger("image-cache")
    private let clock: any Clock<Duration>

    init(folder: String, qemuImg: QemuImg, files: BlockingExecutor, clock: any Clock<Duration> = ContinuousClock()) {
        (self.folder, self.qemuImg, self.files, self.clock) = (folder, qemuImg, files, clock)
    }

    /// Makes the folder, and removes what killed processes left in it.
    func open() async throws {
        try await files.run { () throws(Failure) in
            try Files.makeFolder(folder, mode: 0o711)
            for name in try Files.names(in: folder) where name.hasSuffix(".part") {
                guard let lock = try PartLock(folder + "/" + name) else { continue }
                let digest = String(name.dropLast(".part".count))
                log.notice("removing an unfinished image", ["file": name])
                try Files.remove(folder + "/" + digest + ".new")
                try lock.removeFile()
            }
        }
    }

    /// Where the base of an image is, or will be.
    func base(of image: ImageReference) throws(Failure) -> String { folder + "/" + (try Self.key(image)) }

    /// Has the image's base in the folder. One fetch however many ask, in this process and in others that share the
    /// folder. What is there already is used after a look at its length.
    func prepare(_ image: ImageReference, source: @escaping ImageSource) async throws {
        let base = try base(of: image)
        if try await files.run({ () throws(Failure) in try Self.isPresent(base, image) }) { return }
        do {
            try await flights.run(base) { [self] in try await fetch(image, base, source) }
        } catch is CancellationError {
            throw Failure(.cancelled, "preparing image \(image.id) was cancelled", isRetriable: true)
        }
    }

    private static func key(_ image: ImageReference) throws(Failure) -> String {
        guard image.sha512.utf8.count == 128,
            image.sha512.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
        else {
            throw Failure(.imageUnacceptable, "image \(image.id) has no sha512 digest")
        }
        return image.sha512
    }

    private static func isPresent(_ base: String, _ image: ImageReference) throws(Failure) -> Bool {
        guard let size = Files.size(base) else { return false }
        guard size == image.virtualSizeBytes else {
            throw Failure(
                .imageUnacceptable,
                "image \(image.id) is recorded with \(image.virtualSizeBytes) bytes, but its disk has \(size)")
        }
        return true
    }

    private func fetch(_ image: ImageReference, _ base: String, _ source: ImageSource) async throws {
        let part = base + ".part"
        guard let lock = try await lockPart(part, base, image) else { return }
        let unfinished = base + ".new"
        let start = ContinuousClock.now
        do {
            defer { Self.seconds.observe(start.duration(to: .now).inSeconds) }
            // A converter that outlived its killed parent may still write to the old file.
            try await files.run { () throws(Failure) in try Files.remove(unfinished) }
            let download = try await receive(image, lock, source)
            try await files.run { () throws(Failure) in try download.finish(image) }
            try await convert(image, part, unfinished)
            try await files.run { () throws(Failure) in
                guard let size = Files.size(unfinished), size == image.virtualSizeBytes else {
                    throw Failure(
                        .imageUnacceptable, "image \(image.id) did not become a disk of \(image.virtualSizeBytes) bytes"
                    )
                }
                try Files.setMode(unfinished, 0o644)
                try Files.synchronise(unfinished)
                try Files.rename(unfinished, to: base)
                try Files.synchronise(folder)
                try lock.removeFile()
            }
        } catch {
            Self.fetches.increment(labels: [("result", "failed")])
            try await files.run { () throws(Failure) in
                try Files.remove(unfinished)
                try lock.removeFile()
            }
            throw error
        }
        Self.fetches.increment(labels: [("result", "ok")])
        log.info(
            "image cached",
            ["image": image.id, "bytes": image.sizeBytes, "took": start.duration(to: .now), "base": base])
    }

    /// Takes the lock on the part file, waiting while another process fetches; `nil` when that one has made the base.
    private func lockPart(_ part: String, _ base: String, _ image: ImageReference) async throws -> PartLock? {
        while true {
            try Task.checkCancellation()
            let (isPresent, lock) = try await files.run { () throws(Failure) -> (Bool, PartLock?) in
                if try Self.isPresent(base, image) { return (true, nil) }
                guard let lock = try PartLock(part) else { return (false, nil) }
                // Made between the look and the lock.
                guard try !Self.isPresent(base, image) else {
                    try lock.removeFile()
                    return (true, nil)
                }
                return (false, lock)
            }
            if isPresent { return nil }
            if let lock { return lock }
            // Another process tells nobody when it has finished; its lock can only be tried.
            try await clock.sleep(for: .milliseconds(200))
        }
    }

    private func receive(
        _ image: ImageReference, _ lock: PartLock, _ source: ImageSource
    ) async throws -> ImageDownload {
        try await files.run { () throws(Failure) in
            try Self.requireSpace(image.sizeBytes, for: "image \(image.id)", in: folder)
        }
        let download = ImageDownload(lock, limit: image.sizeBytes)
        try await source { [files] bytes in
            try await files.run { () throws(Failure) in try download.take(bytes) }
        }
        return download
    }

    private func convert(_ image: ImageReference, _ part: String, _ unfinished: String) async throws {
        let needed = try await qemuImg.measure(part, format: image.format, virtualSizeBytes: image.virtualSizeBytes)
        try await files.run { () throws(Failure) in
            try Self.requireSpace(needed, for: "the disk of image \(image.id)", in: folder)
        }
        try await qemuImg.convert(
            part, format: image.format, to: unfinished, virtualSizeBytes: image.virtualSizeBytes)
    }

    private static func requireSpace(_ needed: Int64, for what: String, in folder: String) throws(Failure) {
        let free = try Files.space(at: folder).freeBytes
        guard needed > free else { return }
        throw Failure(
            .storage, "\(what) needs \(needed) bytes in \(folder), where \(free) bytes are free", isRetriable: true)
    }
}
