public import Model

// Disks that are here and were not made by the migration are those of a shared folder.
extension FakeDriver {
    public func seesDisks(_ id: InstanceID, besides migration: MigrationID) async throws -> Bool {
        try await perform(.seesDisks, id) { state in
            state.disks.contains(id) && state.takenOver[id] != migration
        }
    }

    public func beginTakingIn(_ id: InstanceID, by migration: MigrationID) async throws {
        try await perform(.beginTakingIn, id) { state in
            guard !state.disks.contains(id) || state.takenOver[id] == migration else {
                throw Failure(.conflict, "instance \(id) has other disks here")
            }
            state.takenOver[id] = migration
        }
    }
}
