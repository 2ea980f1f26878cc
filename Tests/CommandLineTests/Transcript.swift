import Synchronization

@testable import CommandLine

/// What a command said.
final class Transcript: Sendable {
    private let text = Mutex((out: "", err: ""))

    var out: String { text.withLock { $0.out } }
    var err: String { text.withLock { $0.err } }

    var terminal: Terminal { terminal(columns: 0) }

    func terminal(columns: Int) -> Terminal {
        Terminal(
            out: { [self] new in text.withLock { $0.out += new } },
            err: { [self] new in text.withLock { $0.err += new } }, columns: columns)
    }
}
