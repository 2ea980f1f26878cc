internal import Crypto
internal import HTTP
public import Model
internal import Telemetry

/// What may be done with images, and by whom. The routers translate HTTP into its calls.
///
/// An image whose upload fails, whatever the reason, is `queued` again, without bytes: the owner may try once more.
public final class ImageService: Sendable {
    /// How often a write is tried again when another write of the same record came first.
    private static let writeAttempts = 16

    let storage: any ImageStorage
    let store: ImageStore
    let tickets: ImageTicketAuthority
    let transferTimeout: Duration
    private let now: @Sendable () -> Timestamp
    private let log = Logger("images")

    /// - Parameter transferTimeout: the longest time that one upload or download may take.
    public init(
        storage: any ImageStorage, store: ImageStore, tickets: ImageTicketAuthority,
        transferTimeout: Duration = .seconds(86_400), now: @escaping @Sendable () -> Timestamp
    ) {
        (self.storage, self.store, self.tickets) = (storage, store, tickets)
        (self.transferTimeout, self.now) = (transferTimeout, now)
    }

    /// Clears up after uploads that ended with their process: their parts are removed and their images are `queued` again.
    /// Call it before the first request. Active images without a file are reported in the log, nothing more.
    public func recover() async throws {
        let running = try await store.recover()
        for image in try await storage.list(visibleTo: nil) {
            switch image.status {
            case .saving where !running.contains(image.id): try await requeue(image.id)
            case .active where try await store.size(image.id) == nil:
                log.error("an active image has no file", ["image": image.id])
            default: continue
            }
        }
    }

    // MARK: - Records

    /// The image, if `caller` may see it.
    func image(_ id: String, for caller: ImageCaller) async throws -> ImageRecord {
        let id = id.lowercased()
        guard isLowerCaseUUID(id), let image = try await storage.find(ImageID(id)), caller.maySee(image) else {
            throw ImageError.notFound(id)
        }
        return image
    }

    /// The image, if `caller` may change it. Who may see but not change it gets 403.
    private func changeable(_ id: String, for caller: ImageCaller, _ verb: String) async throws -> ImageRecord {
        let image = try await image(id, for: caller)
        guard caller.isAdmin || (image.owner == caller.projectID && caller.mayChange) else {
            throw ImageError.forbidden("You are not permitted to \(verb) this image.")
        }
        return image
    }

    func list(_ items: QueryItems, for caller: ImageCaller) async throws -> (images: [ImageRecord], hasMore: Bool) {
        let query = try ImageQuery(items, caller: caller)
        return try query.page(of: try await storage.list(visibleTo: caller.isAdmin ? nil : caller.projectID))
    }

    func create(_ document: JSON, by caller: ImageCaller) async throws -> ImageRecord {
        guard caller.mayChange else { throw ImageError.forbidden("You are not permitted to create images.") }
        guard var members = document.members else { throw ImageError.invalid("The body must be a JSON object.") }
        let id: String
        if let wanted = members.removeValue(forKey: "id") {
            guard let text = wanted.text?.lowercased(), isLowerCaseUUID(text) else {
                throw ImageError.invalid("Attribute 'id' must be a uuid.")
            }
            id = text
        } else {
            id = makeUUID()
        }
        let blank = ImageRecord(id: ImageID(id), owner: caller.projectID, createdAt: now())
        var fields = ImageFields(image: blank, caller: caller)
        for (key, value) in members.sorted(by: { $0.key < $1.key }) { try fields.set(key, to: value) }
        do {
            try await storage.insert(fields.image)
        } catch ImageStorageError.duplicate {
            throw ImageError.conflict("Image ID \(id) already exists!")
        }
        return fields.image
    }

    func patch(_ id: String, _ patch: ImagePatch, by caller: ImageCaller) async throws -> ImageRecord {
        try await change(id, for: caller, "modify") { image throws(ImageError) in
            image = try patch.apply(to: image, by: caller)
        }
    }

