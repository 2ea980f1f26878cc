internal import Synchronization

/// Numbers that rise with each report of this agent, and from each of its lives to the next.
final class SequenceCounter: Sendable {
    private let value: Mutex<Int64>

    init(first: Int64) { value = Mutex(first) }

    func next() -> Int64 {
        value.withLock { value in
            value += 1
            return value
        }
    }
}
