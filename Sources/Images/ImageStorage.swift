public import Model
internal import Synchronization

/// Where image records are kept. The control plane's database implements it; `MemoryImageStorage` does for tests.
public protocol ImageStorage: Sendable {
    /// Stores a new record with the revision it carries.
    /// Throws `ImageStorageError.duplicate` when there is one of that id.
    func insert(_ image: ImageRecord) async throws
    /// The record, or `nil` when there is none of that id.
    func find(_ id: ImageID) async throws -> ImageRecord?
    /// Every record that `project` owns and every public or community one; all records when `project` is `nil`.
    /// In no particular order.
    func list(visibleTo project: ProjectID?) async throws -> [ImageRecord]
    /// Writes `image` with its revision raised by one, if the stored revision is still the one `image` carries.
    /// `false` when another write came first or the record is gone.
    func replace(_ image: ImageRecord) async throws -> Bool
    /// Removes the record, if its revision is still `revision`. `false` when another write came first or it is gone.
    func remove(_ id: ImageID, revision: Int64) async throws -> Bool
}

/// What the storage refuses by rule, not by fault.
public enum ImageStorageError: Error, Sendable, Hashable {
    case duplicate(ImageID)
}

/// Image records in memory.
public final class MemoryImageStorage: ImageStorage {
    private let images = Mutex<[ImageID: ImageRecord]>([:])

    public init() {}

    public func insert(_ image: ImageRecord) async throws {
        try images.withLock { images in
            guard images[image.id] == nil else { throw ImageStorageError.duplicate(image.id) }
            images[image.id] = image
        }
    }

    public func find(_ id: ImageID) async throws -> ImageRecord? {
        images.withLock { $0[id] }
    }

    public func list(visibleTo project: ProjectID?) async throws -> [ImageRecord] {
        images.withLock { images in
            images.values.filter { image in project.map { image.isVisible(to: $0) } ?? true }
        }
    }

    public func replace(_ image: ImageRecord) async throws -> Bool {
        images.withLock { images in
            guard images[image.id]?.revision == image.revision else { return false }
            var raised = image
            raised.revision += 1
            images[image.id] = raised
            return true
        }
    }

    public func remove(_ id: ImageID, revision: Int64) async throws -> Bool {
        images.withLock { images in
            guard images[id]?.revision == revision else { return false }
            images[id] = nil
            return true
        }
    }
}
