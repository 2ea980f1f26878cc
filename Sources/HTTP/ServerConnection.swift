internal import CSystem
internal import Glibc
internal import Synchronization

/// One client's connection, as the watch sees it.
final class ServerConnection: Sendable {
    private struct State {
        var isOpen = true
        var since: ContinuousClock.Instant
        var exchange: Exchange?
    }

    let id: UInt64
    let remoteAddress: String
    private let socket: Int32
    private let state: Mutex<State>

    init(id: UInt64, socket: Int32, remoteAddress: String) {
        (self.id, self.socket, self.remoteAddress) = (id, socket, remoteAddress)
        state = Mutex(State(since: .now))
    }

    /// The request under way.
    var exchange: Exchange? { state.withLock { $0.exchange } }

    func begin(_ exchange: Exchange) {
        state.withLock { $0.exchange = exchange }
    }

    func end() {
        state.withLock { state in
            state.exchange = nil
            state.since = .now
        }
    }

    func clientIsGone() {
        exchange?.clientIsGone()
    }

    /// The library is about to close the socket.
    func close() { state.withLock { $0.isOpen = false } }

    /// Shuts the socket down when the request under way is overdue, or none has come for too long.
    func checkTime(_ now: ContinuousClock.Instant, idleLimit: Duration) {
        let (exchange, since) = state.withLock { ($0.exchange, $0.since) }
        guard exchange.map({ $0.isOverdue(now) }) ?? (now > since + idleLimit) else { return }
        state.withLock { state in
            // Under the lock, so that the number cannot be another connection's by now.
            if state.isOpen { apus_shutdown(socket) }
        }
    }
}
