public import Model

// Copies of root disks: the bytes tell whose disk it was, and whether its guest ran.
extension FakeDriver {
    public func takeSnapshot(
        _ guest: GuestSpecification, name: String, order: SnapshotRequest,
        progress: @escaping @Sendable (Double) async -> Void
    ) async throws -> SnapshotFile {
        let id = guest.instance.id
        await progress(0)
        let count = try await perform(.takeSnapshot, id) { state in
            guard state.disks.contains(id) else { throw Failure(.notFound, "instance \(id) has no disk here") }
            let key = SnapshotName(instance: id, name: name)
            let powerState = state.domains[id]?.powerState ?? .shutdown
            let bytes = state.snapshots[key] ?? Array("disk of \(id), \(powerState)".utf8)
            state.snapshots[key] = bytes
            return bytes.count
        }
        await progress(1)
        return SnapshotFile(path: "\(id)/\(name)", format: order.format, sizeBytes: Int64(count))
    }

    public func readSnapshot(_ snapshot: SnapshotFile, at offset: Int64, count: Int) async throws -> [UInt8] {
        let parts = snapshot.path.split(separator: "/").map(String.init)
        let key = SnapshotName(instance: InstanceID(parts.first ?? ""), name: parts.last ?? "")
        return try await perform(.readSnapshot, key.instance) { state in
            guard let bytes = state.snapshots[key] else { throw Failure(.storage, "there is no copy \(snapshot.path)") }
            return Array(bytes.dropFirst(Int(offset)).prefix(count))
        }
    }

    public func removeSnapshot(_ id: InstanceID, name: String) async throws {
        try await perform(.removeSnapshot, id) { state in
            _ = state.snapshots.removeValue(forKey: SnapshotName(instance: id, name: name))
        }
    }

    public func snapshots() async throws -> Set<SnapshotName> {
        try await perform(.snapshots, nil) { Set($0.snapshots.keys) }
    }
}
