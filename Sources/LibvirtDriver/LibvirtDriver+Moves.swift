public import Compute
internal import Configuration
internal import Libvirt
public import Model
internal import Telemetry

extension LibvirtDriver {
    /// What marks in folders call this host.
    var hostName: String { configuration[CommonOptions.host] }

    /// Parts of a file told at once, and bytes given at once.
    private static let (extentLimit, pieceLimit) = (1_000, 4 << 20)

    public func setAside(_ id: InstanceID, for migration: MigrationID) async throws {
        let folder = try SetAsideFolder(id, in: instancesPath, host: hostName)
        if let entry = try await entry(of: id), entry.isOurs, try await status(of: id)?.state.isActive == true {
            throw Failure(.storage, "the disks of \(entry.name) are in use", isRetriable: true)
        }
        try await files.run { () throws(Failure) in try folder.fill(for: migration) }
    }

    public func bringBack(_ id: InstanceID, of migration: MigrationID) async throws {
        let folder = try SetAsideFolder(id, in: instancesPath, host: hostName)
        try await files.run { () throws(Failure) in try folder.empty(of: migration) }
    }

    public func removeSetAside(_ id: InstanceID, of migration: MigrationID) async throws {
        let folder = try SetAsideFolder(id, in: instancesPath, host: hostName)
        try await files.run { () throws(Failure) in try folder.remove(of: migration) }
    }

    public func setAside() async throws -> [InstanceID: MigrationID] {
        let instances = instancesPath
        return try await files.run { () throws(Failure) in try SetAsideFolder.all(in: instances) }
    }

    public func setAsideFiles(_ id: InstanceID, of migration: MigrationID) async throws -> [MovedFile] {
        let folder = try SetAsideFolder(id, in: instancesPath, host: hostName)
        let cache = try ready().cache.folder
        return try await files.run { () throws(Failure) in
            try Self.require(folder, migration)
            let info = try DiskInfo.read(InstanceFolder(found: folder.path))
            var found: [MovedFile] = []
            for name in try Files.names(in: folder.path).sorted() {
                guard MovedName.isDisk(name) || MovedName.isBeside(name) else { continue }
                guard let file = try SetAsideFile(folder.path + "/" + name) else { continue }
                found.append(
                    MovedFile(
                        name: name, sizeBytes: file.sizeBytes, dataBytes: try file.dataBytes(), format: info[name]))
                guard let path = try Self.base(of: name, in: folder.path, info, cache: cache),
                    let base = try SetAsideFile(path)
                else { continue }
                found.append(
                    MovedFile(
                        name: MovedName.base(of: name), sizeBytes: base.sizeBytes, dataBytes: try base.dataBytes(),
                        format: .raw))
            }
            return found
        }
    }

    public func setAsideExtents(
        _ id: InstanceID, of migration: MigrationID, file: String, from offset: Int64
    ) async throws -> [DataExtent] {
        guard offset >= 0 else { throw Failure(.invalidParameters, "a file begins at byte 0") }
        let folder = try SetAsideFolder(id, in: instancesPath, host: hostName)
        let cache = try ready().cache.folder
        return try await files.run { () throws(Failure) in
            try Self.require(folder, migration)
            guard let source = try SetAsideFile(try Self.path(of: file, in: folder.path, cache: cache)) else {
                throw Self.noFile(file)
            }
            return try source.extents(from: offset, limit: Self.extentLimit)
        }
    }

    public func readSetAside(
        _ id: InstanceID, of migration: MigrationID, file: String, at offset: Int64, count: Int
    ) async throws -> [UInt8] {
        let folder = try SetAsideFolder(id, in: instancesPath, host: hostName)
        let cache = try ready().cache.folder
        return try await files.run { () throws(Failure) in
            try Self.require(folder, migration)
            return try Self.piece(of: file, in: folder.path, cache: cache, at: offset, count: count)
        }
    }

    /// Just so many bytes of a file of an instance, or of the template that one of its disks stands on. Blocks.
    static func piece(
        of file: String, in folder: String, cache: String, at offset: Int64, count: Int
    ) throws(Failure) -> [UInt8] {
        guard offset >= 0, (1...pieceLimit).contains(count) else {
            throw Failure(.invalidParameters, "a piece of a file has 1 to \(pieceLimit) bytes")
        }
        guard let source = try SetAsideFile(try path(of: file, in: folder, cache: cache)) else { throw noFile(file) }
        let bytes = try source.read(at: offset, count: count)
        guard bytes.count == count else {
            throw Failure(.invalidParameters, "\(file) has no \(count) bytes from \(offset) on")
        }
        return bytes
    }

    // MARK: -

    private static func require(_ folder: SetAsideFolder, _ migration: MigrationID) throws(Failure) {
        guard try folder.migration() == migration else {
            throw Failure(.notFound, "nothing of migration \(migration) is set aside here")
        }
    }

    static func noFile(_ name: String) -> Failure {
        Failure(.notFound, "there is no file \(name.prefix(64)) that is moved")
    }

    private static func path(of name: String, in folder: String, cache: String) throws(Failure) -> String {
        if MovedName.isDisk(name) || MovedName.isBeside(name) { return folder + "/" + name }
        guard let disk = MovedName.disk(ofBase: name) else { throw noFile(name) }
        let info = try DiskInfo.read(InstanceFolder(found: folder))
        guard let base = try base(of: disk, in: folder, info, cache: cache) else { throw noFile(name) }
        return base
    }

    /// The template in the cache that a disk stands on which began empty; `nil` for any other.
    private static func base(
        of disk: String, in folder: String, _ info: DiskInfo, cache: String
    ) throws(Failure) -> String? {
        guard MovedName.disk(ofBase: MovedName.base(of: disk)) != nil, info[disk] == .qcow2,
            let backing = try OverlayHeader.read(folder + "/" + disk)?.backing, Files.parent(backing) == cache,
            let name = backing.split(separator: "/").last, BlankDisk.isCacheName(name)
        else { return nil }
        return cache + "/" + name
    }
}
