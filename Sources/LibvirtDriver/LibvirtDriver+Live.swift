public import Compute
internal import Configuration
internal import GuestHardware
internal import HTTP
internal import Libvirt
public import Model
internal import Synchronization
internal import Telemetry
internal import XML

// The source's part in a live migration is in LibvirtDriver+LiveSend.
extension LibvirtDriver {
    /// In the instance's folder while its guest is offered: the migration. A destination that sees it has the same folder.
    static let offerMark = "migration.out"

    // MARK: - The offer

    public func offerGuest(_ guest: GuestSpecification, for migration: MigrationID) async throws -> LiveOffer {
        let id = guest.instance.id
        guard isLowerCaseUUID(migration.rawValue) else {
            throw Failure(.invalidParameters, "a migration's id is a uuid, not '\(migration.rawValue.prefix(64))'")
        }
        let entry = try await active(id, "carried over while it runs")
        try requireMovable(guest)
        try await refuseLostBackup(id)
        let connection = try await connection(.work)
        let (text, version) = try await translated("reading the definition of \(entry.name)") {
            (
                try await connection.xml(of: .uuid(id.rawValue), options: [.migratable, .secure]),
                try await connection.hypervisorVersion()
            )
        }
        let document: XMLNode
        do {
            document = try XMLNode(parsing: text)
        } catch {
            throw Failure(.hypervisor, "the XML of \(entry.name) cannot be read: \(error)")
        }
        let folder = try InstanceFolder(id, in: instancesPath)
        let cache = try ready().cache.folder
        return try await files.run { () throws(Failure) in
            let disks = try LiveDisk.all(in: document, folder)
            try Files.replace(
                folder.path + "/" + Self.offerMark, with: Array(migration.rawValue.utf8), mode: 0o600)
            return LiveOffer(
                xml: text, hypervisorType: document["type"] ?? "", hypervisorVersion: version.number, disks: disks,
                files: try Self.offeredFiles(folder, disks, cache: cache))
        }
    }

    public func withdrawOffer(_ id: InstanceID, of migration: MigrationID) async throws {
        let folder = try InstanceFolder(id, in: instancesPath)
        try await files.run { () throws(Failure) in
            guard try Self.offer(in: folder) == migration else { return }
            try Files.remove(folder.path + "/" + Self.offerMark)
        }
    }

    public func readOffered(_ id: InstanceID, file: String, at offset: Int64, count: Int) async throws -> [UInt8] {
        // Its disks are in use, and go by another way.
        guard !MovedName.isDisk(file) else { throw Self.noFile(file) }
        let folder = try InstanceFolder(id, in: instancesPath)
        let cache = try ready().cache.folder
        return try await files.run { () throws(Failure) in
            try Self.piece(of: file, in: folder.path, cache: cache, at: offset, count: count)
        }
    }

    static func offer(in folder: InstanceFolder) throws(Failure) -> MigrationID? {
        guard let bytes = try Files.read(folder.path + "/" + offerMark, limit: 64) else { return nil }
        return MigrationID(String(decoding: bytes, as: UTF8.self))
    }

    /// Throws for what cannot go to another host while it runs.
    private func requireMovable(_ guest: GuestSpecification) throws(Failure) {
        guard guest.devices?.isEmpty ?? true, guest.mediatedDevices?.isEmpty ?? true else {
            throw Failure(.conflict, "the guest has devices of this host, which cannot go to another one while it runs")
        }
        guard guest.rescueImage == nil else { throw Failure(.conflict, "the guest is being rescued") }
    }

    /// Blocks.
    private static func offeredFiles(
        _ folder: InstanceFolder, _ disks: [LiveDisk], cache: String
    ) throws(Failure) -> [MovedFile] {
        var found: [MovedFile] = []
        func add(_ name: String, _ path: String) throws(Failure) {
            guard let file = try SetAsideFile(path) else { return }
            found.append(
                MovedFile(name: name, sizeBytes: file.sizeBytes, dataBytes: file.sizeBytes, format: nil))
        }
        for name in try Files.names(in: folder.path).sorted() where MovedName.isBeside(name) {
            try add(name, folder.path + "/" + name)
        }
        for disk in disks {
            guard let backing = disk.backing, BlankDisk.isCacheName(backing[...]) else { continue }
            try add(MovedName.base(of: disk.name), cache + "/" + backing)
        }
        return found
    }

