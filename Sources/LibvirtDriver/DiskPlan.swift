internal import Compute
internal import Model

/// The disks that a guest is to have, in the order of their device names, and where they come from.
struct DiskPlan: Sendable, Hashable {
    enum Source: Sendable, Hashable {
        case image(ImageReference)
        case blank(BlankDisk)
    }

    struct Entry: Sendable, Hashable {
        let role: GuestDisk.Role
        /// In the instance's folder.
        let name: String
        let source: Source
        let sizeBytes: Int64
    }

    let entries: [Entry]

    init(_ guest: GuestSpecification, fileSystem: LibvirtDriverOptions.FileSystem?) throws(Failure) {
        try self.init(guest.image, guest.instance.flavor, guest.instance.localDisks, fileSystem: fileSystem)
    }

    /// - Parameters:
    ///   - local: what the user asked for in place of the flavor's ephemeral disk and swap.
    ///   - fileSystem: for ephemeral disks of which nothing is said; `nil` goes by the image.
    /// - Throws: when the image is larger than the flavor's root disk.
    init(
        _ image: ImageReference, _ flavor: Flavor, _ local: LocalDisks? = nil,
        fileSystem: LibvirtDriverOptions.FileSystem?
    ) throws(Failure) {
        let root = flavor.rootGiB > 0 ? Int64(flavor.rootGiB) << 30 : image.virtualSizeBytes
        guard image.virtualSizeBytes <= root else {
            let needed = (image.virtualSizeBytes - 1) >> 30 + 1
            throw Failure(
                .imageUnacceptable,
                "image \(image.id) needs \(needed) GiB, flavor \(flavor.name) has \(flavor.rootGiB) GiB")
        }
        var entries = [
            Entry(role: .root, name: InstanceFolder.rootName, source: .image(image), sizeBytes: root)
        ]
        func add(_ role: GuestDisk.Role, _ name: String, _ disk: BlankDisk) {
            entries.append(Entry(role: role, name: name, source: .blank(disk), sizeBytes: disk.sizeBytes))
        }
        let system = BlankDisk.fileSystem(for: image, configured: fileSystem)
        let ephemerals = local?.ephemerals ?? []
        for (index, disk) in ephemerals.enumerated() {
            let own = disk.fileSystem.map { LibvirtDriverOptions.FileSystem(rawValue: $0) } ?? system
            guard let own else {
                throw Failure(.invalidParameters, "no file system is called '\(disk.fileSystem ?? "")'")
            }
            add(.ephemeral(index), "disk.eph\(index)", .ephemeral(index, gib: disk.sizeGiB, own))
        }
        if ephemerals.isEmpty, flavor.ephemeralGiB > 0 {
            add(.ephemeral(0), "disk.local", .ephemeral(0, gib: flavor.ephemeralGiB, system))
        }
        let swap = local?.swapMiB ?? flavor.swapMiB
        if swap > 0 { add(.swap, "disk.swap", .swap(mib: swap)) }
        self.entries = entries
    }
}
