internal import SQL

/// Small values that every control process shares: keys, certificates, ids.
public struct SettingsStore: Sendable {
    let database: any SQLDatabase

    public func value(_ name: String) async throws -> [UInt8]? {
        try await database.read { connection in
            try connection.first("SELECT value FROM settings WHERE name = ?", [.text(name)]) { $0.blob(0) }
        }
    }

    /// Puts a value in the place of the one that there may be: for what its one writer says anew.
    public func replace(_ name: String, with value: [UInt8]) async throws {
        try await database.write { connection in
            try connection.execute(
                "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [.text(name), .blob(value)])
        }
    }

    /// Keeps `values` if none of the names is taken, and gives what is stored then: of two processes that both make a
    /// key, both use the first one's. All or none of the names must be taken.
    public func establish(_ values: [String: [UInt8]]) async throws -> [String: [UInt8]] {
        try await database.write { connection in
            var stored: [String: [UInt8]] = [:]
            for name in values.keys {
                stored[name] = try connection.first("SELECT value FROM settings WHERE name = ?", [.text(name)]) {
                    $0.blob(0)
                }
            }
            if stored.count == values.count { return stored }
            guard stored.isEmpty else { throw StoreError.exists("A part of the settings \(values.keys.sorted())") }
            for (name, value) in values {
                try connection.execute(
                    "INSERT INTO settings (name, value) VALUES (?, ?)", [.text(name), .blob(value)])
            }
            return values
        }
    }
}
