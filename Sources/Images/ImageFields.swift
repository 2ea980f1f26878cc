internal import GuestHardware
internal import Model

/// The limits on what a client may store with an image.
enum ImageLimits {
    static let nameLength = 255
    static let propertyValueLength = 65_535
    static let properties = 128
    static let tags = 128
    static let amount = 2_147_483_647
}

/// The members of an image that a client may set, with the rules for their values. Creating and patching share it.
struct ImageFields {
    private static let readOnly: Set<String> = [
        "id", "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at",
        "updated_at", "self", "file", "schema", "direct_url",
    ]

    var image: ImageRecord
    let caller: ImageCaller

    /// Sets the member `key` to `value`, or says why not.
    mutating func set(_ key: String, to value: JSON) throws(ImageError) {
        guard !Self.readOnly.contains(key) else { throw .forbidden("Attribute '\(key)' is read-only.") }
        switch key {
        case "name": image.name = try optionalText(key, value)
        case "visibility": try setVisibility(value)
        case "owner": try setOwner(value)
        case "disk_format": try setDiskFormat(value)
        case "container_format": try setContainerFormat(value)
        case "min_disk": image.minDiskGiB = try amount(key, value)
        case "min_ram": image.minMemoryMiB = try amount(key, value)
        case "protected": image.isProtected = try flag(key, value)
        case "os_hidden": image.isHidden = try flag(key, value)
        case "tags": image.tags = try tags(value)
        case "locations", "stores":
            throw .forbidden("The attribute '\(key)' cannot be set: images are stored by upload only.")
        default: try setProperty(key, value)
        }
    }

    /// Takes the property `key` away.
    mutating func remove(_ key: String) throws(ImageError) {
        guard !ImageRecord.baseMembers.contains(key) else {
            throw .forbidden("Property '\(key)' may not be removed.")
        }
        guard image.properties.removeValue(forKey: key) != nil else {
            throw .conflict("Property \(key) does not exist.")
        }
    }

    func has(_ key: String) -> Bool {
        ImageRecord.baseMembers.contains(key) || image.properties[key] != nil
    }

    static func tag(_ value: JSON) throws(ImageError) -> String {
        guard let text = value.text, !text.isEmpty, text.unicodeScalars.count <= ImageLimits.nameLength,
            !text.contains("\0")
        else { throw .invalid("A tag is a text of 1 to \(ImageLimits.nameLength) characters.") }
        return text
    }

    private func tags(_ value: JSON) throws(ImageError) -> Set<String> {
        guard let list = value.list else { throw .invalid("Attribute 'tags' must be a list of texts.") }
        guard list.count <= ImageLimits.tags else {
            throw ImageError(413, "An image has at most \(ImageLimits.tags) tags; \(list.count) were given.")
        }
        var tags: Set<String> = []
        for element in list { tags.insert(try Self.tag(element)) }
        return tags
    }

    private func optionalText(_ key: String, _ value: JSON) throws(ImageError) -> String? {
        if value.isNull { return nil }
        guard let text = value.text, !text.contains("\0") else {
            throw .invalid("Attribute '\(key)' must be a text or null.")
        }
        guard text.unicodeScalars.count <= ImageLimits.nameLength else {
            throw .invalid("Attribute '\(key)' is longer than \(ImageLimits.nameLength) characters.")
        }
        return text
    }

    private func amount(_ key: String, _ value: JSON) throws(ImageError) -> Int {
        guard let amount = value.int, (0...ImageLimits.amount).contains(amount) else {
            throw .invalid("Attribute '\(key)' must be a whole number from 0 to \(ImageLimits.amount).")
        }
        return amount
    }

    private func flag(_ key: String, _ value: JSON) throws(ImageError) -> Bool {
        guard let flag = value.boolean else { throw .invalid("Attribute '\(key)' must be true or false.") }
        return flag
    }

    private mutating func setVisibility(_ value: JSON) throws(ImageError) {
        guard let visibility = value.text.flatMap(ImageVisibility.init(rawValue:)) else {
            throw .invalid("Attribute 'visibility' must be one of public, community, shared, private.")
        }
        guard visibility != .public || image.visibility == .public || caller.isAdmin else {
            throw .forbidden("Only an administrator may make an image public.")
        }
        image.visibility = visibility
    }

    private mutating func setOwner(_ value: JSON) throws(ImageError) {
        guard let owner = value.text, !owner.isEmpty, owner.utf8.count <= ImageLimits.nameLength else {
            throw .invalid("Attribute 'owner' must be a project's id.")
        }
        guard caller.isAdmin || owner == image.owner.rawValue else {
            throw .forbidden("Only an administrator may give an image to another project.")
        }
        image.owner = ProjectID(owner)
    }

    private mutating func setDiskFormat(_ value: JSON) throws(ImageError) {
        let format: DiskFormat?
        if value.isNull {
            format = nil
        } else if let known = value.text.flatMap(DiskFormat.init(rawValue:)) {
            format = known
        } else {
            let accepted = DiskFormat.allCases.map(\.rawValue).joined(separator: ", ")
            throw .invalid("Invalid disk format '\(value.text ?? value.typeName)' for image. Accepted: \(accepted).")
        }
        guard image.status == .queued || format == image.diskFormat else {
            throw .forbidden("Attribute disk_format can be replaced only for a queued image.")
        }
        image.diskFormat = format
    }

    private mutating func setContainerFormat(_ value: JSON) throws(ImageError) {
        let format = value.text
        guard value.isNull || format == "bare" else {
            throw .invalid(
                "Invalid container format '\(format ?? value.typeName)' for image. Accepted: bare.")
        }
        guard image.status == .queued || format == image.containerFormat else {
            throw .forbidden("Attribute container_format can be replaced only for a queued image.")
        }
        image.containerFormat = format
    }

    private mutating func setProperty(_ key: String, _ value: JSON) throws(ImageError) {
        guard (1...ImageLimits.nameLength).contains(key.unicodeScalars.count), !key.contains("\0") else {
            throw .invalid("A property's name has 1 to \(ImageLimits.nameLength) characters.")
        }
        guard !key.hasPrefix("os_glance") else {
            throw .forbidden("Properties in the os_glance namespace are reserved.")
        }
        guard let text = value.text else {
            throw .invalid("The value of property '\(key)' must be a text, not \(value.typeName).")
        }
        guard text.utf8.count <= ImageLimits.propertyValueLength, !text.contains("\0") else {
            throw .invalid("The value of property '\(key)' is longer than \(ImageLimits.propertyValueLength) bytes.")
        }
        guard image.properties[key] != nil || image.properties.count < ImageLimits.properties else {
            throw ImageError(413, "An image has at most \(ImageLimits.properties) properties.")
        }
        do throws(HardwareError) {
            try GuestHardware.check(imageProperty: key, value: text)
        } catch {
            throw .invalid("\(error).")
        }
        image.properties[key] = text
    }
}