    // MARK: - The destination

    public func receiveGuest(
        _ guest: GuestSpecification, of migration: MigrationID, _ offer: LiveOffer, from source: any MovedFiles,
        isBlockMigration: Bool?
    ) async throws -> LiveAnswer {
        let id = guest.instance.id
        try requireMovable(guest)
        let document = try await accepted(offer, id)
        let folder = try InstanceFolder(id, in: instancesPath)
        let isShared = try await files.run { () throws(Failure) in try Self.offer(in: folder) == migration }
        if let isBlockMigration, isBlockMigration == isShared {
            throw Failure(
                .invalidParameters,
                isShared
                    ? "both hosts have the same folder: there is nothing to copy (block_migration)"
                    : "the hosts do not have the same folder: the disks have to be copied (block_migration)")
        }
        let place = try LivePlace(migration, configuration)
        let owner = try await qemuOwner()
        try await files.run { () throws(Failure) in try place.make(owner: owner) }
        if !isShared { try await makeLiveDisks(guest, migration, offer, from: source) }
        let own = try await self.document(of: guest)
        let disks = Dictionary(
            try await disks(of: guest).map { ($0.path.split(separator: "/").last.map(String.init) ?? "", $0) }
        ) { first, _ in first }
        let made = try LiveDocument(
            offered: document, folder: folder, disks: disks, own: own, interfaces: guest.interfaces, binding: binding,
            vncAddress: try ready().settings.vncAddress
        ).make()
        do {
            return LiveAnswer(
                xml: try made.serialized(), copiedDisks: isShared ? [] : offer.disks.map(\.target))
        } catch {
            throw Failure(.invalidParameters, "instance \(id) cannot be written as a domain: \(error)")
        }
    }

    /// The guest's definition, which this host's hypervisor can run.
    private func accepted(_ offer: LiveOffer, _ id: InstanceID) async throws -> XMLNode {
        let document: XMLNode
        do {
            document = try XMLNode(parsing: offer.xml)
        } catch {
            throw Failure(.invalidParameters, "the definition of the guest cannot be read: \(error)")
        }
        guard document.first("uuid")?.text == id.rawValue, DomainMetadata.isOurs(document) else {
            throw Failure(.invalidParameters, "the source offers another guest than instance \(id)")
        }
        let virtType = try ready().settings.virtType
        guard document["type"] == virtType else {
            throw Failure(
                .conflict, "the guest is of the type '\(document["type"] ?? "")', and this host runs \(virtType)")
        }
        if let entry = try await entry(of: id) {
            throw Failure(.conflict, "a domain \(entry.name) of that uuid is on this host")
        }
        let connection = try await connection(.work)
        let version = try await translated("asking for the hypervisor's version") {
            try await connection.hypervisorVersion()
        }
        let wanted = PackedVersion(number: offer.hypervisorVersion)
        guard version >= wanted else {
            throw Failure(
                .conflict, "the hypervisor of this host (\(version)) is older than the source's (\(wanted))")
        }
        guard let cpu = document.first("cpu"), let text = try? cpu.serialized() else { return document }
        let type = document.first("os/type")
        do {
            try await connection.compareCPU(
                text, emulator: nil, architecture: type?["arch"], machine: type?["machine"], type: document["type"])
        } catch {
            guard error.code == .cpuIncompatible else { throw Failure(error, "comparing the processors") }
            throw Failure(.conflict, "this host's processor cannot run the guest: \(error.message.prefix(400))")
        }
        return document
    }

