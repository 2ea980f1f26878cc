internal import Synchronization
internal import Telemetry

/// What a host's hypervisor tells by itself, over all its connections in turn.
public enum HostEvent: Sendable, Hashable {
    case lifecycle(DomainEvent)
    /// A guest rebooted inside its process; no STOPPED comes with it.
    case reboot(uuid: String, name: String)
    /// A guest let go of a device, or refused to, that it was asked to let go.
    case deviceRemoval(DeviceRemoval)
    /// A job on a domain has ended: the only word on how.
    case jobEnded(JobEnd)
    /// Nothing is known of any guest until `resync`.
    case connectionLost(reason: String)
    /// Connected, for the `generation`th time; `resync` follows.
    case connected(generation: Int)
    /// Events may have been missed: list the domains and compare. Events that came before are covered by that.
    case resync

    fileprivate var isAboutConnection: Bool {
        switch self {
        case .connectionLost, .connected: true
        case .lifecycle, .reboot, .deviceRemoval, .jobEnded, .resync: false
        }
    }
}

/// One subscriber's events: begins with `.connected` and `.resync` when there is a connection, and ends when the host
/// is stopped or the task that reads is cancelled. To be read by one task.
public struct HostEvents: AsyncSequence, Sendable {
    public typealias Element = HostEvent
    public typealias Failure = Never

    let subscription: Subscription

    public struct AsyncIterator: AsyncIteratorProtocol {
        let subscription: Subscription

        public func next() async -> HostEvent? { await subscription.buffer.next() }

        public func next(isolation actor: isolated (any Actor)?) async -> HostEvent? {
            await subscription.buffer.next()
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(subscription: subscription) }
}

/// Takes its buffer from the hub when nobody can read it any more.
final class Subscription: Sendable {
    let buffer: EventBuffer
    private let end: @Sendable () -> Void

    init(buffer: EventBuffer, end: @escaping @Sendable () -> Void) {
        self.buffer = buffer
        self.end = end
    }

    deinit { end() }
}

/// A bounded queue. When it is full its events give way to one `.resync`, which says more than any of them.
final class EventBuffer: Sendable {
    private struct State {
        var queue: [HostEvent] = []
        var head = 0
        var reader: CheckedContinuation<HostEvent?, Never>?
        var isFinished = false

        var count: Int { queue.count - head }

        mutating func pop() -> HostEvent? {
            guard head < queue.count else { return nil }
            defer {
                head += 1
                if head == queue.count {
                    queue.removeAll(keepingCapacity: true)
                    head = 0
                } else if head >= 1_024 {
                    queue.removeFirst(head)
                    head = 0
                }
            }
            return queue[head]
        }
    }

    private let limit: Int
    private let state = Mutex(State())

    init(limit: Int) { self.limit = max(4, limit) }

    func push(_ event: HostEvent) {
        let reader = state.withLock { state -> CheckedContinuation<HostEvent?, Never>? in
            guard !state.isFinished else { return nil }
            if let reader = state.reader {
                state.reader = nil
                return reader
            }
            guard state.count >= limit else {
                state.queue.append(event)
                return nil
            }
            LibvirtMetrics.eventOverflows.increment()
            // Of what happened to the connection only the last is of interest; of domains, that something did.
            let connection = (state.queue[state.head...] + [event]).last { $0.isAboutConnection }
            state.queue = (connection.map { [$0] } ?? []) + [.resync]
            state.head = 0
            return nil
        }
        reader?.resume(returning: event)
    }

    func next() async -> HostEvent? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let ready = state.withLock { state -> HostEvent?? in
                    if Task.isCancelled { return .some(nil) }
                    if let event = state.pop() { return .some(event) }
                    guard !state.isFinished, state.reader == nil else { return .some(nil) }
                    state.reader = continuation
                    return nil
                }
                if let ready { continuation.resume(returning: ready) }
            }
        } onCancel: {
            let reader = state.withLock { state in
                defer { state.reader = nil }
                return state.reader
            }
            reader?.resume(returning: nil)
        }
    }

    /// Lets the reader have what is queued, and then the end.
    func finish() {
        let reader = state.withLock { state in
            state.isFinished = true
            defer { state.reader = nil }
            return state.reader
        }
        reader?.resume(returning: nil)
    }
}

/// Passes events of the connection in force on to every subscriber; those of older connections are dropped.
final class EventHub: Sendable {
    private struct State {
        var buffers: [UInt64: EventBuffer] = [:]
        var lastID: UInt64 = 0
        var generation: Int?
        var isFinished = false
    }

    private let limit: Int
    private let state = Mutex(State())

    init(limit: Int) { self.limit = limit }

    func subscribe() -> HostEvents {
        let buffer = EventBuffer(limit: limit)
        let id = state.withLock { state in
            state.lastID += 1
            state.buffers[state.lastID] = buffer
            if let generation = state.generation {
                buffer.push(.connected(generation: generation))
                buffer.push(.resync)
            }
            if state.isFinished { buffer.finish() }
            return state.lastID
        }
        return HostEvents(
            subscription: Subscription(buffer: buffer) { [weak self] in
                self?.state.withLock { _ = $0.buffers.removeValue(forKey: id) }
            })
    }

    /// Puts a connection in force. What came on it before is covered by the `.resync` that this sends.
    func connected(_ generation: Int) {
        state.withLock { state in
            state.generation = generation
            for buffer in state.buffers.values {
                buffer.push(.connected(generation: generation))
                buffer.push(.resync)
            }
        }
    }

    /// Whether `generation` was in force, and so is lost now.
    func lost(_ generation: Int, reason: String) -> Bool {
        state.withLock { state in
            guard state.generation == generation else { return false }
            state.generation = nil
            for buffer in state.buffers.values { buffer.push(.connectionLost(reason: reason)) }
            return true
        }
    }

    /// Never blocks longer than it takes to queue; called on libvirt's event thread.
    func deliver(_ event: HostEvent, from generation: Int) {
        state.withLock { state in
            guard state.generation == generation else { return }
            for buffer in state.buffers.values { buffer.push(event) }
        }
    }

    func finish() {
        state.withLock { state in
            state.isFinished = true
            state.generation = nil
            for buffer in state.buffers.values { buffer.finish() }
        }
    }
}
