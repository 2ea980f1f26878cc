public import Model

extension ImageRecord {
    /// The members that belong to the image itself; a property cannot take one of these names.
    static let baseMembers: Set<String> = [
        "id", "name", "status", "visibility", "owner", "disk_format", "container_format", "size", "virtual_size",
        "checksum", "os_hash_algo", "os_hash_value", "min_disk", "min_ram", "protected", "os_hidden", "tags",
        "created_at", "updated_at", "self", "file", "schema", "direct_url", "locations", "stores",
    ]

    /// Writes the image as clients of the v2 API see it: the properties are flat members beside the fixed ones.
    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            for (key, value) in properties.sorted(by: { $0.key < $1.key }) { writer.member(key, value) }
            writer.member("id", id.rawValue)
            writer.member("name", name)
            writer.member("status", status.rawValue)
            writer.member("visibility", visibility.rawValue)
            writer.member("owner", owner.rawValue)
            writer.member("disk_format", diskFormat?.rawValue)
            writer.member("container_format", containerFormat)
            writer.member("size", sizeBytes)
            writer.member("virtual_size", virtualSizeBytes)
            writer.member("checksum", checksum)
            writer.member("os_hash_algo", sha512 == nil ? nil : "sha512")
            writer.member("os_hash_value", sha512)
            writer.member("min_disk", minDiskGiB)
            writer.member("min_ram", minMemoryMiB)
            writer.member("protected", isProtected)
            writer.member("os_hidden", isHidden)
            writer.array("tags") { writer in
                for tag in tags.sorted() { writer.string(tag) }
            }
            writer.member("created_at", createdAt.iso8601)
            writer.member("updated_at", updatedAt.iso8601)
            writer.member("self", "/v2/images/\(id)")
            writer.member("file", "/v2/images/\(id)/file")
            writer.member("schema", "/v2/schemas/image")
        }
    }

    func json() -> [UInt8] {
        var writer = JSONWriter(capacity: 1_024)
        write(to: &writer)
        return writer.finish()
    }
}