    /// The guest's folder with empty disks that stand on the same as those of the source.
    private func makeLiveDisks(
        _ guest: GuestSpecification, _ migration: MigrationID, _ offer: LiveOffer, from source: any MovedFiles
    ) async throws {
        let surroundings = try ready()
        let id = guest.instance.id
        let aside = try SetAsideFolder(id, in: instancesPath, host: hostName)
        let folder = try InstanceFolder(id, in: instancesPath)
        let plan = try DiskPlan(guest, fileSystem: surroundings.diskSettings.fileSystem)
        let names = plan.entries.map(\.name)
        guard offer.disks.count == names.count, Set(offer.disks.map(\.name)) == Set(names) else {
            throw Failure(.conflict, "the guest has other disks than its flavor and image give it")
        }
        for disk in offer.disks {
            guard (0...IncomingFile.sizeLimit).contains(disk.dataBytes), disk.sizeBytes > 0,
                plan.entries.contains(where: { $0.name == disk.name && $0.sizeBytes == disk.sizeBytes })
            else {
                throw Failure(
                    .conflict, "the disk \(disk.name) has \(disk.sizeBytes) bytes, which its flavor does not give it")
            }
        }
        let needed = offer.disks.reduce(0) { $0 + $1.dataBytes }
        let beside = try Self.beside(offer.files)
        try await files.run { () throws(Failure) in
            try aside.begin(migration)
            var formats = [InstanceFolder.configDriveName: DiskFormat.raw]
            for disk in offer.disks { formats[disk.name] = disk.format }
            let info = try DiskInfo.fix(formats, in: folder)
            for disk in offer.disks where info[disk.name] != disk.format {
                throw Failure(.storage, "the source says another format of \(disk.name) than before")
            }
            try self.reservations.take(needed, for: id, "the migration of instance \(id)", in: self.instancesPath)
        }
        defer { reservations.give(id) }
        for file in beside {
            let incoming = IncomingFile(file: file, path: folder.path + "/" + file.name, files: files)
            try await files.run { () throws(Failure) in
                // An earlier attempt's is out of date.
                try Files.remove(incoming.path)
                try incoming.discard()
            }
            try await incoming.fetch(from: source) { _ in }
            try await incoming.finish(mode: file.name == InstanceFolder.configDriveName ? 0o644 : 0o600)
        }
        for disk in offer.disks {
            guard let entry = plan.entries.first(where: { $0.name == disk.name }) else { continue }
            try await makeLiveDisk(disk, entry, folder, migration, offer.files, from: source)
        }
    }

    private static func beside(_ files: [MovedFile]) throws(Failure) -> [MovedFile] {
        guard files.count <= MovedName.limit, Set(files.map(\.name)).count == files.count else {
            throw Failure(.storage, "the source offers \(files.count) files, or one twice")
        }
        let found = files.filter { MovedName.isBeside($0.name) }
        for file in found where !(0...MovedName.besideLimit).contains(file.sizeBytes) {
            throw Failure(.storage, "the source offers \(file.name) with \(file.sizeBytes) bytes: too many")
        }
        return found
    }

    private func makeLiveDisk(
        _ disk: LiveDisk, _ entry: DiskPlan.Entry, _ folder: InstanceFolder, _ migration: MigrationID,
        _ offered: [MovedFile], from source: any MovedFiles
    ) async throws {
        let surroundings = try ready()
        let path = folder.path + "/" + disk.name
        try await files.run { () throws(Failure) in try Files.remove(path) }
        switch (disk.format, disk.backing) {
        case (.raw, nil):
            try await files.run { () throws(Failure) in
                try Files.write([], to: path, mode: 0o600)
                try Files.resize(path, to: disk.sizeBytes)
            }
        case (.qcow2, let backing?):
            let base = offered.first { $0.name == MovedName.base(of: disk.name) }
            guard (base?.sizeBytes ?? 0) <= entry.sizeBytes else {
                throw Failure(.storage, "what \(entry.name) stands on is larger than the disk")
            }
            let name = try await surroundings.base(
                of: entry, named: backing, migration, MovedBase(file: base, source: source), files)
            try await surroundings.cache.use(name) {
                try await surroundings.qemuImg.createOverlay(path, base: $0, sizeBytes: disk.sizeBytes)
            }
        case (.qcow2, nil): try await surroundings.qemuImg.create(path, sizeBytes: disk.sizeBytes)
        default: throw Failure(.conflict, "the disk \(disk.name) has a format that cannot be carried over")
        }
        guard surroundings.diskSettings.isPreallocated else { return }
        try await files.run { () throws(Failure) in
            try Files.reserve(path, bytes: disk.sizeBytes, keepsSize: disk.format == .qcow2)
        }
    }

