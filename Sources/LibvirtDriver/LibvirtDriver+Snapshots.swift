public import Compute
internal import Libvirt
public import Model
internal import Telemetry
internal import XML

// A running guest's disk is copied by its own QEMU: a backup job writes what the disk held when the job began, while
// the guest writes on. A disk whose guest is off is copied by qemu-img. Either way the copy stands alone, and what is
// zero takes no room.
extension LibvirtDriver {
    private static let progressInterval = Duration.seconds(1)
    /// How long a job that was told to end may take to do so.
    private static let abortLimit = Duration.seconds(60)

    public func takeSnapshot(
        _ guest: GuestSpecification, name: String, order: SnapshotRequest,
        progress: @escaping @Sendable (Double) async -> Void
    ) async throws -> SnapshotFile {
        let id = guest.instance.id
        let place = try SnapshotPlace(id, name, in: instancesPath)
        let path = place.file(order.format)
        try await files.run { () throws(Failure) in try Files.makeFolder(place.folder, mode: 0o711) }
        if let size = await files.run({ Files.size(path) }) {
            return SnapshotFile(path: path, format: order.format, sizeBytes: size)
        }
        // What an earlier attempt left, with the job that writes it.
        try await clear(place)
        let disk = try await rootDisk(of: id)
        try await files.run { () throws(Failure) in
            try self.reservations.take(disk.allocatedBytes, for: id, "a copy of the disk of \(id)", in: place.folder)
        }
        defer { reservations.give(id) }
        if try await own(id) != nil, try await status(of: id)?.state.isActive == true {
            try await copyLive(disk, to: place, order, progress)
        } else {
            if order.quiesce == .required, try await own(id) == nil {
                throw Failure(.notFound, "there is no guest \(id) here")
            }
            await progress(0)
            try await ready().qemuImg.copy(
                disk.path, format: disk.format, to: place.unfinished, as: order.format, sizeBytes: disk.virtualSizeBytes
            )
        }
        return try await files.run { () throws(Failure) in
            try Files.synchronise(place.unfinished)
            try Files.rename(place.unfinished, to: path)
            try Files.synchronise(place.folder)
            guard let size = Files.size(path) else { throw Failure(.storage, "\(path) is gone", isRetriable: true) }
            return SnapshotFile(path: path, format: order.format, sizeBytes: size)
        }
    }

    public func readSnapshot(_ snapshot: SnapshotFile, at offset: Int64, count: Int) async throws -> [UInt8] {
        try await files.run { () throws(Failure) in
            try Files.readPiece(snapshot.path, from: offset, count: count)
        }
    }

    public func removeSnapshot(_ id: InstanceID, name: String) async throws {
        let place = try SnapshotPlace(id, name, in: instancesPath)
        try await clear(place)
        try await files.run { () throws(Failure) in try place.removeFiles() }
    }

    public func snapshots() async throws -> Set<SnapshotName> {
        let folder = instancesPath + "/" + SnapshotPlace.folderName
        let names = try await files.run { () throws(Failure) in try Files.names(in: folder) }
        return Set(names.compactMap(SnapshotPlace.owner(of:)))
    }

    // MARK: - A guest that runs

    private func copyLive(
        _ disk: RootDisk, to place: SnapshotPlace, _ order: SnapshotRequest,
        _ progress: @escaping @Sendable (Double) async -> Void
    ) async throws {
        let (id, domain) = (place.id, DomainReference.uuid(place.id.rawValue))
        let connection = try await connection(.work)
        try await refuseLostBackup(id)
        let document = try await description(of: id)
        let request = try BackupDocument.make(
            of: document, disk: disk.path, to: place.unfinished, format: order.format
        )
        let watch = jobs.subscribe(id)
        let freeze = GuestFreeze(self, place)
        let isFrozen = try await freeze.freeze(order.quiesce, document)
        do {
            // Once the guest stands still this is not to be interrupted: what follows ends the standstill.
            try await regardless {
                try await translated("copying the disk of \(id)") {
                    try await connection.beginBackup(domain, xml: request)
                }
            }
        } catch {
            if isFrozen { try await regardless { try await freeze.thaw() } }
            throw error
        }
        if isFrozen { try await regardless { try await freeze.thaw() } }
        try Task.checkCancellation()
        await progress(0)
        try await follow(place, watch, progress)
        try await translated("closing the copy of the disk of \(id)") {
            try await connection.awaitBackupClosed(domain, disk: disk.path)
        }
    }

