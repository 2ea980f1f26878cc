internal import Compute
internal import Model

/// What the guest is to have of the files that are offered for it.
struct MoveOffer: Sendable, Hashable {
    struct Item: Sendable, Hashable {
        let file: MovedFile
        /// `nil` for a file beside the disks.
        let entry: DiskPlan.Entry?
        /// The template that the disk stands on at the source; `nil` where it is not offered.
        let base: MovedFile?
    }

    let items: [Item]

    /// The format that each disk is to be fixed with, by its name.
    var formats: [String: DiskFormat] {
        var formats: [String: DiskFormat] = [InstanceFolder.configDriveName: .raw]
        for item in items where item.entry != nil { formats[item.file.name] = item.file.format }
        return formats
    }

    var dataBytes: Int64 { items.reduce(0) { $0 + $1.file.dataBytes } }

    /// - Throws: for what no host of ours offers, and for a disk that the plan has no room for.
    init(_ offered: [MovedFile], _ plan: DiskPlan) throws(Failure) {
        guard offered.count <= MovedName.limit, Set(offered.map(\.name)).count == offered.count else {
            throw Failure(.storage, "the source offers \(offered.count) files, or one twice")
        }
        var items: [Item] = []
        for file in offered {
            guard MovedName.isOne(file.name) else {
                throw Failure(.storage, "the source offers a file '\(file.name.prefix(64))', which no instance has")
            }
            guard (0...IncomingFile.sizeLimit).contains(file.sizeBytes), (0...file.sizeBytes).contains(file.dataBytes)
            else { throw Self.refusal(file) }
            if MovedName.isBeside(file.name) {
                guard file.sizeBytes <= MovedName.besideLimit else { throw Self.refusal(file) }
                items.append(Item(file: file, entry: nil, base: nil))
                continue
            }
            // What the guest is not to have any more stays where it is. A template goes with its disk.
            guard let entry = plan.entries.first(where: { $0.name == file.name }) else { continue }
            guard let format = file.format else {
                throw Failure(.storage, "the source does not say the format of \(file.name)")
            }
            guard file.sizeBytes <= Self.limit(entry, format) else {
                // Swap of another size is made anew.
                if entry.role == .swap { continue }
                throw Self.refusal(file)
            }
            if entry.role == .swap, format == .raw, file.sizeBytes != entry.sizeBytes { continue }
            let base = offered.first { $0.name == MovedName.base(of: file.name) }
            if let base, base.sizeBytes > entry.sizeBytes || base.format != .raw {
                if entry.role == .swap { continue }
                throw Self.refusal(base)
            }
            items.append(Item(file: file, entry: entry, base: base))
        }
        guard items.contains(where: { $0.entry?.role == .root }) else {
            throw Failure(.storage, "the source offers no root disk")
        }
        self.items = items
    }

    /// Bytes that a disk's file can have at most. Clusters and their tables take a little more than what is in them.
    private static func limit(_ entry: DiskPlan.Entry, _ format: DiskFormat) -> Int64 {
        format == .raw ? entry.sizeBytes : entry.sizeBytes + entry.sizeBytes / 8 + (64 << 20)
    }

    private static func refusal(_ file: MovedFile) -> Failure {
        Failure(
            .storage,
            "the source offers \(file.name) with \(file.sizeBytes) bytes, \(file.dataBytes) of them data: too many")
    }
}

/// The names of files that go with an instance.
enum MovedName {
    /// Files of one instance.
    static let limit = 64
    /// Bytes of what is beside the disks.
    static let besideLimit: Int64 = 256 << 20
    private static let baseSuffix = ".base"

    static func isOne(_ name: String) -> Bool {
        isBeside(name) || isDisk(name) || disk(ofBase: name) != nil
    }

    /// The config drive and the console's log.
    static func isBeside(_ name: String) -> Bool {
        [InstanceFolder.configDriveName, "console.log", "console.log.0", "console.log.1"].contains(name)
    }

    static func isDisk(_ name: String) -> Bool { name == InstanceFolder.rootName || isBlankDisk(name) }

    /// The template that a disk stands on which began empty. It is in no instance's folder, but no two hosts have the
    /// same, so it goes with the disk.
    static func base(of disk: String) -> String { disk + baseSuffix }

    static func disk(ofBase name: String) -> String? {
        guard name.hasSuffix(baseSuffix) else { return nil }
        let disk = String(name.dropLast(baseSuffix.count))
        return isBlankDisk(disk) ? disk : nil
    }

    private static func isBlankDisk(_ name: String) -> Bool {
        if ["disk.local", "disk.swap"].contains(name) { return true }
        let number = name.dropFirst("disk.eph".count)
        return name.hasPrefix("disk.eph") && (1...3).contains(number.utf8.count)
            && number.utf8.allSatisfy { (48...57).contains($0) }
    }
}