    func setTag(_ tag: String, on id: String, present: Bool, by caller: ImageCaller) async throws {
        let tag = try ImageFields.tag(.string(tag))
        _ = try await change(id, for: caller, "modify") { image throws(ImageError) in
            if present {
                guard image.tags.contains(tag) || image.tags.count < ImageLimits.tags else {
                    throw ImageError(413, "An image has at most \(ImageLimits.tags) tags.")
                }
                image.tags.insert(tag)
            } else {
                guard image.tags.remove(tag) != nil else {
                    throw ImageError(404, "Image \(image.id) has no tag \(tag).")
                }
            }
        }
    }

    func setActive(_ isActive: Bool, _ id: String, by caller: ImageCaller) async throws {
        let (from, to): (ImageStatus, ImageStatus) = isActive ? (.deactivated, .active) : (.active, .deactivated)
        _ = try await change(id, for: caller, "modify") { image throws(ImageError) in
            guard image.status == from || image.status == to else {
                throw .forbidden("Not allowed while the image is \(image.status.rawValue).")
            }
            image.status = to
        }
    }

    func delete(_ id: String, by caller: ImageCaller) async throws {
        try await delete(id) { try await self.changeable(id, for: caller, "delete") }
    }

    /// The same for the bearer of a ticket.
    func delete(_ id: String, ticket: String?) async throws {
        let id = try verified(ticket, id, .delete)
        try await delete(id.rawValue) {
            guard let image = try await self.storage.find(id) else { throw ImageError.notFound(id.rawValue) }
            return image
        }
    }

    private func delete(_ id: String, find: () async throws -> ImageRecord) async throws {
        for _ in 0..<Self.writeAttempts {
            let image = try await find()
            guard !image.isProtected else {
                throw ImageError.forbidden("Image \(image.id) is protected and cannot be deleted.")
            }
            guard try await storage.remove(image.id, revision: image.revision) else { continue }
            // The record goes first: without it nobody starts to read a file that is about to go.
            try await store.remove(image.id)
            return
        }
        throw ImageError.conflict("Image \(id) is being changed by others; try again.")
    }

    private func change(
        _ id: String, for caller: ImageCaller, _ verb: String,
        _ body: (inout ImageRecord) throws(ImageError) -> Void
    ) async throws -> ImageRecord {
        for _ in 0..<Self.writeAttempts {
            var image = try await changeable(id, for: caller, verb)
            let before = image
            try body(&image)
            if image == before { return image }
            image.updatedAt = now()
            if try await storage.replace(image) { return image }
        }
        throw ImageError.conflict("Image \(id) is being changed by others; try again.")
    }

    // MARK: - Bytes

    /// Stores the bytes of a queued image and makes it active.
    func upload(_ id: String, _ source: any ByteSource, length: Int64?, by caller: ImageCaller) async throws {
        try await upload(to: try await changeable(id, for: caller, "upload to"), source, length: length)
    }

    /// The same for the bearer of a ticket.
    func upload(_ id: String, _ source: any ByteSource, length: Int64?, ticket: String?) async throws {
        let id = try verified(ticket, id, .write)
        guard let image = try await storage.find(id) else { throw ImageError.notFound(id.rawValue) }
        try await upload(to: image, source, length: length)
    }

    private func upload(to image: ImageRecord, _ source: any ByteSource, length: Int64?) async throws {
        try requireQueued(image)
        guard let format = image.diskFormat, image.containerFormat != nil else {
            throw ImageError.invalid("Properties disk_format, container_format must be set prior to saving data.")
        }
        if let length { try store.checkLimit(length) }
        let isSaving = Flag()
        do {
            let stored = try await store.receive(image.id, from: source, expected: length, claiming: format) {
                guard try await self.storage.replace(self.saving(image)) else {
                    throw ImageError.conflict("Image \(image.id) was changed by another request; upload again.")
                }
                isSaving.raise()
            }
            try await activate(image.id, stored)
        } catch {
            guard isSaving.isRaised else { throw error }
            // What failed may be the request itself, cancelled: the clearing up must not be cancelled with it.
            let clearing = Task { try await self.requeue(image.id) }
            do {
                try await clearing.value
            } catch let fault {
                // `recover` will find the image at the next start.
                log.error("image upload: cannot requeue", ["image": image.id, "error": String(describing: fault)])
            }
            throw Self.answer(to: error)
        }
    }

