public import Model

/// Where an image is in its life (Glance's `status`; the text is what clients see).
public enum ImageStatus: String, Sendable, Hashable, Codable, CaseIterable {
    /// Registered, without bytes.
    case queued
    /// An upload is under way.
    case saving
    case active
    case killed, deleted, deactivated
}

/// Who may see an image.
public enum ImageVisibility: String, Sendable, Hashable, Codable, CaseIterable {
    /// Everybody sees it in lists; only an administrator may make an image so.
    case `public`
    /// Everybody can use it by its id, and it is listed when asked for.
    case community
    /// The owner's, and of those the owner will share it with; lists show it to the owner.
    case shared
    case `private`
}

/// One image as the image service keeps it. The bytes lie in the store's folder under the image's id.
public struct ImageRecord: Sendable, Hashable, Codable {
    public var id: ImageID
    public var name: String?
    public var status: ImageStatus
    public var visibility: ImageVisibility
    public var owner: ProjectID
    /// What the image claims to be; `nil` until the owner says so, and then nothing can be uploaded.
    public var diskFormat: DiskFormat?
    /// `bare`, or `nil` until the owner says so.
    public var containerFormat: String?
    /// Bytes of the uploaded file; `nil` while there is none.
    public var sizeBytes: Int64?
    /// Bytes of the disk inside.
    public var virtualSizeBytes: Int64?
    /// Lower-case hex MD5 of the uploaded bytes.
    public var checksum: String?
    /// Lower-case hex SHA-512 of the uploaded bytes.
    public var sha512: String?
    public var minDiskGiB: Int
    public var minMemoryMiB: Int
    public var isProtected: Bool
    public var isHidden: Bool
    public var tags: Set<String>
    /// The flat members that the image's owner added.
    public var properties: [String: String]
    public var createdAt: Timestamp
    public var updatedAt: Timestamp
    /// Rises with every write; `ImageStorage.replace` refuses a record that was read before another's write.
    public var revision: Int64

    public init(
        id: ImageID, name: String? = nil, status: ImageStatus = .queued, visibility: ImageVisibility = .shared,
        owner: ProjectID, diskFormat: DiskFormat? = nil, containerFormat: String? = nil, sizeBytes: Int64? = nil,
        virtualSizeBytes: Int64? = nil, checksum: String? = nil, sha512: String? = nil, minDiskGiB: Int = 0,
        minMemoryMiB: Int = 0, isProtected: Bool = false, isHidden: Bool = false, tags: Set<String> = [],
        properties: [String: String] = [:], createdAt: Timestamp, updatedAt: Timestamp? = nil, revision: Int64 = 0
    ) {
        self.id = id
        self.name = name
        self.status = status
        self.visibility = visibility
        self.owner = owner
        self.diskFormat = diskFormat
        self.containerFormat = containerFormat
        self.sizeBytes = sizeBytes
        self.virtualSizeBytes = virtualSizeBytes
        self.checksum = checksum
        self.sha512 = sha512
        self.minDiskGiB = minDiskGiB
        self.minMemoryMiB = minMemoryMiB
        self.isProtected = isProtected
        self.isHidden = isHidden
        self.tags = tags
        self.properties = properties
        self.createdAt = createdAt
        self.updatedAt = updatedAt ?? createdAt
        self.revision = revision
    }

    /// What a host must know to boot from the image; `nil` unless the image is active and complete.
    public var reference: ImageReference? {
        guard status == .active, let diskFormat, let sizeBytes, let virtualSizeBytes, let sha512 else { return nil }
        return ImageReference(
            id: id, format: diskFormat, sizeBytes: sizeBytes, virtualSizeBytes: virtualSizeBytes, sha512: sha512,
            minDiskGiB: minDiskGiB, minMemoryMiB: minMemoryMiB, properties: properties)
    }

    /// Whether somebody of `project` may read the image by its id.
    public func isVisible(to project: ProjectID) -> Bool {
        owner == project || visibility == .public || visibility == .community
    }
}
