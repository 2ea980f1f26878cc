internal import Crypto
internal import Model

/// Where the files of an instance are while a move of it is not decided: beside its own folder, under the name that
/// Nova gives such a folder too.
struct SetAsideFolder: Sendable, Hashable {
    private static let suffix = "_resize"
    /// In the name of a folder that does not say yet by what migration it comes.
    private static let unfinishedSuffix = "_in"
    /// In a set-aside folder: the migration that it is kept for. Written before the folder gets its name.
    private static let markName = "migration"
    /// In an instance's own folder: the migration by which it came here.
    private static let arrivalName = "migration.in"
    private static let markLimit = 512

    let path: String
    private let home: InstanceFolder
    /// This host: where several share the folder, each removes only what it has made itself.
    private let host: String

    init(_ id: InstanceID, in instances: String, host: String) throws(Failure) {
        home = try InstanceFolder(id, in: instances)
        self.host = host
        path = home.path + Self.suffix
    }

    /// The instance that a folder of this name is of; `nil` for any other name.
    static func owner(of name: String) -> InstanceID? {
        guard name.hasSuffix(suffix) else { return nil }
        let id = String(name.dropLast(suffix.count))
        return isLowerCaseUUID(id) ? InstanceID(id) : nil
    }

    /// The instances of which anything is set aside in the folder. What names no migration is nobody's, and is left
    /// out. Blocks.
    static func all(in instances: String) throws(Failure) -> [InstanceID: MigrationID] {
        var found: [InstanceID: MigrationID] = [:]
        for name in try Files.names(in: instances) {
            guard let id = owner(of: name) else { continue }
            found[id] = try? SetAsideFolder(id, in: instances, host: "").migration()
        }
        return found
    }

    /// The migration that it is kept for; `nil` where nothing is set aside. Blocks.
    func migration() throws(Failure) -> MigrationID? { try Self.read(path + "/" + Self.markName) }

    /// The migration by which this host has made the instance's own folder; `nil` for one that another host has made.
    /// Blocks.
    func arrival() throws(Failure) -> MigrationID? {
        guard let bytes = try Files.read(home.path + "/" + Self.arrivalName, limit: Self.markLimit) else { return nil }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
        guard lines.count == 2, lines[1] == host, isLowerCaseUUID(lines[0]) else { return nil }
        return MigrationID(lines[0])
    }

    /// Sets the instance's folder aside; nothing when it is. Blocks.
    func fill(for migration: MigrationID) throws(Failure) {
        try Self.require(migration)
        if let known = try self.migration() {
            guard known == migration, !Files.exists(home.path) else {
                throw Failure(.conflict, "\(path) is there, of migration \(known)")
            }
            return
        }
        guard try Self.isFree(path) else { throw Failure(.conflict, "\(path) is there, and does not say of what") }
        guard Files.isFolder(home.path) else { throw Failure(.notFound, "there is no folder \(home.path)") }
        try Files.replace(home.path + "/" + Self.markName, with: Array(migration.rawValue.utf8), mode: 0o600)
        try Files.synchronise(home.path)
        try Files.rename(home.path, to: path)
        try Files.synchronise(Files.parent(path))
    }

    /// Puts it back; nothing when it is not of this migration. Blocks.
    func empty(of migration: MigrationID) throws(Failure) {
        guard try self.migration() == migration else { return }
        guard try Self.isFree(home.path) else {
            throw Failure(.conflict, "\(home.path) is there: \(path) cannot be put back")
        }
        try Files.rename(path, to: home.path)
        // A mark that outlives this line is overwritten by the next move, and says nothing until then.
        try Files.remove(home.path + "/" + Self.markName)
        try Files.synchronise(Files.parent(path))
    }

    /// Removes it; nothing when it is not of this migration. Blocks.
    func remove(of migration: MigrationID) throws(Failure) {
        guard try self.migration() == migration else { return }
        // The mark goes last, so that a removal that was cut off goes on.
        for name in try Files.names(in: path) where name != Self.markName { try Files.removeTree(path + "/" + name) }
        try Files.removeTree(path)
    }

    /// Makes the instance's own folder for what arrives by the migration. Blocks.
    func begin(_ migration: MigrationID) throws(Failure) {
        try Self.require(migration)
        let mark = home.path + "/" + Self.arrivalName
        if try arrival() == migration { return }
        guard try Self.isFree(home.path) else {
            throw Failure(.conflict, "\(home.path) is there already, and not by migration \(migration)")
        }
        // Under another name until it says of what it is: a folder without a word of it would never be removed.
        try Files.removeTree(unfinished)
        try Files.makeFolder(unfinished, mode: 0o711)
        try Files.replace(unfinished + "/" + Self.arrivalName, with: Array("\(migration)\n\(host)".utf8), mode: 0o600)
        try Files.synchronise(unfinished)
        try Files.rename(unfinished, to: home.path)
        try Files.synchronise(Files.parent(mark))
    }

    /// Removes the instance's own folder if it came by the migration; nothing else. Blocks.
    func removeArrival(of migration: MigrationID) throws(Failure) {
        try Files.removeTree(unfinished)
        guard try arrival() == migration else { return }
        for name in try Files.names(in: home.path) where name != Self.arrivalName {
            try Files.removeTree(home.path + "/" + name)
        }
        try Files.removeTree(home.path)
    }

    /// Of this host alone.
    var unfinished: String {
        home.path + Self.unfinishedSuffix + Hex.encode(Array(digest(.sha256, of: Array(host.utf8)).prefix(4)))
    }

    /// Whether a folder can get this name: there is none, or an empty one, which is what a removal leaves that was cut
    /// off after its last file.
    private static func isFree(_ path: String) throws(Failure) -> Bool {
        guard Files.exists(path) else { return true }
        return Files.isFolder(path) ? try Files.names(in: path, limit: 1).isEmpty : false
    }

    private static func read(_ path: String) throws(Failure) -> MigrationID? {
        guard let bytes = try Files.read(path, limit: markLimit) else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        guard isLowerCaseUUID(text) else { throw Failure(.storage, "\(path) names no migration") }
        return MigrationID(text)
    }

    private static func require(_ migration: MigrationID) throws(Failure) {
        guard isLowerCaseUUID(migration.rawValue) else {
            throw Failure(.invalidParameters, "a migration's id is a uuid, not '\(migration.rawValue.prefix(64))'")
        }
    }
}
