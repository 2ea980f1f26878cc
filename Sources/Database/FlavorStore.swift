public import Model
internal import SQL

/// The flavors.
public struct FlavorStore: Sendable {
    let database: any SQLDatabase

    /// What a new installation offers, under the ids that Nova's own examples use.
    public static let defaults: [Flavor] = [
        Flavor(id: FlavorID("42"), name: "m1.nano", vcpus: 1, memoryMiB: 64, rootGiB: 1),
        Flavor(id: FlavorID("84"), name: "m1.micro", vcpus: 1, memoryMiB: 128, rootGiB: 1),
        Flavor(id: FlavorID("1"), name: "m1.tiny", vcpus: 1, memoryMiB: 512, rootGiB: 1),
        Flavor(id: FlavorID("2"), name: "m1.small", vcpus: 1, memoryMiB: 2_048, rootGiB: 20),
        Flavor(id: FlavorID("3"), name: "m1.medium", vcpus: 2, memoryMiB: 4_096, rootGiB: 40),
        Flavor(id: FlavorID("4"), name: "m1.large", vcpus: 4, memoryMiB: 8_192, rootGiB: 80),
    ]

    /// Inserts the default flavors into a database that has never had any; one that an operator deleted stays deleted.
    public func seed(now: Timestamp) async throws {
        try await database.write { connection in
            let isSeeded = try connection.first("SELECT 1 FROM settings WHERE name = 'flavors.seeded'", []) {
                $0.int(0)
            }
            guard isSeeded == nil else { return }
            try connection.execute("INSERT INTO settings (name, value) VALUES ('flavors.seeded', ?)", [.blob([1])])
            for flavor in Self.defaults { try Self.insert(flavor, now, connection) }
        }
    }

    /// By the order in which Nova lists: memory first, then id. All of them; the API filters and pages.
    public func list() async throws -> [Flavor] {
        try await database.read { connection in
            try connection.query("SELECT record FROM flavors ORDER BY memory_mib, id") {
                try Record.decode(Flavor.self, $0.text(0))
            }
        }
    }

    public func find(_ id: FlavorID) async throws -> Flavor? {
        try await database.read { connection in
            try connection.first("SELECT record FROM flavors WHERE id = ?", [.text(id.rawValue)]) {
                try Record.decode(Flavor.self, $0.text(0))
            }
        }
    }

    /// Throws `.exists` when the id or the name is taken.
    public func create(_ flavor: Flavor, now: Timestamp) async throws {
        try await database.write { connection in
            let taken = try connection.first(
                "SELECT id FROM flavors WHERE id = ? OR name = ?", [.text(flavor.id.rawValue), .text(flavor.name)]
            ) { $0.text(0) }
            if let taken {
                throw StoreError.exists(
                    taken == flavor.id.rawValue
                        ? "Flavor with ID \(flavor.id)" : "Flavor with name \(flavor.name)")
            }
            try Self.insert(flavor, now, connection)
        }
    }

    /// Changes description or extra specs. Throws `.notFound`.
    public func update(
        _ id: FlavorID, change: @escaping @Sendable (inout Flavor) throws -> Void
    ) async throws -> Flavor {
        try await database.write { connection in
            let found = try connection.first("SELECT record FROM flavors WHERE id = ?", [.text(id.rawValue)]) {
                try Record.decode(Flavor.self, $0.text(0))
            }
            guard var flavor = found else { throw StoreError.notFound("Flavor \(id)") }
            try change(&flavor)
            try connection.execute(
                "UPDATE flavors SET record = ? WHERE id = ?", [.text(try Record.encode(flavor)), .text(id.rawValue)])
            return flavor
        }
    }

    public func delete(_ id: FlavorID) async throws {
        try await database.write { connection in
            guard try connection.execute("DELETE FROM flavors WHERE id = ?", [.text(id.rawValue)]) > 0 else {
                throw StoreError.notFound("Flavor \(id)")
            }
            try FlavorAccessStore.remove(id, connection)
        }
    }

    private static func insert(_ flavor: Flavor, _ now: Timestamp, _ connection: SQLConnection) throws {
        try connection.execute(
            "INSERT INTO flavors (id, name, memory_mib, is_public, record, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            [
                .text(flavor.id.rawValue), .text(flavor.name), SQLValue(flavor.memoryMiB), SQLValue(flavor.isPublic),
                .text(try Record.encode(flavor)), .integer(now.microseconds),
            ])
    }
}
