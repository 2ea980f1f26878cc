internal import Model

/// An instance folder's `disk.info`: which format each disk file has, fixed before the file exists.
///
/// A guest that writes a qcow2 header into its raw disk could otherwise have the host open any file as its backing
/// file. The file is JSON, path to format, as Nova keeps it.
struct DiskInfo: Sendable, Hashable {
    /// By the file's name in its folder.
    private(set) var formats: [String: DiskFormat] = [:]

    /// - Returns: `nil` for a file of which nothing is fixed.
    subscript(name: String) -> DiskFormat? { formats[name] }

    private static let limit = 65_536

    /// What is fixed in a folder. Blocks.
    ///
    /// Folders made before `disk.info` was written have one disk, an overlay.
    static func read(_ folder: InstanceFolder) throws(Failure) -> DiskInfo {
        guard let bytes = try Files.read(folder.diskInfo, limit: limit) else {
            return DiskInfo(formats: Files.exists(folder.disk) ? [InstanceFolder.rootName: .qcow2] : [:])
        }
        guard let members = (try? JSON(parsing: bytes))?.members else {
            throw Failure(.storage, "\(folder.diskInfo) is not a JSON object")
        }
        var info = DiskInfo()
        for (path, value) in members {
            guard let format = value.text.flatMap(DiskFormat.init(rawValue:)) else {
                throw Failure(.storage, "\(folder.diskInfo) has no known format for \(path)")
            }
            // The folder may have moved with all that is in it.
            info.formats[path.split(separator: "/").last.map(String.init) ?? path] = format
        }
        return info
    }

    /// Fixes the formats of files that are to be made, and returns what is in force: what was fixed before stays. Blocks.
    static func fix(_ formats: [String: DiskFormat], in folder: InstanceFolder) throws(Failure) -> DiskInfo {
        var info = try read(folder)
        let known = info
        info.formats.merge(formats) { fixed, _ in fixed }
        guard info != known || !Files.exists(folder.diskInfo) else { return info }
        try Files.replace(folder.diskInfo, with: info.serialized(in: folder), mode: 0o644)
        return info
    }

    private func serialized(in folder: InstanceFolder) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { json in
            for (name, format) in formats.sorted(by: { $0.key < $1.key }) {
                json.member(folder.path + "/" + name, format.rawValue)
            }
        }
        return writer.finish()
    }
}
