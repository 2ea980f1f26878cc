#if PostgreSQL
    internal import Glibc
    internal import Synchronization

    /// Lets another thread end what a connection is at.
    final class Interruption: Sendable {
        private enum State {
            case idle
            /// A connection is at work; whoever writes to this descriptor ends that.
            case armed(Int32)
            case requested
        }

        private let state = Mutex<State>(.idle)

        var isRequested: Bool { state.withLock { if case .requested = $0 { true } else { false } } }

        /// False when the end was asked for already.
        func arm(_ descriptor: Int32) -> Bool {
            state.withLock { state in
                if case .requested = state { return false }
                state = .armed(descriptor)
                return true
            }
        }

        func disarm() {
            state.withLock { state in
                if case .armed = state { state = .idle }
            }
        }

        func request() {
            state.withLock { state in
                // Under the lock: after `disarm` the descriptor may be another's.
                if case .armed(let descriptor) = state { wake(descriptor) }
                state = .requested
            }
        }
    }

    /// Raises an event counter. It cannot fail but for a counter that is at its end, and that wakes as well.
    func wake(_ descriptor: Int32) {
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }

    /// Sets an event counter back; without effect when it was not raised.
    func drain(_ descriptor: Int32) {
        var count: UInt64 = 0
        _ = read(descriptor, &count, 8)
    }
#endif
