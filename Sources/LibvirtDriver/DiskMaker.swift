internal import Model
internal import Telemetry

/// Makes one disk of a guest: beside its place first, then under its name, so that what has the name is complete.
struct DiskMaker: Sendable {
    private let cache: ImageCache
    private let qemuImg: QemuImg
    private let isPreallocated: Bool
    private let entry: DiskPlan.Entry
    private let format: DiskFormat
    private let path: String
    private let files: BlockingExecutor

    private var unfinished: String { path + ".new" }

    init(
        _ surroundings: LibvirtDriver.Surroundings, _ folder: InstanceFolder, _ entry: DiskPlan.Entry,
        _ format: DiskFormat, _ files: BlockingExecutor
    ) {
        (cache, qemuImg) = (surroundings.cache, surroundings.qemuImg)
        isPreallocated = surroundings.diskSettings.isPreallocated
        (self.entry, self.format, self.files) = (entry, format, files)
        path = folder.path + "/" + entry.name
    }

    func make() async throws {
        try await files.run { () throws(Failure) in try Files.remove(unfinished) }
        do {
            switch (format, entry.source) {
            case (.qcow2, .image(let image)): try await cache.use(ImageCache.key(image)) { try await overlay($0) }
            case (.qcow2, .blank(let disk)):
                try await cache.prepare(disk)
                try await cache.use(disk.cacheName) { try await overlay($0) }
            case (.raw, .image(let image)): try await cache.use(ImageCache.key(image)) { try await copy($0) }
            case (.raw, .blank(let disk)):
                try await disk.make(unfinished, files: files)
                try await finish()
            }
        } catch {
            try await files.run { () throws(Failure) in try Files.remove(unfinished) }
            throw error
        }
    }

    private func overlay(_ base: String) async throws {
        try await qemuImg.createOverlay(unfinished, base: base, sizeBytes: entry.sizeBytes)
        try await finish()
    }

    private func copy(_ base: String) async throws {
        try await files.run { () throws(Failure) in
            try Files.write([], to: unfinished, mode: 0o600)
            try Files.resize(unfinished, to: entry.sizeBytes)
            // First, so that the copy cannot meet a full disk.
            if isPreallocated { try Files.reserve(unfinished, bytes: entry.sizeBytes, keepsSize: false) }
        }
        try await SparseCopy.run(base, to: unfinished, mayShare: !isPreallocated, files: files)
        try await finish()
    }

    private func finish() async throws {
        try await files.run { () throws(Failure) in
            if isPreallocated {
                try Files.reserve(unfinished, bytes: entry.sizeBytes, keepsSize: format == .qcow2)
            }
            // A clone has the length of its source.
            if format == .raw {
                try Files.resize(unfinished, to: entry.sizeBytes)
                try Files.synchronise(unfinished)
            }
            try Files.setMode(unfinished, 0o600)
            try Files.rename(unfinished, to: path)
        }
    }
}
