public import Compute
internal import Configuration
internal import Crypto
internal import Libvirt
public import Metadata
public import Model
internal import Telemetry

/// How this host makes disks.
struct DiskSettings: Sendable, Hashable {
    /// Of new disks; those that are there keep theirs.
    var format: DiskFormat
    var isPreallocated: Bool
    var fileSystem: LibvirtDriverOptions.FileSystem?

    init(_ configuration: Configuration) {
        switch configuration[LibvirtDriverOptions.imagesType] {
        case .default: format = configuration[LibvirtDriverOptions.useCowImages] ? .qcow2 : .raw
        case .qcow2: format = .qcow2
        case .raw, .flat: format = .raw
        }
        isPreallocated = configuration[LibvirtDriverOptions.preallocateImages] == .space
        fileSystem = configuration[LibvirtDriverOptions.defaultEphemeralFormat]
    }

    /// Bytes that a disk of this format is counted with before it is made: all of a full copy, and of a disk whose
    /// blocks are reserved; nothing of a sparse overlay, which begins with a few hundred KiB.
    func cost(_ entry: DiskPlan.Entry, _ format: DiskFormat) -> Int64 {
        format == .raw || isPreallocated ? entry.sizeBytes : 0
    }
}

extension LibvirtDriver {
    public func prepareImage(
        _ image: ImageReference, for flavor: Flavor, source: @escaping ImageSource
    ) async throws {
        let surroundings = try ready()
        // Known before the image is fetched for nothing.
        _ = try await machinePlan(flavor, image)
        let settings = surroundings.diskSettings
        let plan = try DiskPlan(image, flavor, fileSystem: settings.fileSystem)
        let needed = plan.entries.reduce(0) { $0 + settings.cost($1, settings.format) }
        try await files.run { () throws(Failure) in
            try Files.requireSpace(needed, for: "a guest of flavor \(flavor.name)", in: self.instancesPath)
        }
        try await surroundings.cache.prepare(image, source: source)
    }

    public func cacheImage(_ image: ImageReference, source: @escaping ImageSource) async throws {
        try await ready().cache.prepare(image, source: source)
    }

    public func createDisks(_ guest: GuestSpecification) async throws {
        let surroundings = try ready()
        let settings = surroundings.diskSettings
        let (id, flavor) = (guest.instance.id, guest.instance.flavor)
        let plan = try DiskPlan(guest, fileSystem: settings.fileSystem)
        let folder = try InstanceFolder(id, in: instancesPath)
        let (info, missing) = try await files.run { () throws(Failure) in
            try Files.makeFolder(folder.path, mode: 0o711)
            var formats: [String: DiskFormat] = [InstanceFolder.configDriveName: .raw]
            for entry in plan.entries { formats[entry.name] = settings.format }
            let info = try DiskInfo.fix(formats, in: folder)
            return (info, plan.entries.filter { !Files.exists(folder.path + "/" + $0.name) })
        }
        guard !missing.isEmpty else { return }
        let needed = missing.reduce(0) { $0 + settings.cost($1, info[$1.name] ?? settings.format) }
        try await files.run { () throws(Failure) in
            try self.reservations.take(
                needed, for: id, "instance \(id) of flavor \(flavor.name)", in: self.instancesPath)
        }
        defer { reservations.give(id) }
        for entry in missing {
            let maker = DiskMaker(surroundings, folder, entry, info[entry.name] ?? settings.format, files)
            try await maker.make()
        }
    }

    /// The guest's disks in the order of their device names, each as its folder has it.
    func disks(of guest: GuestSpecification) async throws -> [GuestDisk] {
        let surroundings = try ready()
        let settings = surroundings.diskSettings
        let plan = try DiskPlan(guest, fileSystem: settings.fileSystem)
        let folder = try InstanceFolder(guest.instance.id, in: instancesPath)
        let cache = surroundings.cache
        return try await files.run { () throws(Failure) in
            let info = try DiskInfo.read(folder)
            let entries = (guest.rescueImage.map { [DiskPlan.rescue($0)] } ?? []) + plan.entries
            return try entries.map { entry throws(Failure) in
                let path = folder.path + "/" + entry.name
                let format = info[entry.name] ?? settings.format
                var backing: String?
                if format == .qcow2 {
                    // An image that was written into the disk has no base any more.
                    let header = try OverlayHeader.read(path)
                    backing = header == nil ? try cache.path(of: entry.source) : header?.backing
                    if let backing, Files.parent(backing) != cache.folder {
                        throw Failure(.storage, "\(path) stands on \(backing), which is not in the image cache")
                    }
                }
                return GuestDisk(
                    role: entry.role, path: path, format: format, backing: backing,
                    isPreallocated: settings.isPreallocated)
            }
        }
    }

