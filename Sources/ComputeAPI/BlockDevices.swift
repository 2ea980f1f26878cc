internal import Model

/// `block_device_mapping_v2` as far as it can be served without a volume service: the image's own boot disk, and empty
/// disks on the host within what the flavor has.
struct BlockDevices: Sendable {
    private static let fileSystems: Set<String> = ["vfat", "ext2", "ext3", "ext4", "xfs", "ntfs"]

    static let volumeNeeded = APIError.badRequest(
        "block_device_mapping_v2: the image's own boot disk, and blank local disks for ephemeral space and swap, are "
            + "available; other block devices need a volume service, and there is none.")

    private(set) var image: String?
    private(set) var localDisks: LocalDisks?

    /// - Parameter limit: how many disks on the host may be asked for, the root disk among them; -1 for any number.
    init(_ mappings: [JSON], limit: Int) throws(APIError) {
        for mapping in mappings {
            var fields = try BodyFields(mapping, as: "block_device_mapping_v2")
            let source = try fields.nullableText("source_type") ?? nil
            let destination = try fields.nullableText("destination_type") ?? nil
            guard destination == nil || destination == "local" else { throw Self.volumeNeeded }
            switch source {
            case "image": try readBootDisk(&fields)
            case "blank": try readBlankDisk(&fields)
            default: throw Self.volumeNeeded
            }
            _ = try fields.flag("delete_on_termination")
            for name in ["device_name", "disk_bus", "device_type", "guest_format"] { _ = try fields.nullableText(name) }
            try fields.finish()
        }
        guard limit < 0 || mappings.count + (image == nil ? 1 : 0) <= limit else {
            throw .badRequest(
                "Block Device Mapping is Invalid: You specified more local devices than the limit allows.")
        }
    }

    /// The clients name the image's own boot disk as a block device.
    private mutating func readBootDisk(_ fields: inout BodyFields) throws(APIError) {
        let id = try fields.nullableText("uuid") ?? nil
        guard image == nil, try fields.integer("boot_index", -1...Int(Int32.max)) == 0, let id, isUUID(id) else {
            throw Self.volumeNeeded
        }
        image = id.lowercased()
    }

    private mutating func readBlankDisk(_ fields: inout BodyFields) throws(APIError) {
        let boot = fields.take("boot_index") ?? .null
        guard boot.isNull || boot.int ?? 0 < 0, (try fields.nullableText("uuid") ?? nil) == nil else {
            throw .badRequest("Block Device Mapping is Invalid: an empty disk cannot be booted from.")
        }
        guard let size = try fields.integer("volume_size", 1...1_048_576) else {
            throw .badRequest("Block Device Mapping is Invalid: an empty local disk has a volume_size.")
        }
        let format = try fields.nullableText("guest_format") ?? nil
        var disks = localDisks ?? LocalDisks()
        if format == "swap" {
            guard disks.swapMiB == nil else {
                throw .badRequest("Block Device Mapping is Invalid: there is more than one swap disk.")
            }
            disks.swapMiB = size
        } else {
            guard format.map(Self.fileSystems.contains) ?? true else {
                throw .badRequest(
                    "Block Device Mapping is Invalid: guest_format is one of swap, "
                        + Self.fileSystems.sorted().joined(separator: ", ") + ".")
            }
            disks.ephemerals.append(.init(sizeGiB: size, fileSystem: format))
        }
        localDisks = disks
    }
}

extension LocalDisks {
    /// Throws 400 unless the flavor has as much.
    func require(from flavor: Flavor) throws(APIError) {
        let ephemeral = ephemerals.reduce(0) { $0 + $1.sizeGiB }
        guard ephemeral <= flavor.ephemeralGiB else {
            throw .badRequest(
                "Ephemeral disks requested are larger than the instance type allows: \(ephemeral) GiB of "
                    + "\(flavor.ephemeralGiB) GiB.")
        }
        guard swapMiB ?? 0 <= flavor.swapMiB else {
            throw .badRequest(
                "Swap drive requested is larger than instance type allows: \(swapMiB ?? 0) MiB of \(flavor.swapMiB) MiB."
            )
        }
    }
}
