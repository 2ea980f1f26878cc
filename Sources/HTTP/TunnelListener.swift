internal import CSystem
internal import Glibc
internal import Synchronization
internal import Telemetry

/// Listens on a unix socket that only its owner and root may connect to, for tunnels to begin at.
public final class TunnelListener: Sendable {
    private let path: String
    private let listener: Int32
    private let wake: Int32
    private let isEnding = Atomic<Bool>(false)

    /// Makes the socket anew. Throws when it cannot be made: the path is too long, or its folder is not there.
    /// - Parameter owner: who connects besides root, in a folder that only he and root can enter; `nil` for root alone.
    public init(path: String, owner: UInt32? = nil) throws(TunnelError) {
        self.path = path
        listener = apus_unix_socket(path, 1)
        guard listener >= 0 else { throw TunnelError("cannot listen at \(path): \(String(cString: strerror(errno)))") }
        wake = apus_eventfd()
        // In a folder that another user may change nothing follows a name that he could have made a link.
        let isGiven = owner.map { lchown(path, $0, .max) == 0 } ?? (chmod(path, 0o600) == 0)
        guard wake >= 0, apus_set_nonblocking(listener) == 0, isGiven else {
            let code = errno
            close(listener)
            if wake >= 0 { close(wake) }
            unlink(path)
            throw TunnelError("cannot listen at \(path): \(String(cString: strerror(code)))")
        }
    }

    deinit {
        close(listener)
        close(wake)
    }

    /// Gives each connection to `take`, which closes it, until `end()`; then removes the socket. Blocks.
    public func run(_ take: (Int32) -> Void) {
        defer { unlink(path) }
        while !isEnding.load(ordering: .sequentiallyConsistent) {
            var sockets = [
                pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&sockets, 2, -1) > 0, sockets[0].revents != 0 else { continue }
            let accepted = apus_accept(listener)
            if accepted >= 0 { take(accepted) } else { _ = poll(nil, 0, 100) }
        }
    }

    public func end() {
        isEnding.store(true, ordering: .sequentiallyConsistent)
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
    }
}

/// A connection to the unix socket at `path`, which the caller closes; `nil` when nobody listens there.
public func connectToUnixSocket(_ path: String) -> Int32? {
    let descriptor = apus_unix_socket(path, 0)
    return descriptor < 0 ? nil : descriptor
}
