internal import Model
internal import Telemetry

extension ImageCache {
    /// When files that no disk stands on leave the cache.
    struct Retention: Sendable, Hashable {
        var removesUnused = true
        /// Since the last use of an image's base, or of an unfinished image.
        var image = Duration.seconds(86_400)
        /// Since the last use of an empty disk's template.
        var template = Duration.seconds(3_600)

        /// Between the fetch of an image and the disk on it nothing on the disk tells of the launch but this time.
        var grace = Duration.seconds(600)

        /// How long an unused file of this name stays; `nil` for what is none of the cache's.
        func age(of name: String) -> Duration? {
            if BlankDisk.isCacheName(name) { return max(template, grace) }
            return ImageCache.isDigest(name) ? max(image, grace) : nil
        }
    }

    /// Removes the files that no disk stands on and nobody has used for a while, and says which.
    ///
    /// The evidence is on the disk: the overlays in the instances' folders, of this host and of all that share the
    /// folders. Files in use are touched, as a record of the last use. When an overlay cannot be read nothing is removed.
    func removeUnused(instances: String, _ retention: Retention) async throws -> [String] {
        try await files.run { () throws(Failure) in
            let names = try Files.names(in: folder)
            let used = try DiskUsage.backings(in: instances, except: folder)
            for name in names where used.contains(name) {
                // Gone when another host's pass was quicker to see the last disk go.
                if Files.exists(folder + "/" + name) { try Files.touch(folder + "/" + name) }
            }
            guard retention.removesUnused else { return [] }
            var leases: [(name: String, lease: CacheLease)] = []
            for name in names where !used.contains(name) && isOld(name, retention) {
                if let lease = try CacheLease.exclusive(folder + "/" + name) { leases.append((name, lease)) }
            }
            var removed: [String] = []
            if !leases.isEmpty {
                // Disks made since the first look; while the leases are held no further ones appear.
                let used = try DiskUsage.backings(in: instances, except: folder)
                for (name, lease) in leases where !used.contains(name) && isOld(name, retention) {
                    try Files.remove(lease.path)
                    removed.append(name)
                }
            }
            removed += try removeOldParts(names, retention)
            if !removed.isEmpty { log.info("unused files left the image cache", ["files": removed.count]) }
            return removed
        }
    }

    private func isOld(_ name: String, _ retention: Retention) -> Bool {
        guard let limit = retention.age(of: name), let age = Files.age(folder + "/" + name) else { return false }
        return age >= limit
    }

    private func removeOldParts(_ names: [String], _ retention: Retention) throws(Failure) -> [String] {
        var removed: [String] = []
        for name in names where name.hasSuffix(".part") {
            let path = folder + "/" + name
            let target = String(name.dropLast(".part".count))
            guard let limit = retention.age(of: target), let age = Files.age(path), age >= limit,
                let lock = try PartLock(path)
            else { continue }
            try Files.remove(folder + "/" + target + ".new")
            try lock.removeFile()
            removed.append(name)
        }
        return removed
    }

    /// Whether a file's name is that of a base: the digest of an image.
    static func isDigest(_ name: String) -> Bool {
        name.utf8.count == 128 && name.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }
}

/// Which files other files stand on, as the folders of the instances show.
enum DiskUsage {
    /// What ends the names of disks that are not in their places yet.
    private static let unfinished = [".new"] + IncomingFile.suffixes

    /// The names of all backing files of all disks in the folders under `instances`, finished or not. Blocks.
    ///
    /// Folders of any name count: those of instances that move or go are among them.
    static func backings(in instances: String, except cache: String) throws(Failure) -> Set<String> {
        var found: Set<String> = []
        for name in try Files.names(in: instances) {
            let path = instances + "/" + name
            guard path != cache, Files.isFolder(path) else { continue }
            let folder = InstanceFolder(found: path)
            // Without a readable record every file is looked at: one that lies only keeps a base from leaving.
            let info = try? DiskInfo.read(folder)
            for file in try Files.names(in: path) where file.hasPrefix(InstanceFolder.rootName) {
                let suffix = unfinished.first { file.hasSuffix($0) }
                guard info?[String(file.dropLast(suffix?.count ?? 0))] != .raw else { continue }
                do {
                    let backing = try OverlayHeader.read(path + "/" + file)?.backing?.split(separator: "/").last
                    if let backing { found.insert(String(backing)) }
                } catch  where suffix.map(IncomingFile.suffixes.contains) == true && !error.isRetriable {
                    // What another host gives may be anything; the look at it, once all is here, refuses this.
                }
            }
        }
        return found
    }
}
