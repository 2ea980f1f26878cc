internal import CLibvirt
internal import Synchronization

/// The links of one connection, each with one call at a time.
///
/// libvirt's client lets threads share a link: one of them waits for the answers, the others wake it to have their
/// calls sent. Up to 9.0 at least such a wake-up gets lost when it comes just before the wait begins, and the call lies
/// unsent until the waiting thread's own answer comes, or the next keepalive. So a second call at the same time gets a
/// second link.
final class LinkPool: Sendable {
    private struct State {
        var idle: [Link] = []
        var all: [Link] = []
        var subscriber: EventSink?
        var end: CloseReason?
    }

    private let settings: LinkSettings
    /// Drivers inside this process have no socket, and a world of their own for each link.
    private let isShared: Bool
    private let state = Mutex(State())

    /// Opens the first link. Blocks.
    init(_ settings: LinkSettings) throws(LibvirtError) {
        self.settings = settings
        isShared = settings.uri.hasPrefix("test:")
        give(try openLink())
    }

    /// Runs `body` with a link of its own, opened if there is none idle. Blocks.
    func borrow<T>(_ body: (virConnectPtr) throws(LibvirtError) -> T) throws(LibvirtError) -> T {
        let link = try take()
        defer { give(link) }
        do {
            return try body(link.pointer)
        } catch  where error.code == .connectionLost {
            // The daemon relays errors of its own connections (to the peer of a migration) with the same codes.
            guard !link.isAlive else {
                throw LibvirtError(.operationFailed, call: error.call, message: error.message)
            }
            ended(.callFailed(error.call))
            throw error
        }
    }

    /// Delivers domain events of one link, and the end of any, to `sink`. Blocks.
    func subscribe(_ sink: EventSink) throws(LibvirtError) {
        let link = try take()
        defer { give(link) }
        let end = state.withLock { state in
            state.subscriber = sink
            return state.end
        }
        if let end { sink.yield(.closed(end)) }
        try link.subscribe(sink)
    }

    /// Takes back what is registered. Blocks.
    func deregister() -> [EventSink] { state.withLock { $0.all }.flatMap { $0.deregister() } }

    /// Closes every link; to be called when nobody borrows one any more. Blocks.
    /// - Returns: the references that libvirt still counts.
    func close() -> Int {
        let links = state.withLock { state in
            state.end = state.end ?? .client
            defer { (state.idle, state.all, state.subscriber) = ([], [], nil) }
            return state.all
        }
        return links.reduce(0) { $0 + $1.close() }
    }

    private func take() throws(LibvirtError) -> Link {
        let (found, end) = state.withLock { state -> (Link?, CloseReason?) in
            if let end = state.end { return (nil, end) }
            return (isShared ? state.all.first : state.idle.popLast(), nil)
        }
        if let found { return found }
        if let end { throw Self.endedError(end) }
        return try openLink()
    }

    private func give(_ link: Link) {
        state.withLock { state in
            if !isShared { state.idle.append(link) }
        }
    }

    private func openLink() throws(LibvirtError) -> Link {
        let link = try Link(opening: settings)
        try link.watchClose(
            EventSink { [weak self] event in
                if case .closed(let reason) = event { self?.ended(reason) }
            })
        // One link's end is the end of all: behind a new one could be another daemon than behind the others.
        let end = state.withLock { state in
            if state.end == nil { state.all.append(link) }
            return state.end
        }
        if let end { throw Self.endedError(end) }
        return link
    }

    private func ended(_ reason: CloseReason) {
        let subscriber = state.withLock { state in
            state.end = state.end ?? reason
            return state.subscriber
        }
        subscriber?.yield(.closed(reason))
    }

    private static func endedError(_ reason: CloseReason) -> LibvirtError {
        LibvirtError(.connectionLost, call: "virConnectOpenAuth", message: "the connection has ended: \(reason)")
    }
}
