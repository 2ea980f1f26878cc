public import Compute
internal import Libvirt
public import Model
internal import Telemetry

extension LibvirtDriver {
    public func takeOverDisks(
        _ guest: GuestSpecification, of migration: MigrationID, from source: any MovedFiles,
        progress: @escaping @Sendable (Int64, Int64) async -> Void
    ) async throws {
        let surroundings = try ready()
        let settings = surroundings.diskSettings
        let id = guest.instance.id
        let aside = try SetAsideFolder(id, in: instancesPath, host: hostName)
        let plan = try DiskPlan(guest, fileSystem: settings.fileSystem)
        let folder = try InstanceFolder(id, in: instancesPath)
        // What this host sees itself it need not be given: its own, or that of a shared folder.
        let isHere = try await files.run { () throws(Failure) in try aside.migration() == migration }
        let offer = try MoveOffer(isHere ? try await setAsideFiles(id, of: migration) : try await source.list(), plan)
        let missing = try await files.run { () throws(Failure) in
            try aside.begin(migration)
            let info = try DiskInfo.fix(offer.formats, in: folder)
            for (name, format) in offer.formats where info[name] != format {
                throw Failure(.storage, "the source says another format of \(name) than before")
            }
            return offer.items.filter { !Files.exists(folder.path + "/" + $0.file.name) }
        }
        let incoming = missing.map { IncomingFile(file: $0.file, path: folder.path + "/" + $0.file.name, files: files) }
        try await files.run { () throws(Failure) in
            var needed: Int64 = 0
            for (item, file) in zip(missing, incoming) {
                let cost = item.entry.map { settings.cost($0, item.file.format ?? .raw) } ?? 0
                needed += file.missing(of: max(item.file.dataBytes, cost))
                if !isHere { needed += item.base?.dataBytes ?? 0 }
            }
            try self.reservations.take(needed, for: id, "the move of instance \(id)", in: self.instancesPath)
        }
        defer { reservations.give(id) }
        let total = offer.dataBytes
        var done = total - missing.reduce(0) { $0 + $1.file.dataBytes }
        for (item, file) in zip(missing, incoming) {
            if isHere {
                try await file.copy(from: aside.path + "/" + item.file.name, mayShare: !settings.isPreallocated)
            } else {
                let before = done
                try await file.fetch(from: source) { await progress(before + $0, total) }
            }
            done += item.file.dataBytes
            await progress(done, total)
            if let entry = item.entry {
                let fitting = DiskFitting(
                    surroundings: surroundings, migration: migration, item: item, entry: entry, file: file,
                    source: isHere ? nil : source)
                guard try await fitting.run() else { continue }
            }
            try await file.finish()
        }
        // The rest: disks that it did not have before, and swap of another size.
        try await createDisks(guest)
    }

    public func removeTakenOver(_ id: InstanceID, of migration: MigrationID) async throws {
        let folder = try SetAsideFolder(id, in: instancesPath, host: hostName)
        guard try await files.run({ () throws(Failure) in try folder.arrival() == migration }) else { return }
        if let entry = try await entry(of: id), entry.isOurs, try await status(of: id)?.state.isActive == true {
            throw Failure(.storage, "the disks of \(entry.name) are in use", isRetriable: true)
        }
        try await files.run { () throws(Failure) in try folder.removeArrival(of: migration) }
    }
}

/// Makes a disk that has come from another host, or another size, one of this host's: looks at it before QEMU does, has
/// it stand on a file of this host's cache, and makes it as large as the plan says. Done again it finds what it did.
struct DiskFitting: Sendable {
    let surroundings: LibvirtDriver.Surroundings
    let migration: MigrationID
    let item: MoveOffer.Item
    let entry: DiskPlan.Entry
    let file: IncomingFile
    /// `nil` where the cache is the one that the disk stands on already.
    let source: (any MovedFiles)?

    private var files: BlockingExecutor { file.files }
    private var path: String { file.arrived }

    /// `false` for swap of another size, of which nothing is left: it is made anew.
    func run() async throws -> Bool {
        do {
            guard try await fit() else {
                try await files.run { () throws(Failure) in try file.discard() }
                return false
            }
            return true
        } catch let failure as Failure where !failure.isRetriable {
            try await files.run { () throws(Failure) in try file.discard() }
            throw failure
        }
    }

    private func fit() async throws -> Bool {
        let format = item.file.format ?? .raw
        let header =
            format == .qcow2
            ? try await files.run { () throws(Failure) in try OverlayHeader.inspect(path) } : nil
        let size = header?.virtualSizeBytes ?? item.file.sizeBytes
        if entry.role == .swap, size != entry.sizeBytes { return false }
        guard size <= entry.sizeBytes else {
            throw Failure(
                .invalidParameters, "\(entry.name) has \(size) bytes, the flavor gives it \(entry.sizeBytes)")
        }
        if let backing = header?.backing {
            // The other host's word for its base is compared, and never opened.
            let name = try await surroundings.base(
                of: entry, named: backing.split(separator: "/").last.map(String.init) ?? "", migration,
                source.map { MovedBase(file: item.base, source: $0) }, files)
            try await surroundings.cache.use(name) { try await surroundings.qemuImg.rebase(path, onto: $0) }
        }
        if size < entry.sizeBytes {
            try await surroundings.qemuImg.grow(path, format: format, to: entry.sizeBytes)
        }
        if surroundings.diskSettings.isPreallocated {
            try await files.run { () throws(Failure) in
                try Files.reserve(path, bytes: entry.sizeBytes, keepsSize: format == .qcow2)
            }
        }
        return true
    }
}

/// The template that a disk stands on at another host.
struct MovedBase: Sendable {
    /// `nil` where the other host does not offer it.
    let file: MovedFile?
    let source: any MovedFiles
}

extension LibvirtDriver.Surroundings {
    /// The file of this host's cache that a disk is to stand on: what it stands on at the source, under the name `named`
    /// there.
    /// - Parameter moved: `nil` where the cache is the one that the disk stands on already.
    func base(
        of entry: DiskPlan.Entry, named: String, _ migration: MigrationID, _ moved: MovedBase?,
        _ files: BlockingExecutor
    ) async throws -> String {
        switch entry.source {
        case .image(let image):
            let name = try ImageCache.key(image)
            // On another image it would be a disk of bits and pieces.
            guard named == name else {
                throw Failure(
                    .storage, "\(entry.name) stands on '\(named.prefix(160))', not on the image \(image.id) (\(name))")
            }
            return name
        case .blank:
            guard let moved else {
                guard BlankDisk.isCacheName(named) else {
                    throw Failure(.storage, "\(entry.name) stands on '\(named.prefix(160))', which is no template")
                }
                return named
            }
            guard let file = moved.file else {
                throw Failure(.storage, "the source does not offer what \(entry.name) stands on")
            }
            // One of this host's own, even of the same size, is formatted with other numbers: parts of the two would not
            // make a file system.
            let name = BlankDisk.movedCacheName(migration, disk: entry.name)
            let place = IncomingFile(file: file, path: cache.folder + "/" + name, files: files)
            guard try await !files.run({ () throws(Failure) in Files.exists(place.path) }) else { return name }
            try await place.fetch(from: moved.source) { _ in }
            try await place.finish(mode: 0o644)
            return name
        }
    }
}
