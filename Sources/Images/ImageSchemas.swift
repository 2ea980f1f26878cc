internal import Model

/// The JSON schemas under `/v2/schemas`, for clients that look before they send.
enum ImageSchemas {
    static func image() -> JSON {
        [
            "name": "image",
            "properties": imageProperties,
            "additionalProperties": ["type": "string"],
            "links": [
                ["rel": "self", "href": "{self}"], ["rel": "enclosure", "href": "{file}"],
                ["rel": "describedby", "href": "{schema}"],
            ],
        ]
    }

    static func images() -> JSON { collection("images", of: "image", item: image()) }

    static func member() -> JSON {
        [
            "name": "member",
            "properties": [
                "image_id": text("The image that is shared", pattern: uuid),
                "member_id": text("The project it is shared with"),
                "status": choice("What the project says to it", ["pending", "accepted", "rejected"]),
                "created_at": text("When it was shared", readOnly: true),
                "updated_at": text("When that last changed", readOnly: true),
                "schema": text(nil, readOnly: true),
            ],
        ]
    }

    static func members() -> JSON {
        [
            "name": "members",
            "properties": ["members": ["type": "array", "items": member()], "schema": text(nil)],
            "links": [["rel": "describedby", "href": "{schema}"]],
        ]
    }

    private static let uuid: JSON =
        "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"

    private static var imageProperties: JSON {
        [
            "id": text("The image's uuid", pattern: uuid),
            "name": ["type": ["null", "string"], "maxLength": 255, "description": "A name for people"],
            "status": choice("Where the image is in its life", ImageStatus.allCases.map(\.rawValue), readOnly: true),
            "visibility": choice("Who may see the image", ImageVisibility.allCases.map(\.rawValue)),
            "owner": ["type": ["null", "string"], "maxLength": 255, "description": "The project that owns the image"],
            "disk_format": choice("What the bytes are", DiskFormat.allCases.map(\.rawValue), orNull: true),
            "container_format": choice("What is around the bytes", ["bare"], orNull: true),
            "size": number("Bytes of the file", orNull: true, readOnly: true),
            "virtual_size": number("Bytes of the disk inside", orNull: true, readOnly: true),
            "checksum": [
                "type": ["null", "string"], "maxLength": 32, "readOnly": true, "description": "MD5 of the bytes",
            ],
            "os_hash_algo": ["type": ["null", "string"], "maxLength": 64, "readOnly": true],
            "os_hash_value": ["type": ["null", "string"], "maxLength": 128, "readOnly": true],
            "min_disk": number("GiB of disk that a server needs"),
            "min_ram": number("MiB of memory that a server needs"),
            "protected": ["type": "boolean", "description": "Whether deleting is refused"],
            "os_hidden": ["type": "boolean", "description": "Whether lists leave the image out"],
            "tags": ["type": "array", "items": ["type": "string", "maxLength": 255]],
            "created_at": text("When the image was registered", readOnly: true),
            "updated_at": text("When the image last changed", readOnly: true),
            "self": text(nil, readOnly: true),
            "file": text(nil, readOnly: true),
            "schema": text(nil, readOnly: true),
        ]
    }

    private static func collection(_ name: String, of element: String, item: JSON) -> JSON {
        [
            "name": .string(name),
            "properties": [
                name: ["type": "array", "items": item], "first": ["type": "string"], "next": ["type": "string"],
                "schema": ["type": "string"],
            ],
            "links": [
                ["rel": "first", "href": "{first}"], ["rel": "next", "href": "{next}"],
                ["rel": "describedby", "href": "{schema}"],
            ],
        ]
    }

    private static func text(_ description: String?, pattern: JSON? = nil, readOnly: Bool = false) -> JSON {
        var members: [String: JSON] = ["type": "string"]
        members["description"] = description.map(JSON.string)
        members["pattern"] = pattern
        if readOnly { members["readOnly"] = true }
        return .object(members)
    }

    private static func choice(
        _ description: String, _ values: [String], orNull: Bool = false, readOnly: Bool = false
    ) -> JSON {
        var members: [String: JSON] = [
            "type": orNull ? ["null", "string"] : "string", "description": .string(description),
            "enum": .array((orNull ? [.null] : []) + values.map(JSON.string)),
        ]
        if readOnly { members["readOnly"] = true }
        return .object(members)
    }

    private static func number(_ description: String, orNull: Bool = false, readOnly: Bool = false) -> JSON {
        var members: [String: JSON] = [
            "type": orNull ? ["null", "integer"] : "integer", "description": .string(description),
        ]
        if readOnly { members["readOnly"] = true }
        return .object(members)
    }
}
