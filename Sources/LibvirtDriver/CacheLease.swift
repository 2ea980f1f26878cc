internal import Glibc
internal import Model

/// A lock on a file of the image cache, seen by every process on the host, and by other hosts where the file system
/// shares locks. Gone with the process, at the latest.
///
/// Whoever puts a disk on the file holds it shared until the disk has its name; whoever removes the file holds it alone
/// while looking for such disks. So a disk is either seen, or waits and finds the file gone.
final class CacheLease: Sendable {
    let path: String
    private let file: Descriptor

    /// Takes the file shared with others, after whoever holds it alone.
    ///
    /// - Returns: `nil` when there is no such file. Blocks.
    static func shared(_ path: String) throws(Failure) -> CacheLease? { try take(path, LOCK_SH) }

    /// Takes the file alone.
    ///
    /// - Returns: `nil` when there is no such file, or somebody holds it. Blocks for moments.
    static func exclusive(_ path: String) throws(Failure) -> CacheLease? { try take(path, LOCK_EX | LOCK_NB) }

    private init(_ path: String, owning number: Int32) {
        self.path = path
        file = Descriptor(owning: number)
    }

    private static func take(_ path: String, _ kind: Int32) throws(Failure) -> CacheLease? {
        while true {
            // For writing: network file systems give nobody else a lock alone.
            let number = open(path, O_RDWR | O_CLOEXEC)
            guard number >= 0 else {
                if errno == ENOENT { return nil }
                throw Files.failure("open", path)
            }
            let lease = CacheLease(path, owning: number)
            if flock(number, kind) != 0 {
                if errno == EWOULDBLOCK { return nil }
                if errno == EINTR { continue }
                throw Files.failure("lock", path)
            }
            if lease.isNamed { return lease }
        }
    }

    /// Whether the path still names the file that is held, and not another, or nothing.
    private var isNamed: Bool {
        var mine = stat()
        var named = stat()
        return fstat(file.number, &mine) == 0 && stat(path, &named) == 0 && mine.st_ino == named.st_ino
            && mine.st_dev == named.st_dev
    }
}