    public func goOn(_ id: InstanceID) async throws {
        guard let entry = try await own(id), let status = try await status(of: id) else { throw Self.noGuest(id) }
        switch status.state {
        case .paused:
            let connection = try await connection(.control)
            do {
                try await connection.resume(.uuid(id.rawValue))
            } catch {
                if try await self.status(of: id)?.state == .running { return }
                throw Failure(error, "letting \(entry.name) go on")
            }
        case .running, .blocked, .shuttingDown, .suspendedByGuest: return
        case .noState, .shutOff, .crashed, .unknown:
            throw Failure(.hypervisor, "\(entry.name) has come here, and is off")
        }
    }

    public func settleGuest(_ guest: GuestSpecification, of migration: MigrationID) async throws {
        let id = guest.instance.id
        guard try await own(id) != nil else { throw Self.noGuest(id) }
        // From the next start on it is defined as this host defines guests.
        try await define(guest)
        let folder = try InstanceFolder(id, in: instancesPath)
        try await withdrawOffer(id, of: migration)
        try await removeLiveSockets(of: migration)
        try await files.run { () throws(Failure) in try Files.synchronise(folder.path) }
        // It has been plugged in, and may ask for its address at any time.
        lastArrival.withLock { $0 = nil }
        requestUpkeep()
    }

    public func liveSocket(_ channel: LiveChannel, of migration: MigrationID) async throws -> String {
        switch channel {
        case .control: await files.run { self.daemonSocket() }
        case .memory, .disks: try LivePlace(migration, configuration).socket(channel)
        }
    }

    /// Where libvirt itself listens. Blocks.
    private func daemonSocket() -> String {
        if let range = host.uri.firstRange(of: "socket=") {
            return String(host.uri[range.upperBound...].prefix { $0 != "&" })
        }
        // The daemons one by one, where the distribution has them so.
        let modular = "/run/libvirt/virtqemud-sock"
        return Files.exists("/run/libvirt/libvirt-sock") ? "/run/libvirt/libvirt-sock" : modular
    }

    /// Whom QEMU's processes belong to; `nil` where libvirt does not say.
    func qemuOwner() async throws -> (user: UInt32, group: UInt32)? {
        try await hostCapabilities(try await connection(.work)).qemuOwner
    }
}

/// Where the sockets of one live migration are on this host.
struct LivePlace: Sendable {
    private let path: String

    init(_ migration: MigrationID, _ configuration: Configuration) throws(Failure) {
        guard isLowerCaseUUID(migration.rawValue) else {
            throw Failure(.invalidParameters, "a migration's id is a uuid, not '\(migration.rawValue.prefix(64))'")
        }
        path = configuration[LiveOptions.folder] + "/" + migration.rawValue
    }

    /// QEMU makes sockets in it, and connects to others, under a user of its own; nobody else may.
    private var guestFolder: String { path + "/guest" }

    /// The same on both hosts: libvirt is given it once for both.
    func socket(_ channel: LiveChannel) -> String {
        channel == .control ? path + "/control" : guestFolder + "/" + channel.rawValue
    }

    /// Blocks.
    func make(owner: (user: UInt32, group: UInt32)?) throws(Failure) {
        try Files.makeFolder(Files.parent(path), mode: 0o711)
        try Files.makeFolder(path, mode: 0o711)
        try Files.makeFolder(guestFolder, mode: 0o700)
        if let owner { try Files.setOwner(guestFolder, user: owner.user, group: owner.group) }
    }

    /// Blocks.
    func remove() throws(Failure) { try Files.removeTree(path) }
}
