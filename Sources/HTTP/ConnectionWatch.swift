internal import CSystem
internal import Glibc
internal import Model
internal import Synchronization

/// A thread that sees what the library does not look for: clients that close while their connection is suspended, and
/// requests that take too long.
// Sendable: the descriptors never change; `thread` is written by start() and read by stop(), which its owner orders.
final class ConnectionWatch: @unchecked Sendable {
    private static let wakeID: UInt64 = 0

    private let epoll: Int32
    private let wake: Int32
    private let tickMilliseconds: Int32
    private let isEnding = Atomic<Bool>(false)
    private let core = Mutex<ServerCore?>(nil)
    private var thread: pthread_t?

    /// `nil` when the system has no descriptors left.
    init?(_ configuration: ServerConfiguration) {
        epoll = apus_epoll_create()
        wake = apus_eventfd()
        let shortest = min(configuration.idleTimeout, configuration.requestTimeout)
        tickMilliseconds = Int32(clamping: max(10, min(1_000, shortest.microseconds / 8_000)))
        guard epoll >= 0, wake >= 0, apus_epoll_add(epoll, wake, apus_EPOLLIN, Self.wakeID) == 0 else { return nil }
    }

    deinit {
        if epoll >= 0 { close(epoll) }
        if wake >= 0 { close(wake) }
    }

    /// Starts the thread; false when there is none to be had.
    func start(_ core: ServerCore) -> Bool {
        self.core.withLock { $0 = core }
        let retained = Unmanaged.passRetained(self)
        var thread = pthread_t()
        guard pthread_create(&thread, nil, watchThread, retained.toOpaque()) == 0 else {
            retained.release()
            self.core.withLock { $0 = nil }
            return false
        }
        self.thread = thread
        return true
    }

    /// Ends the thread and waits for it; it is never long at anything.
    func stop() {
        guard let thread else { return }
        isEnding.store(true, ordering: .sequentiallyConsistent)
        wakeUp()
        pthread_join(thread, nil)
        self.thread = nil
        core.withLock { $0 = nil }
    }

    /// Watches a socket until it is closed. Edge-triggered, so that a peer that is gone is reported once.
    func add(_ socket: Int32, id: UInt64, isFirst: Bool) {
        // Fails only for want of memory; the connection then lives without being watched for its end.
        _ = apus_epoll_add(epoll, socket, apus_EPOLLRDHUP | apus_EPOLLET, id)
        if isFirst { wakeUp() }
    }

    private func wakeUp() {
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
    }

    fileprivate func run() {
        apus_set_thread_name("http-watch")
        guard let core = core.withLock({ $0 }) else { return }
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        var lastCheck = ContinuousClock.now
        let tick = Duration.milliseconds(Int(tickMilliseconds))
        while !isEnding.load(ordering: .sequentiallyConsistent) {
            let timeout = core.hasConnections ? tickMilliseconds : -1
            let count = epoll_wait(epoll, &events, Int32(events.count), timeout)
            for event in events.prefix(Int(max(0, count))) {
                if event.data.u64 == Self.wakeID {
                    var value: UInt64 = 0
                    _ = read(wake, &value, 8)
                } else {
                    core.connection(event.data.u64)?.clientIsGone()
                }
            }
            let now = ContinuousClock.now
            if now >= lastCheck + tick {
                lastCheck = now
                core.checkTimes()
            }
        }
    }
}

private func watchThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let context { Unmanaged<ConnectionWatch>.fromOpaque(context).takeRetainedValue().run() }
    return nil
}