    public func removeDisks(_ id: InstanceID) async throws {
        let folder = try InstanceFolder(id, in: instancesPath)
        if let entry = try await entry(of: id), entry.isOurs, try await status(of: id)?.state.isActive == true {
            throw Failure(.storage, "the disks of \(entry.name) are in use", isRetriable: true)
        }
        let (snapshots, instancesPath) = (instancesPath + "/" + SnapshotPlace.folderName, instancesPath)
        let unfinished = try SetAsideFolder(id, in: instancesPath, host: hostName).unfinished
        try await files.run { () throws(Failure) in
            try Files.removeTree(folder.path)
            // What began to arrive and has no word of its migration yet.
            try Files.removeTree(unfinished)
            // A copy that was given up, and the mark of a guest that may be frozen, tell nothing of a guest that is gone.
            let owners = try Files.names(in: snapshots).compactMap(SnapshotPlace.owner(of:))
            for owner in owners where owner.instance == id {
                let place = try SnapshotPlace(id, owner.name, in: instancesPath)
                try place.removeFiles()
                try Files.remove(place.frozenMark)
            }
        }
    }

    public func tidyImageCache() async throws {
        let surroundings = try ready()
        let retention = ImageCache.Retention(
            removesUnused: configuration[LibvirtDriverOptions.removeUnusedBaseImages],
            image: configuration[LibvirtDriverOptions.removeUnusedOriginalAge],
            template: configuration[LibvirtDriverOptions.removeUnusedResizedAge])
        _ = try await surroundings.cache.removeUnused(instances: instancesPath, retention)
    }

    public func writeConfigDrive(_ guest: GuestSpecification, secrets: ConfigDriveSecrets) async throws {
        let surroundings = try ready()
        let folder = try InstanceFolder(guest.instance.id, in: instancesPath)
        let content = try MetadataContent(
            MetadataSubject(guest, secrets), seed: randomBytes(512), settings: try await metadataSettings())
        try await surroundings.configDrive.write(content, to: folder.configDrive(of: guest))
    }

    /// Read each time: the operator's data may change while the agent runs.
    public func metadataSettings() async throws -> MetadataSettings {
        var settings = MetadataSettings(domain: configuration[LibvirtDriverOptions.dhcpDomain])
        let path = configuration[LibvirtDriverOptions.vendorDataPath]
        guard !path.isEmpty else { return settings }
        let bytes = try await files.run { () throws(Failure) in try Files.read(path, limit: 1 << 20) }
        guard let bytes, let data = try? JSON(parsing: bytes), data.members != nil else {
            throw Failure(
                .storage, "the vendor data \(path) ([api] vendordata_jsonfile_path) is not a JSON object",
                isRetriable: true)
        }
        settings.vendorData = data.serialized()
        return settings
    }

    public func consoleLog(_ id: InstanceID, limit: Int) async throws -> [UInt8] {
        let folder = try InstanceFolder(id, in: instancesPath)
        // virtlogd renames a full log to .0, and that one to .1.
        let parts = [folder.consoleLog, folder.consoleLog + ".0", folder.consoleLog + ".1"]
        let limit = min(max(0, limit), 16 << 20)
        return try await files.run { () throws(Failure) in
            var log: [UInt8] = []
            for part in parts where log.count < limit {
                guard let size = Files.size(part) else { break }
                let wanted = limit - log.count
                guard let bytes = try Files.read(part, from: max(0, size - Int64(wanted)), limit: wanted) else { break }
                log = bytes + log
            }
            // What was given back reads as zeros.
            return Array(log.drop { $0 == 0 })
        }
    }

    public func limitConsoleLogs(of guests: [InstanceID], to limit: Int64) async throws {
        for id in guests {
            let log = try InstanceFolder(id, in: instancesPath).consoleLog
            try await files.run { () throws(Failure) in try ConsoleLogLimit(bytes: limit).apply(to: log) }
        }
    }
}

extension ImageCache {
    /// The file of the cache that a disk from `source` stands on.
    func path(of source: DiskPlan.Source) throws(Failure) -> String {
        switch source {
        case .image(let image): try base(of: image)
        case .blank(let disk): folder + "/" + disk.cacheName
        }
    }
}
