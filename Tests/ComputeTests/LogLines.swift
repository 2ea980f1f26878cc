import Synchronization
import Telemetry

/// What the process logs from the first look on, for all tests of it: they know theirs by a request id or a name of their
/// own.
final class LogLines: Sendable {
    private static let limit = 100_000

    static let shared = LogLines()

    private let all = Mutex<[String]>([])

    private init() {
        LogSystem.observe { [self] line in
            all.withLock { lines in
                if lines.count < Self.limit { lines.append(line) }
            }
        }
    }

    /// Those that hold the condition, oldest first.
    func lines(_ condition: (String) -> Bool) -> [String] { all.withLock { $0.filter(condition) } }
}
