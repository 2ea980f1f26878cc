import Database
import Images
import Model
import Testing

/// Both storages keep the same promises.
@Suite("Image records")
struct ImageStorageTests {
    enum Kind: CaseIterable {
        case memory, sqlite
        #if PostgreSQL
            case postgresql
        #endif
    }

    private func make(_ kind: Kind) async throws -> any ImageStorage {
        switch kind {
        case .memory: return MemoryImageStorage()
        case .sqlite: return try await makeDatabase(.sqlite).images
        #if PostgreSQL
            case .postgresql: return try await makeDatabase(.postgresql).images
        #endif
        }
    }

    private func image(_ id: String, owner: String = "p", visibility: ImageVisibility = .private) -> ImageRecord {
        ImageRecord(
            id: ImageID(id), name: "cirros", status: .active, visibility: visibility, owner: ProjectID(owner),
            diskFormat: .qcow2, containerFormat: "bare", sizeBytes: 1 << 40, virtualSizeBytes: 7, checksum: "c",
            sha512: "s", minDiskGiB: 1, minMemoryMiB: 2, isProtected: true, isHidden: true, tags: ["a", "b"],
            properties: ["hw_x": "y"], createdAt: at(1), updatedAt: at(2), revision: 3)
    }

    @Test("A record comes back whole; an id is used once", arguments: Kind.allCases)
    func roundTrip(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(image("i"))
        #expect(try await storage.find(ImageID("i")) == image("i"))
        #expect(try await storage.find(ImageID("x")) == nil)
        await #expect(throws: ImageStorageError.duplicate(ImageID("i"))) { try await storage.insert(image("i")) }
    }

    @Test("A project sees its own images and the public and community ones", arguments: Kind.allCases)
    func visibility(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(image("own"))
        for visibility in ImageVisibility.allCases {
            try await storage.insert(image(visibility.rawValue, owner: "q", visibility: visibility))
        }
        func ids(_ project: String?) async throws -> Set<String> {
            Set(try await storage.list(visibleTo: project.map { ProjectID($0) }).map(\.id.rawValue))
        }
        #expect(try await ids("p") == ["own", "public", "community"])
        #expect(try await ids("q") == ["public", "community", "shared", "private"])
        #expect(try await ids(nil).count == 5)
    }

    @Test("Of two writers that read the same revision the second one loses", arguments: Kind.allCases)
    func revisions(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(image("i"))
        var changed = image("i")
        (changed.name, changed.visibility) = ("new", .public)
        #expect(try await storage.replace(changed))
        #expect(try await !storage.replace(changed))
        changed.revision += 1
        #expect(try await storage.find(ImageID("i")) == changed)
        #expect(try await storage.list(visibleTo: ProjectID("other")).count == 1)
        #expect(try await !storage.remove(ImageID("i"), revision: 3))
        #expect(try await storage.remove(ImageID("i"), revision: 4))
        #expect(try await !storage.replace(changed))
    }
}
