internal import Model
internal import Synchronization

/// Bytes that launches under way are about to take, so that two of them do not count on the same free space.
final class DiskReservations: Sendable {
    private let reserved = Mutex<[InstanceID: Int64]>([:])

    /// Reserves `bytes` for an instance, if they are free in `folder` beside what others have reserved. Blocks.
    func take(_ bytes: Int64, for id: InstanceID, _ what: String, in folder: String) throws(Failure) {
        try reserved.withLock { reserved throws(Failure) in
            let others = reserved.filter { $0.key != id }.values.reduce(0, +)
            try Files.requireSpace(bytes, for: what, in: folder, reserved: others)
            reserved[id] = bytes
        }
    }

    func give(_ id: InstanceID) { reserved.withLock { _ = $0.removeValue(forKey: id) } }
}