    /// Throws when a copy that libvirt has lost still holds the domain: whatever takes long would wait half a minute for
    /// it, and then fail.
    func refuseLostBackup(_ id: InstanceID) async throws {
        let isHeld = try await translated("looking at the jobs of \(id)") {
            try await connection(.control).isHeldByLostBackup(.uuid(id.rawValue))
        }
        guard isHeld else { return }
        throw Failure(
            .conflict,
            "libvirt ended while it began to copy the disk of \(id), and holds the guest for that copy until it is off; "
                + "a hard reboot, or a stop and a start, lets go of it")
    }

    /// Waits for the end of the job, telling how far it is.
    private func follow(
        _ place: SnapshotPlace, _ watch: JobWatch.Subscription,
        _ progress: @escaping @Sendable (Double) async -> Void
    ) async throws {
        let id = place.id
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.awaitEnd(place, watch) }
            group.addTask { await self.tellProgress(id, progress) }
            defer { group.cancelAll() }
            // Who tells the progress ends only when cancelled.
            try await group.next()
        }
        try Task.checkCancellation()
    }

    /// Returns when the job has done all its work.
    private func awaitEnd(_ place: SnapshotPlace, _ watch: JobWatch.Subscription) async throws {
        let id = place.id
        for await news in watch.news {
            switch news {
            case .ended(let end):
                guard end.operation == .backup else { continue }
                let connection = try await connection(.control)
                // News of an earlier attempt may come after this one has begun; it does not name the job.
                if try await isUnderWay(place, on: connection) { continue }
                let isDone = try await translated("looking at the copy of the disk of \(id)") {
                    try await connection.hasLastBackupSucceeded(.uuid(id.rawValue))
                }
                if isDone == true { return }
                throw Failure(
                    .hypervisor, "copying the disk of \(id) failed: \(end.errorMessage ?? "no reason is known")",
                    isRetriable: true)
            case .stopped:
                throw Failure(.hypervisor, "the guest \(id) stopped while its disk was copied", isRetriable: true)
            case .lost:
                throw Failure(
                    .hypervisor, "the connection broke while the disk of \(id) was copied", isRetriable: true)
            }
        }
        throw CancellationError()
    }

    private func tellProgress(_ id: InstanceID, _ progress: @Sendable (Double) async -> Void) async {
        while (try? await clock.sleep(for: Self.progressInterval)) != nil {
            do {
                let connection = try await connection(.statistics)
                guard let found = try await connection.jobProgress(.uuid(id.rawValue)), found.totalBytes > 0 else {
                    continue
                }
                await progress(min(1, Double(found.processedBytes) / Double(found.totalBytes)))
            } catch {
                // How far it is is of little interest to a broken connection; how it ends is told elsewhere.
                log.debug("a copy's progress is not known", ["instance": id, "error": LoggedError(error)])
            }
        }
    }

    /// Ends the job that writes this copy, if there is one, and thaws the guest.
    private func clear(_ place: SnapshotPlace) async throws {
        let domain = DomainReference.uuid(place.id.rawValue)
        if try await entry(of: place.id)?.isOurs == true {
            let connection = try await connection(.control)
            let watch = jobs.subscribe(place.id)
            let what = "ending the copy of the disk of \(place.id)"
            let clock = ContinuousClock()
            let start = clock.now
            while try await isUnderWay(place, on: connection) {
                guard start.duration(to: clock.now) < Self.abortLimit else {
                    throw Failure(.timeout, "\(what): it does not end", isRetriable: true)
                }
                do {
                    try await connection.abortJob(domain)
                } catch  where error.code == .operationInvalid || error.code == .noDomain {
                    // It has just ended, or is ending.
                } catch {
                    throw Failure(error, what)
                }
                await next(of: watch, atMost: .seconds(1))
            }
        }
        try await GuestFreeze(self, place).thaw()
        try await files.run { () throws(Failure) in try Files.remove(place.unfinished) }
    }

    /// Whether the domain has a job that writes this very copy. Jobs of others are left alone.
    private func isUnderWay(_ place: SnapshotPlace, on connection: LibvirtConnection) async throws -> Bool {
        do {
            guard let xml = try await connection.backupXML(of: .uuid(place.id.rawValue)) else { return false }
            return BackupDocument.targets(xml).contains(place.unfinished)
        } catch  where error.code == .noDomain {
            return false
        } catch {
            throw Failure(error, "looking at the jobs of \(place.id)")
        }
    }

    private func next(of watch: JobWatch.Subscription, atMost limit: Duration) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { for await _ in watch.news { return } }
            group.addTask { _ = try? await AlarmClock().sleep(for: limit) }
            await group.next()
            group.cancelAll()
        }
    }

    private func description(of id: InstanceID) async throws -> XMLNode {
        let connection = try await connection(.work)
        let text = try await translated("looking at domain \(id)") { try await connection.xml(of: .uuid(id.rawValue)) }
        do {
            return try XMLNode(parsing: text)
        } catch {
            throw Failure(.hypervisor, "the XML of domain \(id) cannot be read: \(error)")
        }
    }

    // MARK: - The disk

    private struct RootDisk: Sendable {
        var path: String
        var format: DiskFormat
        var virtualSizeBytes: Int64
        /// Bytes that it takes with what it stands on: at most so many has a copy.
        var allocatedBytes: Int64
    }

    private func rootDisk(of id: InstanceID) async throws -> RootDisk {
        let folder = try InstanceFolder(id, in: instancesPath)
        return try await files.run { () throws(Failure) in
            guard let allocated = Files.allocatedBytes(folder.disk), let size = Files.size(folder.disk) else {
                throw Failure(.notFound, "instance \(id) has no disk here")
            }
            // From the record, never from bytes that a guest may have written.
            let format = try DiskInfo.read(folder)[InstanceFolder.rootName] ?? .qcow2
            guard format == .qcow2 else {
                return RootDisk(path: folder.disk, format: format, virtualSizeBytes: size, allocatedBytes: allocated)
            }
            guard let header = try OverlayHeader.read(folder.disk) else {
                throw Failure(.storage, "\(folder.disk) has no header")
            }
            let base = header.backing.flatMap(Files.allocatedBytes) ?? 0
            return RootDisk(
                path: folder.disk, format: format, virtualSizeBytes: header.virtualSizeBytes,
                allocatedBytes: min(allocated + base, header.virtualSizeBytes + 1 << 24))
        }
    }
}

