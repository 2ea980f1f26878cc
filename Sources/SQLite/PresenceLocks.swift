internal import CSystem
internal import Glibc
internal import SQL
internal import Synchronization

/// Which names live: each is a lock on a byte of the file beside the database that also has the turns. The kernel
/// releases it when its process ends, however it does.
final class PresenceLocks: Sendable {
    /// Behind the bytes of the turns.
    private static let first: off_t = 1 << 20
    private static let count: UInt64 = 1 << 40

    private let path: String
    /// A descriptor for each name: locks of one open file do not exclude each other. `nil` once they are released: who still
    /// announces itself then does not live.
    private let held = Mutex<[String: Int32]?>([:])

    init(database: String) { path = database + "-turn" }

    deinit { release() }

    /// Says that `name` lives; `false` when another still does under it. Throws `.cannotOpen`, `.closed` after the release.
    func announce(_ name: String) throws(SQLError) -> Bool {
        try held.withLock { (held) throws(SQLError) in
            guard let names = held else { throw SQLError(.closed, "the database is closed") }
            guard names[name] == nil else { return true }
            let descriptor = try opened()
            var range = Self.range(name)
            guard apus_try_lock(descriptor, &range) == 0 else {
                close(descriptor)
                return false
            }
            held?[name] = descriptor
            return true
        }
    }

    /// Whether `name` lives, in this process or in another. Throws `.cannotOpen`.
    func isAnnounced(_ name: String) throws(SQLError) -> Bool {
        let descriptor = try opened()
        defer { close(descriptor) }
        var range = Self.range(name)
        guard apus_find_lock(descriptor, &range) == 0 else {
            throw SQLError(.cannotOpen, "\(path): \(String(cString: strerror(errno)))")
        }
        return range.l_type != Int16(F_UNLCK)
    }

    func release() {
        let descriptors = held.withLock { held in
            defer { held = nil }
            return held.map { Array($0.values) } ?? []
        }
        for descriptor in descriptors { close(descriptor) }
    }

    private func opened() throws(SQLError) -> Int32 {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw SQLError(.cannotOpen, "\(path): \(String(cString: strerror(errno)))")
        }
        return descriptor
    }

    private static func range(_ name: String) -> flock {
        var range = flock()
        (range.l_type, range.l_whence) = (Int16(F_WRLCK), Int16(SEEK_SET))
        (range.l_start, range.l_len) = (first + off_t(PresenceKey(name).value % count), 1)
        return range
    }
}
