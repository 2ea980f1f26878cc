internal import Compute
internal import Model

/// Where the files of one copy of a root disk are. Made only of uuids, so that no name can lead elsewhere.
struct SnapshotPlace: Sendable, Hashable {
    /// Beside the instances' folders.
    static let folderName = "snapshots"

    let folder: String
    let id: InstanceID
    let name: String

    init(_ id: InstanceID, _ name: String, in instances: String) throws(Failure) {
        guard isLowerCaseUUID(id.rawValue), isLowerCaseUUID(name) else {
            throw Failure(.invalidParameters, "a copy of '\(id)' named '\(name.prefix(64))' is not named by uuids")
        }
        folder = instances + "/" + Self.folderName
        (self.id, self.name) = (id, name)
    }

    private var stem: String { "\(folder)/\(id).\(name)" }

    /// The copy, once it is complete.
    func file(_ format: DiskFormat) -> String { "\(stem).\(format.rawValue)" }
    /// The copy while it is written.
    var unfinished: String { stem + ".part" }
    /// There while the guest's file systems are, or may be, frozen.
    var frozenMark: String { stem + ".frozen" }

    /// Whose copy a file in the folder belongs to; `nil` for a file of another kind.
    static func owner(of file: String) -> SnapshotName? {
        let parts = file.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 3, isLowerCaseUUID(parts[0]), isLowerCaseUUID(parts[1]) else { return nil }
        return SnapshotName(instance: InstanceID(parts[0]), name: parts[1])
    }

    /// Removes whatever there is of the copy but the mark of a frozen guest. Blocks.
    func removeFiles() throws(Failure) {
        try Files.remove(unfinished)
        for format in DiskFormat.allCases { try Files.remove(file(format)) }
    }
}
