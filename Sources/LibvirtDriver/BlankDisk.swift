internal import Model
internal import Processes
internal import Telemetry

/// A disk that begins empty: formatted space for the guest's data, or swap.
struct BlankDisk: Sendable, Hashable {
    enum Kind: Sendable, Hashable {
        case ephemeral(LibvirtDriverOptions.FileSystem, label: String)
        case swap
    }

    let kind: Kind
    let sizeBytes: Int64

    static func ephemeral(_ number: Int, gib: Int, _ system: LibvirtDriverOptions.FileSystem) -> BlankDisk {
        BlankDisk(kind: .ephemeral(system, label: "ephemeral\(number)"), sizeBytes: Int64(gib) << 30)
    }

    static func swap(mib: Int) -> BlankDisk { BlankDisk(kind: .swap, sizeBytes: Int64(mib) << 20) }

    /// The name of the file in the cache that all disks of this kind stand on.
    var cacheName: String {
        switch kind {
        case .ephemeral(let system, "ephemeral0"): "ephemeral_\(sizeBytes >> 30)_\(system.rawValue)"
        case .ephemeral(let system, let label): "ephemeral_\(sizeBytes >> 30)_\(system.rawValue)_\(label)"
        case .swap: "swap_\(sizeBytes >> 20)"
        }
    }

    /// The name of a file in the cache that holds another host's template: of the one guest whose disk stands on it
    /// there. No two hosts format alike.
    static func movedCacheName(_ migration: MigrationID, disk: String) -> String { "ephemeral_\(migration)_\(disk)" }

    /// Whether a file of the cache is one of these.
    static func isCacheName(_ name: some StringProtocol) -> Bool {
        name.hasPrefix("ephemeral_") || name.hasPrefix("swap_")
    }

    /// Makes the raw file `path` of this disk's size, sparse, and formats it. An existing file is replaced.
    ///
    /// - Throws: when the program that makes this file system is not installed.
    func make(_ path: String, files: BlockingExecutor) async throws {
        let command = try command(path)
        try await files.run { [sizeBytes] () throws(Failure) in
            try Files.write([], to: path, mode: 0o600)
            try Files.resize(path, to: sizeBytes)
        }
        try await runTool(command, writing: path)
    }

    private func command(_ path: String) throws(Failure) -> Command {
        let (name, package, arguments): (String, String, [String])
        switch kind {
        case .swap: (name, package, arguments) = ("mkswap", "util-linux", [path])
        case .ephemeral(let system, let label):
            name = system == .ntfs ? "mkntfs" : "mkfs.\(system.rawValue)"
            switch system {
            case .vfat: (package, arguments) = ("dosfstools", ["-I", "-n", label, path])
            case .ext2, .ext3, .ext4: (package, arguments) = ("e2fsprogs", ["-q", "-F", "-L", label, path])
            case .xfs: (package, arguments) = ("xfsprogs", ["-q", "-f", "-L", label, path])
            case .ntfs: (package, arguments) = ("ntfs-3g", ["--force", "--fast", "--quiet", "--label", label, path])
            }
        }
        guard let program = find(program: name) else {
            throw Failure(
                .storage, "\(name) is not installed on this host (package \(package)); the disk \(cacheName) needs it",
                isRetriable: true)
        }
        return Command(program, arguments, timeout: .seconds(300))
    }
}

extension BlankDisk {
    /// What a flavor's own ephemeral disk is formatted with: the configured file system, else what the image's
    /// `os_type` calls for.
    static func fileSystem(
        for image: ImageReference, configured: LibvirtDriverOptions.FileSystem?
    ) -> LibvirtDriverOptions.FileSystem {
        if let configured { return configured }
        switch image.properties["os_type"]?.lowercased() {
        case "linux": return .ext4
        case "windows": return .ntfs
        default: return .vfat
        }
    }
}
