internal import Images
internal import Model

/// Removes images that the control plane itself has made and needs no more.
struct ImageRemoval: Sendable {
    private static let attempts = 16

    let images: any ImageStorage
    let service: ServerImages

    init(images: any ImageStorage, service: ServerImages) { (self.images, self.service) = (images, service) }

    /// Removes the image of a shelved instance that is gone.
    func removeShelved(of instance: Instance?) async throws {
        if let image = instance?.shelved?.imageID { try await remove(image) }
    }

    /// Removes the image with its bytes, through the image service; of one that has none yet the record, after which an
    /// upload under way comes to nothing. Succeeds when there is no such image.
    func remove(_ id: ImageID) async throws {
        guard let image = try await images.find(id) else { return }
        if image.status == .active || image.status == .deactivated { return try await service.delete(id) }
        for _ in 0..<Self.attempts {
            guard let image = try await images.find(id) else { return }
            if try await images.remove(id, revision: image.revision) { return }
        }
        throw Failure(.conflict, "image \(id) is being changed by others", isRetriable: true)
    }
}
