internal import Glibc
internal import Model
internal import Synchronization

/// Keeps a second agent out of a state folder for as long as this one lives.
final class FolderLock: Sendable {
    private let descriptor: Mutex<Int32>

    /// Takes the lock of `folder`, making the folder. Throws `Failure(.conflict)` while another has it.
    init(folder: String) throws(Failure) {
        if mkdir(folder, 0o700) != 0, errno != EEXIST {
            throw Failure(.storage, "\(folder) cannot be made: \(String(cString: strerror(errno)))")
        }
        let path = folder + "/agent.lock"
        let opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard opened >= 0 else {
            throw Failure(.storage, "\(path) cannot be opened: \(String(cString: strerror(errno)))")
        }
        guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
            close(opened)
            throw Failure(.conflict, "another agent uses \(folder)")
        }
        descriptor = Mutex(opened)
    }

    deinit { release() }

    func release() {
        descriptor.withLock { descriptor in
            guard descriptor >= 0 else { return }
            close(descriptor)
            descriptor = -1
        }
    }
}
