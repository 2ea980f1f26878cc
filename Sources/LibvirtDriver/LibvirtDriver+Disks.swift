public import Compute
internal import Crypto
internal import Libvirt
public import Model
internal import Telemetry

extension LibvirtDriver {
    public func prepareImage(
        _ image: ImageReference, for flavor: Flavor, source: @escaping ImageSource
    ) async throws {
        let surroundings = try ready()
        try Self.requireServed(flavor)
        try Self.requireRoom(for: image, in: flavor)
        try await surroundings.cache.prepare(image, source: source)
    }

    public func createDisks(_ guest: GuestSpecification) async throws {
        let surroundings = try ready()
        let (image, flavor) = (guest.image, guest.instance.flavor)
        try Self.requireServed(flavor)
        try Self.requireRoom(for: image, in: flavor)
        let folder = try InstanceFolder(guest.instance.id, in: instancesPath)
        let base = try surroundings.cache.base(of: image)
        let size = flavor.rootGiB > 0 ? Int64(flavor.rootGiB) << 30 : image.virtualSizeBytes
        let unfinished = folder.disk + ".new"
        let isDone = try await files.run { () throws(Failure) -> Bool in
            guard Files.exists(base) else {
                throw Failure(.storage, "the base \(base) of image \(image.id) is not in the cache", isRetriable: true)
            }
            try Files.makeFolder(folder.path, mode: 0o711)
            if Files.exists(folder.disk) { return true }
            try Files.remove(unfinished)
            // Says when the base was last used, for whoever cleans the cache.
            try Files.touch(base)
            return false
        }
        guard !isDone else { return }
        do {
            try await surroundings.qemuImg.createOverlay(unfinished, base: base, sizeBytes: size)
        } catch {
            try await files.run { () throws(Failure) in try Files.remove(unfinished) }
            throw error
        }
        try await files.run { () throws(Failure) in
            try Files.setMode(unfinished, 0o600)
            try Files.rename(unfinished, to: folder.disk)
        }
    }

    public func removeDisks(_ id: InstanceID) async throws {
        let folder = try InstanceFolder(id, in: instancesPath)
        if let entry = try await entry(of: id), entry.isOurs, try await status(of: id)?.state.isActive == true {
            throw Failure(.storage, "the disks of \(entry.name) are in use", isRetriable: true)
        }
        try await files.run { () throws(Failure) in try Files.removeTree(folder.path) }
    }

    public func writeConfigDrive(_ guest: GuestSpecification, adminPassword: String?) async throws {
        let surroundings = try ready()
        let folder = try InstanceFolder(guest.instance.id, in: instancesPath)
        let content = try ConfigDriveContent(guest, adminPassword: adminPassword, seed: randomBytes(512))
        try await surroundings.configDrive.write(content, to: folder.configDrive)
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
            return log
        }
    }

    /// Disks that later issues bring are refused, not left out.
    private static func requireServed(_ flavor: Flavor) throws(Failure) {
        guard flavor.ephemeralGiB == 0, flavor.swapMiB == 0 else {
            throw Failure(
                .invalidParameters,
                "flavor \(flavor.name) has an ephemeral disk of \(flavor.ephemeralGiB) GiB and \(flavor.swapMiB) MiB of "
                    + "swap; this driver makes neither yet")
        }
    }

    private static func requireRoom(for image: ImageReference, in flavor: Flavor) throws(Failure) {
        guard flavor.rootGiB > 0, image.virtualSizeBytes > Int64(flavor.rootGiB) << 30 else { return }
        let needed = (image.virtualSizeBytes - 1) >> 30 + 1
        throw Failure(
            .imageUnacceptable, "image \(image.id) needs \(needed) GiB, flavor \(flavor.name) has \(flavor.rootGiB) GiB"
        )
    }
}
