internal import Model

/// Where an instance's files are. Made only for ids that are uuids, so that no id can lead elsewhere.
struct InstanceFolder: Sendable, Hashable {
    let path: String

    init(_ id: InstanceID, in instances: String) throws(Failure) {
        guard InstanceFolder.isUUID(id.rawValue) else {
            throw Failure(.invalidParameters, "the instance id '\(id.rawValue.prefix(64))' is not a uuid")
        }
        path = instances + "/" + id.rawValue
    }

    var disk: String { path + "/disk" }
    var configDrive: String { path + "/disk.config" }
    var consoleLog: String { path + "/console.log" }

    /// 8-4-4-4-12 lower-case hexadecimal digits.
    static func isUUID(_ text: String) -> Bool {
        let groups = text.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        return groups.map(\.count) == [8, 4, 4, 4, 12]
            && groups.joined().allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }
}
