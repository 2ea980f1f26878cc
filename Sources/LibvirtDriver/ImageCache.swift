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
/// `<digest>.new` the base being written. When the bytes break off, or the process is killed, the next fetch goes on
/// from the bytes that are there; the digest is that of all of them.
///
/// Beside the bases are the templates of disks that begin empty (`BlankDisk`). Whoever puts a disk on a file of this
/// folder does it in `use`, so that `removeUnused` sees it.
final class ImageCache: Sendable {
    let folder: String
    let files: BlockingExecutor
    private let qemuImg: QemuImg
    private let flights = SingleFlight()
    private static let fetches = Metrics.shared.counter(
        "apus_image_cache_fetches_total", help: "Images fetched into the cache, by result.")
    private static let seconds = Metrics.shared.histogram(
        "apus_image_cache_fetch_seconds", help: "From the first byte asked for to the base in place.")
    let log = Logger("image-cache")
    private let clock: any Clock<Duration>

    init(folder: String, qemuImg: QemuImg, files: BlockingExecutor, clock: any Clock<Duration> = AlarmClock()) {
        (self.folder, self.qemuImg, self.files, self.clock) = (folder, qemuImg, files, clock)
    }

    /// Makes the folder, and removes what killed processes left in it and nobody can use.
    func open() async throws {
        try await files.run { () throws(Failure) in
            try Files.makeFolder(folder, mode: 0o711)
            for name in try Files.names(in: folder) where name.hasSuffix(".part") {
                guard let lock = try PartLock(folder + "/" + name) else { continue }
                let target = folder + "/" + name.dropLast(".part".count)
                try Files.remove(target + ".new")
                // An image's bytes are gone on from, when it is wanted again.
                guard BlankDisk.isCacheName(name) || Files.size(lock.path) == 0 else { continue }
                log.notice("removing what a killed process left", ["file": name])
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
        if try await touch(base, { () throws(Failure) in try Self.isPresent(base, image) }) { return }
        do {
            try await flights.run(base) { [self] in try await fetch(image, base, source) }
        } catch is CancellationError {
            throw Failure(.cancelled, "preparing image \(image.id) was cancelled", isRetriable: true)
        }
    }

    /// Has the template of an empty disk in the folder.
    func prepare(_ disk: BlankDisk) async throws {
        let template = folder + "/" + disk.cacheName
        let isPresent: @Sendable () throws(Failure) -> Bool = { Files.exists(template) }
        if try await touch(template, isPresent) { return }
        do {
            try await flights.run(template) { [self] in
                guard let lock = try await lockPart(template, isPresent) else { return }
                let unfinished = template + ".new"
                do {
                    try await disk.make(unfinished, files: files)
                    try await keep(unfinished, as: template, lock)
                } catch {
                    try await discard(unfinished, lock)
                    throw error
                }
            }
        } catch is CancellationError {
            throw Failure(.cancelled, "preparing \(template) was cancelled", isRetriable: true)
        }
    }

    /// Runs `body`, which puts a disk on the file `name` of this folder, while nobody removes the file.
    ///
    /// - Throws: when there is no such file.
    func use<T: Sendable>(_ name: String, _ body: (_ path: String) async throws -> T) async throws -> T {
        let path = folder + "/" + name
        let lease = try await files.run { () throws(Failure) in
            let lease = try CacheLease.shared(path)
            if lease != nil { try Files.touch(path) }
            return lease
        }
        guard let lease else { throw Failure(.storage, "the file \(path) is not in the cache", isRetriable: true) }
        defer { withExtendedLifetime(lease) {} }
        return try await body(path)
    }

    /// Says that the file is used now, if it is there, so that it stays for a while.
    private func touch(_ path: String, _ isPresent: @Sendable () throws(Failure) -> Bool) async throws -> Bool {
        try await files.run { () throws(Failure) in
            guard let lease = try CacheLease.shared(path), try isPresent() else { return false }
            try Files.touch(path)
            withExtendedLifetime(lease) {}
            return true
        }
    }

    static func key(_ image: ImageReference) throws(Failure) -> String {
        guard isDigest(image.sha512) else {
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
        let isPresent: @Sendable () throws(Failure) -> Bool = { () throws(Failure) in try Self.isPresent(base, image) }
        guard let lock = try await lockPart(base, isPresent) else { return }
        let unfinished = base + ".new"
        let start = ContinuousClock.now
        do {
            defer { Self.seconds.observe(start.duration(to: .now).inSeconds) }
            // A converter that outlived its killed parent may still write to the old file.
            try await files.run { () throws(Failure) in try Files.remove(unfinished) }
            let download = try await receive(image, lock, source)
            try await files.run { () throws(Failure) in try download.finish(image) }
            try await convert(image, lock.path, unfinished)
            try await files.run { () throws(Failure) in
                guard let size = Files.size(unfinished), size == image.virtualSizeBytes else {
                    throw Failure(
                        .imageUnacceptable, "image \(image.id) did not become a disk of \(image.virtualSizeBytes) bytes"
                    )
                }
            }
            try await keep(unfinished, as: base, lock)
        } catch let broken as BrokenOff {
            Self.fetches.increment(labels: [("result", "broken")])
            throw broken.reason
        } catch {
            Self.fetches.increment(labels: [("result", "failed")])
            try await discard(unfinished, lock)
            throw error
        }
        Self.fetches.increment(labels: [("result", "ok")])
        log.info(
            "image cached",
            ["image": image.id, "bytes": image.sizeBytes, "took": start.duration(to: .now), "base": base])
    }

    /// Gives a complete file its name, durably, and the lock back.
    private func keep(_ unfinished: String, as path: String, _ lock: PartLock) async throws {
        try await files.run { () throws(Failure) in
            try Files.setMode(unfinished, 0o644)
            try Files.touch(unfinished)
            try Files.synchronise(unfinished)
            try Files.rename(unfinished, to: path)
            try Files.synchronise(folder)
            try lock.removeFile()
        }
    }

    private func discard(_ unfinished: String, _ lock: PartLock) async throws {
        try await files.run { () throws(Failure) in
            try Files.remove(unfinished)
            try lock.removeFile()
        }
    }

    /// Takes the lock on the part file of `path`, waiting while another process makes the file; `nil` when it has.
    private func lockPart(
        _ path: String, _ isPresent: @escaping @Sendable () throws(Failure) -> Bool
    ) async throws -> PartLock? {
        while true {
            try Task.checkCancellation()
            let (isThere, lock) = try await files.run { () throws(Failure) -> (Bool, PartLock?) in
                if try isPresent() { return (true, nil) }
                guard let lock = try PartLock(path + ".part") else { return (false, nil) }
                // Made between the look and the lock.
                guard try !isPresent() else {
                    try lock.removeFile()
                    return (true, nil)
                }
                return (false, lock)
            }
            if isThere { return nil }
            if let lock { return lock }
            // Another process tells nobody when it has finished; its lock can only be tried.
            try await clock.sleep(for: .milliseconds(200))
        }
    }

    private func convert(_ image: ImageReference, _ part: String, _ unfinished: String) async throws {
        let needed = try await qemuImg.measure(part, format: image.format, virtualSizeBytes: image.virtualSizeBytes)
        try await files.run { () throws(Failure) in
            try Files.requireSpace(needed, for: "the disk of image \(image.id)", in: folder)
        }
        try await qemuImg.convert(
            part, format: image.format, to: unfinished, virtualSizeBytes: image.virtualSizeBytes)
    }
}
