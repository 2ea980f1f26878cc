internal import Synchronization

/// How many builds failed since the last one that succeeded, in this life of the agent: a host whose builds all fail
/// should be asked last.
final class BuildCount: Sendable {
    private let failures = Mutex(0)

    var failed: Int { failures.withLock { $0 } }

    func ended(successfully: Bool) {
        failures.withLock { $0 = successfully ? 0 : min($0 + 1, 1_000_000) }
    }
}
