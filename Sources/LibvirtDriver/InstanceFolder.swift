internal import Compute
internal import Model

/// Where an instance's files are. Made only for ids that are uuids, so that no id can lead elsewhere.
struct InstanceFolder: Sendable, Hashable {
    let path: String

    init(_ id: InstanceID, in instances: String) throws(Failure) {
        guard isLowerCaseUUID(id.rawValue) else {
            throw Failure(.invalidParameters, "the instance id '\(id.rawValue.prefix(64))' is not a uuid")
        }
        path = instances + "/" + id.rawValue
    }

    /// A folder that is there, of whatever name.
    init(found path: String) { self.path = path }

    /// Begins the names of all disks.
    static let rootName = "disk"
    static let configDriveName = "disk.config"
    static let diskInfoName = "disk.info"
    static let rescueName = "disk.rescue"
    static let rescueConfigDriveName = "disk.config.rescue"

    var disk: String { path + "/" + Self.rootName }
    var configDrive: String { path + "/" + Self.configDriveName }
    var rescueConfigDrive: String { path + "/" + Self.rescueConfigDriveName }
    /// The config drive that the guest is to have: the rescue's own, when it is being rescued.
    func configDrive(of guest: GuestSpecification) -> String {
        guest.rescueImage == nil ? configDrive : rescueConfigDrive
    }
    /// Says the format of each disk; see `DiskInfo`.
    var diskInfo: String { path + "/" + Self.diskInfoName }
    var consoleLog: String { path + "/console.log" }
}