/// libvirt's `domainbackup`: which disk is written where.
enum BackupDocument {
    /// A job that writes the disk whose file is `disk` to a new file of its own, and no other disk.
    /// - Parameter domain: the running domain's XML.
    static func make(
        of domain: XMLNode, disk: String, to target: String, format: DiskFormat
    ) throws(Failure) -> String {
        var root: String?
        var others: [String] = []
        for device in domain.all("devices/disk") {
            guard let name = device.first("target")?["dev"] else { continue }
            if device.first("source")?["file"] == disk { root = name } else { others.append(name) }
        }
        guard let root else { throw Failure(.conflict, "the guest does not run on the disk \(disk)") }
        let document = XMLNode("domainbackup", ["mode": "push"]) {
            XMLNode("disks") {
                XMLNode("disk", ["name": root, "backup": "yes", "type": "file"]) {
                    XMLNode("target", ["file": target])
                    XMLNode("driver", ["type": format.rawValue])
                }
                for name in others { XMLNode("disk", ["name": name, "backup": "no"]) }
            }
        }
        do {
            return try document.serialized()
        } catch {
            throw Failure(.invalidParameters, "the copy of \(disk) cannot be described: \(error)")
        }
    }

    /// The files that a job writes.
    static func targets(_ xml: String) -> [String] {
        guard let document = try? XMLNode(parsing: xml) else { return [] }
        return document.all("disks/disk/target").compactMap { $0["file"] }
    }
}
