internal import Synchronization

/// A value that is set once and awaited by one task; the first `fulfil` wins.
final class OneShot<Value: Sendable>: Sendable {
    private enum State {
        case empty
        case awaited(CheckedContinuation<Value, Never>)
        case fulfilled(Value)
        case taken
    }

    private let state = Mutex(State.empty)

    func fulfil(_ value: Value) {
        let waiter = state.withLock { state -> CheckedContinuation<Value, Never>? in
            switch state {
            case .empty:
                state = .fulfilled(value)
                return nil
            case .awaited(let continuation):
                state = .taken
                return continuation
            case .fulfilled, .taken:
                return nil
            }
        }
        waiter?.resume(returning: value)
    }

    /// The value if it is there already; takes it.
    var fulfilled: Value? {
        state.withLock { state in
            guard case .fulfilled(let value) = state else { return nil }
            state = .taken
            return value
        }
    }

    /// Waits for the value and takes it; to be read once.
    var value: Value {
        get async {
            await withCheckedContinuation { continuation in
                let ready = state.withLock { state -> Value? in
                    if case .fulfilled(let value) = state {
                        state = .taken
                        return value
                    }
                    state = .awaited(continuation)
                    return nil
                }
                if let ready { continuation.resume(returning: ready) }
            }
        }
    }
}
