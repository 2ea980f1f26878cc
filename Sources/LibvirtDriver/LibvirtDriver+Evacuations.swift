internal import Compute
public import Model
internal import Telemetry

extension LibvirtDriver {
    public func seesDisks(_ id: InstanceID, besides migration: MigrationID) async throws -> Bool {
        let folder = try InstanceFolder(id, in: instancesPath)
        let aside = try SetAsideFolder(id, in: instancesPath, host: hostName)
        return try await files.run { () throws(Failure) in
            guard Files.exists(folder.disk) else { return false }
            return try aside.arrival() != migration
        }
    }

    public func beginTakingIn(_ id: InstanceID, by migration: MigrationID) async throws {
        let aside = try SetAsideFolder(id, in: instancesPath, host: hostName)
        try await files.run { () throws(Failure) in try aside.begin(migration) }
    }
}