    private func requireQueued(_ image: ImageRecord) throws(ImageError) {
        guard image.status == .queued else {
            throw .conflict("Image \(image.id) is \(image.status.rawValue): only a queued image takes bytes.")
        }
    }

    private func saving(_ image: ImageRecord) -> ImageRecord {
        var saving = image
        saving.status = .saving
        saving.updatedAt = now()
        return saving
    }

    private func activate(_ id: ImageID, _ stored: StoredImage) async throws {
        for _ in 0..<Self.writeAttempts {
            guard var image = try await storage.find(id), image.status == .saving else {
                // Deleted while the bytes came; so the bytes go too.
                try await store.remove(id)
                throw ImageError.notFound(id.rawValue)
            }
            image.status = .active
            image.sizeBytes = stored.sizeBytes
            image.virtualSizeBytes = stored.virtualSizeBytes
            image.checksum = stored.md5
            image.sha512 = stored.sha512
            image.updatedAt = now()
            if try await storage.replace(image) { return }
        }
        try await store.remove(id)
        throw ImageError.conflict("Image \(id) is being changed by others; upload again.")
    }

    /// Makes a `saving` image `queued` again.
    private func requeue(_ id: ImageID) async throws {
        for _ in 0..<Self.writeAttempts {
            guard var image = try await storage.find(id), image.status == .saving else { return }
            image.status = .queued
            image.updatedAt = now()
            if try await storage.replace(image) { return }
        }
        throw ImageError.conflict("Image \(id) is being changed by others.")
    }

    private static func answer(to error: any Error) -> any Error {
        guard let body = error as? RequestBodyError else { return error }
        return switch body {
        case .disconnected: ImageError.invalid("The upload ended before all bytes had come.")
        case .timedOut: ImageError(408, "The upload did not end in time.")
        case .tooLarge(let limit): ImageError(413, "The image is larger than \(limit) bytes.")
        }
    }

    /// Where the bytes of an image lie that `caller` may read; `nil` when the image has none yet.
    func download(_ id: String, for caller: ImageCaller) async throws -> (image: ImageRecord, length: Int64)? {
        let image = try await image(id, for: caller)
        guard image.status != .deactivated || caller.isAdmin else {
            throw ImageError.forbidden("The requested image has been deactivated. Image data download is forbidden.")
        }
        return try await bytes(of: image)
    }

    /// Where the bytes lie that `ticket` lets its bearer read.
    func download(_ id: String, ticket: String?) async throws -> (image: ImageRecord, length: Int64) {
        let id = try verified(ticket, id, .read)
        guard let image = try await storage.find(id), let found = try await bytes(of: image) else {
            throw ImageError.notFound(id.rawValue)
        }
        return found
    }

    /// The image's id, if the ticket lets its bearer do this with it.
    private func verified(_ ticket: String?, _ id: String, _ access: ImageAccess) throws(ImageError) -> ImageID {
        let id = ImageID(id.lowercased())
        guard isLowerCaseUUID(id.rawValue), let ticket else {
            throw ImageError(401, "A ticket for this image is needed.")
        }
        do {
            try tickets.verify(ticket, image: id, access: access, now: now())
        } catch {
            log.notice("image ticket refused", ["image": id, "reason": String(describing: error)])
            throw ImageError(401, "The ticket is not valid for this image.")
        }
        return id
    }

    private func bytes(of image: ImageRecord) async throws -> (image: ImageRecord, length: Int64)? {
        guard image.status == .active || image.status == .deactivated else { return nil }
        guard let length = try await store.size(image.id) else {
            log.error("an active image has no file", ["image": image.id])
            throw ImageError(404, "The bytes of image \(image.id) are not on this host.")
        }
        return (image, length)
    }
}
