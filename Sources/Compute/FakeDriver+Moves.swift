public import Model

// Disks that are set aside and fetched: the bytes tell whose disk it is.
extension FakeDriver {
    private static let diskName = "disk"

    public func setAside(_ id: InstanceID, for migration: MigrationID) async throws {
        try await perform(.setAside, id) { state in
            if state.setAside[id] == migration, !state.disks.contains(id) { return }
            if let domain = state.domains[id], domain.isOurs, domain.isOn {
                throw Failure(.storage, "the disks of \(domain.name) are in use")
            }
            guard state.setAside[id] == nil else {
                throw Failure(.conflict, "disks of another migration of instance \(id) are set aside")
            }
            guard state.disks.remove(id) != nil else { throw Failure(.notFound, "instance \(id) has no disk here") }
            state.setAside[id] = migration
        }
    }

    public func bringBack(_ id: InstanceID, of migration: MigrationID) async throws {
        try await perform(.bringBack, id) { state in
            guard state.setAside[id] == migration else { return }
            guard !state.disks.contains(id) else {
                throw Failure(.conflict, "instance \(id) has other disks here by now")
            }
            state.setAside[id] = nil
            state.disks.insert(id)
        }
    }

    public func removeSetAside(_ id: InstanceID, of migration: MigrationID) async throws {
        try await perform(.removeSetAside, id) { state in
            guard state.setAside[id] == migration else { return }
            state.setAside[id] = nil
            // On the same host the rest is that of the new disks.
            guard !state.disks.contains(id) else { return }
            state.configDrives.removeValue(forKey: id)
            state.injectedFiles.removeValue(forKey: id)
            state.consoles.removeValue(forKey: id)
        }
    }

    public func setAside() async throws -> [InstanceID: MigrationID] {
        try await perform(.listSetAside, nil) { $0.setAside }
    }

    public func setAsideFiles(_ id: InstanceID, of migration: MigrationID) async throws -> [MovedFile] {
        try await perform(.setAsideFiles, id) { state in
            guard state.setAside[id] == migration else {
                throw Failure(.notFound, "nothing of migration \(migration) is set aside here")
            }
            let size = Int64(Self.content(of: id).count)
            return [MovedFile(name: Self.diskName, sizeBytes: size, dataBytes: size, format: .qcow2)]
        }
    }

    public func setAsideExtents(
        _ id: InstanceID, of migration: MigrationID, file: String, from offset: Int64
    ) async throws -> [DataExtent] {
        let files = try await setAsideFiles(id, of: migration)
        guard let found = files.first(where: { $0.name == file }) else {
            throw Failure(.notFound, "there is no file \(file)")
        }
        return offset < found.sizeBytes ? [DataExtent(offset: offset, length: found.sizeBytes - offset)] : []
    }

    public func readSetAside(
        _ id: InstanceID, of migration: MigrationID, file: String, at offset: Int64, count: Int
    ) async throws -> [UInt8] {
        try await perform(.readSetAside, id) { state in
            guard state.setAside[id] == migration, file == Self.diskName else {
                throw Failure(.notFound, "there is no file \(file) of migration \(migration)")
            }
            return Array(Self.content(of: id).dropFirst(Int(offset)).prefix(count))
        }
    }

    public func takeOverDisks(
        _ guest: GuestSpecification, of migration: MigrationID, from source: any MovedFiles,
        progress: @escaping @Sendable (Int64, Int64) async -> Void
    ) async throws {
        let id = guest.instance.id
        if host.state.setAside[id] != migration {
            for file in try await source.list() where file.name == Self.diskName {
                var offset: Int64 = 0
                var bytes: [UInt8] = []
                while let extent = try await source.extents(of: file.name, from: offset).first {
                    bytes += try await source.read(file.name, at: extent.offset, count: Int(extent.length))
                    offset = extent.end
                    await progress(offset, file.dataBytes)
                }
                guard bytes == Self.content(of: id) else {
                    throw Failure(.storage, "the disk of instance \(id) has arrived as another")
                }
            }
        }
        try await perform(.takeOverDisks, id) { state in
            guard state.images.contains(guest.image.sha512) else {
                throw Failure(.storage, "image \(guest.image.id) is not in the cache")
            }
            state.disks.insert(id)
            state.takenOver[id] = migration
        }
    }

    public func leaveNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws {
        try await perform(.leaveNetwork, id) { _ = $0.networks.removeValue(forKey: id) }
    }

    public func removeTakenOver(_ id: InstanceID, of migration: MigrationID) async throws {
        try await perform(.removeTakenOver, id) { state in
            guard state.takenOver[id] == migration else { return }
            if let domain = state.domains[id], domain.isOurs, domain.isOn {
                throw Failure(.storage, "the disks of \(domain.name) are in use")
            }
            state.takenOver[id] = nil
            state.disks.remove(id)
            state.configDrives.removeValue(forKey: id)
        }
    }

    public func adoptNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws -> [NetworkInterface] {
        try await perform(.adoptNetwork, id) { state in
            if let known = state.networks[id] { return known }
            if !interfaces.isEmpty { state.networks[id] = interfaces }
            return interfaces
        }
    }

    private static func content(of id: InstanceID) -> [UInt8] { Array("the disk of \(id)".utf8) }
}
