internal import Synchronization

/// One line on a terminal that shows how far an upload is; silent where there is no terminal.
final class ProgressBar: Sendable {
    private struct State {
        var done: Int64 = 0
        var drawnAt: ContinuousClock.Instant?
    }

    private let total: Int64
    private let terminal: Terminal
    private let began: ContinuousClock.Instant
    private let state = Mutex(State())

    init(total: Int64, terminal: Terminal) {
        (self.total, self.terminal) = (total, terminal)
        began = ContinuousClock.now
    }

    /// Counts `bytes` as sent; draws at most ten times a second.
    func advance(by bytes: Int) {
        guard terminal.columns > 0 else { return }
        let now = ContinuousClock.now
        let line = state.withLock { state -> String? in
            state.done += Int64(bytes)
            if state.done < total, let last = state.drawnAt, now - last < .milliseconds(100) { return nil }
            state.drawnAt = now
            return Self.line(
                done: state.done, total: total, elapsed: now - began, columns: terminal.columns)
        }
        if let line { terminal.err("\r" + line) }
    }

    /// Ends the line, whether or not all was sent.
    func finish() {
        guard terminal.columns > 0, state.withLock({ $0.drawnAt != nil }) else { return }
        terminal.err("\n")
    }

    /// `[#####-----]  50 %  6.5 MiB of 13.0 MiB  120.4 MiB/s`, as long as the terminal is wide.
    static func line(done: Int64, total: Int64, elapsed: Duration, columns: Int) -> String {
        let share = total > 0 ? min(1, Double(done) / Double(total)) : 1
        let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
        let speed = seconds > 0 ? Int64(min(Double(done) / seconds, 1e15)) : 0
        let text =
            "\(paddedLeft(fixed(share * 100, 0), to: 4)) %  \(readable(bytes: done)) of \(readable(bytes: total))"
            + "  \(readable(bytes: speed))/s"
        let room = min(40, columns - text.count - 3)
        guard room >= 4 else { return padded(String(text.prefix(max(0, columns - 1))), to: max(0, columns - 1)) }
        let filled = Int(Double(room) * share)
        let bar = String(repeating: "#", count: filled) + String(repeating: "-", count: room - filled)
        return padded("[\(bar)]\(text)", to: columns - 1)
    }
}
