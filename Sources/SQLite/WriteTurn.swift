internal import CSystem
internal import Glibc
internal import SQL

/// Has processes that write to one file take turns.
///
/// SQLite only looks from time to time whether its lock is free. One process that writes without a pause takes it again
/// before anybody has looked, and the others starve. Here who waits has the first of two locks, without which nobody
/// gets the second, so that whoever has just written comes after one that waits. Both locks are bytes of an empty file
/// beside the database, and the kernel releases them when their process ends.
///
/// Used by one thread at a time.
final class WriteTurn {
    private enum Place: off_t { case next = 0, writing = 1 }

    /// How often a lock that another process has is tried again: 0.5 ms.
    private static let pause: UInt32 = 500

    private let path: String
    private let patience: Duration
    private var descriptor: Int32 = -1

    init(database: String, patience: Duration) { (path, self.patience) = (database + "-turn", patience) }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Waits for the turn. Throws `.busy` when it does not come within the patience. Where the file cannot be made there
    /// are no turns, and SQLite's own lock decides.
    func take() throws(SQLError) {
        if descriptor < 0 { descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600) }
        guard descriptor >= 0 else { return }
        let deadline = ContinuousClock.now + patience
        try wait(for: .next, until: deadline)
        defer { set(.next, F_UNLCK) }
        try wait(for: .writing, until: deadline)
    }

    func end() {
        guard descriptor >= 0 else { return }
        set(.writing, F_UNLCK)
    }

    private func wait(for place: Place, until deadline: ContinuousClock.Instant) throws(SQLError) {
        while !set(place, F_WRLCK) {
            guard ContinuousClock.now < deadline else {
                throw SQLError(.busy, "other processes write to the database without end")
            }
            usleep(Self.pause)
        }
    }

    @discardableResult
    private func set(_ place: Place, _ kind: Int32) -> Bool {
        var range = flock()
        (range.l_type, range.l_whence) = (Int16(kind), Int16(SEEK_SET))
        (range.l_start, range.l_len) = (place.rawValue, 1)
        // The open file's own lock: closing another descriptor of the same file leaves it alone.
        return apus_try_lock(descriptor, &range) == 0
    }
}
