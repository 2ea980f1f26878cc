internal import Images
internal import Model
internal import SQL

/// The embedded image service's records.
struct SQLImageStorage: ImageStorage {
    static let component = "images"
    static let migrations = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE images (
                    id TEXT PRIMARY KEY, owner TEXT NOT NULL, visibility TEXT NOT NULL, revision BIGINT NOT NULL,
                    record TEXT NOT NULL);
                CREATE INDEX images_by_owner ON images (owner);
                CREATE INDEX images_by_visibility ON images (visibility);
                """)
    ]

    let database: any SQLDatabase

    func insert(_ image: ImageRecord) async throws {
        try await database.write { try Self.insert(image, on: $0) }
    }

    /// Adds a record in the caller's own transaction.
    static func insert(_ image: ImageRecord, on connection: SQLConnection) throws {
        let values: [SQLValue] = [
            .text(image.id.rawValue), .text(image.owner.rawValue), .text(image.visibility.rawValue),
            .integer(image.revision), .text(try Record.encode(image)),
        ]
        let made = try connection.execute(
            """
            INSERT INTO images (id, owner, visibility, revision, record) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (id) DO NOTHING
            """, values)
        guard made > 0 else { throw ImageStorageError.duplicate(image.id) }
    }

    func find(_ id: ImageID) async throws -> ImageRecord? {
        try await database.read { connection in
            try connection.first("SELECT record FROM images WHERE id = ?", [.text(id.rawValue)]) {
                try Record.decode(ImageRecord.self, $0.text(0))
            }
        }
    }

    func list(visibleTo project: ProjectID?) async throws -> [ImageRecord] {
        let filter = project == nil ? "" : " WHERE owner = ? OR visibility IN ('public', 'community')"
        let values: [SQLValue] = project.map { [.text($0.rawValue)] } ?? []
        return try await database.read { connection in
            try connection.query("SELECT record FROM images" + filter, values) {
                try Record.decode(ImageRecord.self, $0.text(0))
            }
        }
    }

    func replace(_ image: ImageRecord) async throws -> Bool {
        var raised = image
        raised.revision += 1
        let values: [SQLValue] = [
            .text(raised.owner.rawValue), .text(raised.visibility.rawValue), .integer(raised.revision),
            .text(try Record.encode(raised)), .text(image.id.rawValue), .integer(image.revision),
        ]
        return try await database.write { connection in
            try connection.execute(
                """
                UPDATE images SET owner = ?, visibility = ?, revision = ?, record = ? WHERE id = ? AND revision = ?
                """, values) > 0
        }
    }

    func remove(_ id: ImageID, revision: Int64) async throws -> Bool {
        try await database.write { connection in
            try connection.execute(
                "DELETE FROM images WHERE id = ? AND revision = ?", [.text(id.rawValue), .integer(revision)]) > 0
        }
    }
}
