internal import CLibvirt
internal import Synchronization
internal import Telemetry

/// How a connection is opened and used.
public struct ConnectionOptions: Sendable, Hashable {
    /// Silence after which the daemon is asked whether it lives; whole seconds.
    public var keepAliveInterval: Duration = .seconds(5)
    /// Unanswered questions after which the connection counts as broken. 0 turns keepalive off.
    public var keepAliveCount: Int = 3
    /// Calls in flight at a time; each has a socket of its own, opened when it is needed.
    public var threads: Int = 4
    /// Calls over their deadline whose threads are replaced; more make the others wait.
    public var stuckLimit: Int = 4
    /// How long a call may take, waiting for a thread included.
    public var callDeadline: Duration = .seconds(60)
    /// How long starting a domain may take.
    public var startDeadline: Duration = .seconds(300)
    /// How long destroying a domain may take. A QEMU that does not end by SIGTERM gets SIGKILL after 10 s.
    public var destroyDeadline: Duration = .seconds(60)
    /// How long writing a guest's memory to disk, or reading it, may take.
    public var saveDeadline: Duration = .seconds(7_200)
    /// How long a guest's agent may take to answer; whole seconds.
    public var agentTimeout: Duration = .seconds(5)
    /// How long bulk statistics may take.
    public var statisticsDeadline: Duration = .seconds(2)
    /// Only calls that change nothing.
    public var readOnly: Bool = false

    public init() {}
}

/// How a close ended.
public enum CloseOutcome: Sendable, Hashable {
    /// libvirt holds nothing of the connection any more.
    case closed
    /// Closed, but libvirt counts references that somebody forgot.
    case referenced(Int)
    /// Calls are stuck in it; it closes when they return.
    case deferred(stuckCalls: Int)
}

/// A connection to a hypervisor: as many sockets as calls are made at a time. Never reconnects: when one is lost all
/// are, for good, and `LibvirtHost` makes another connection.
///
/// Its methods block threads of its own, never the caller's. Each throws `LibvirtError`; `.operationTimeout` after the
/// deadline of its kind of call, in which case the call may still take effect.
public final class LibvirtConnection: Sendable {
    public let uri: String
    public let options: ConnectionOptions

    let cache = Mutex<[String: String]>([:])
    private let pool: LinkPool
    private let gate: CallGate
    private let closing = Mutex<Task<CloseOutcome, Never>?>(nil)

    private init(uri: String, options: ConnectionOptions, pool: LinkPool, gate: CallGate) {
        self.uri = uri
        self.options = options
        self.pool = pool
        self.gate = gate
    }

    deinit {
        guard closing.withLock({ $0 == nil }) else { return }
        let (pool, gate) = (pool, gate)
        // Calls that were given up may still be in it, and closing blocks: neither is for whoever dropped it.
        Task { _ = await Self.finish(pool, gate) }
    }

    /// Connects, and turns keepalive on where the driver has it.
    /// - Parameters:
    ///   - uri: as libvirt knows them: `qemu:///system`, `qemu+unix:///system?socket=PATH`, `test:///PATH.xml`.
    ///   - name: of its threads and in the metrics.
    public static func open(
        uri: String, name: String = "libvirt", options: ConnectionOptions = ConnectionOptions()
    ) async throws(LibvirtError) -> LibvirtConnection {
        try LibvirtRuntime.start()
        let gate = CallGate(name: name, threads: max(1, options.threads), stuckLimit: max(0, options.stuckLimit))
        let settings = LinkSettings(uri: uri, options: options)
        // The threads of an attempt that failed are of no more use.
        var isOpen = false
        defer { if !isOpen { gate.executor.shutdown() } }
        let pool = try await gate.run("virConnectOpenAuth", deadline: options.callDeadline) {
            Result { () throws(LibvirtError) in try LinkPool(settings) }
        }
        isOpen = true
        return LibvirtConnection(uri: uri, options: options, pool: pool, gate: gate)
    }

    /// Delivers domain events and the end of the connection to `deliver`, for the rest of the connection's life;
    /// at most once a connection.
    /// - Parameter deliver: runs on libvirt's event thread, or on the thread of a call that found the connection
    ///   broken: it must hand over and return, and never call back into this target.
    public func subscribe(_ deliver: @escaping @Sendable (ConnectionEvent) -> Void) async throws(LibvirtError) {
        let sink = EventSink(deliver)
        let pool = pool
        try await gate.run("virConnectDomainEventRegisterAny", deadline: options.callDeadline) {
            Result { () throws(LibvirtError) in try pool.subscribe(sink) }
        }
    }

    /// Ends all calls, subscriptions and the connection. Later calls fail with `.connectionLost`. Waits for calls in
    /// flight, at most `grace`.
    @discardableResult
    public func close(grace: Duration = .seconds(5)) async -> CloseOutcome {
        gate.close()
        let (gate, pool) = (gate, pool)
        let task = closing.withLock { closing in
            if let closing { return closing }
            let task = Task { await Self.finish(pool, gate) }
            closing = task
            return task
        }
        let outcome = OneShot<CloseOutcome>()
        Task { outcome.fulfil(await task.value) }
        let watchdog = Task {
            do { try await AlarmClock().sleep(for: grace) } catch { return }
            outcome.fulfil(.deferred(stuckCalls: gate.stuckCalls))
        }
        defer { watchdog.cancel() }
        return await outcome.value
    }

    private static func finish(_ pool: LinkPool, _ gate: CallGate) async -> CloseOutcome {
        await gate.drained()
        for sink in await gate.executor.run({ pool.deregister() }) {
            await sink.waitUntilReleased(atMost: .seconds(2))
        }
        let references = await gate.executor.run { pool.close() }
        gate.executor.shutdown()
        return references > 0 ? .referenced(references) : .closed
    }

    /// Calls over their deadline whose thread has not come back.
    public var stuckCalls: Int { gate.stuckCalls }

    /// Runs `body` with a link on a thread of the gate. What `body` throws is recorded under `name`.
    func call<T: Sendable>(
        _ name: String, deadline: Duration? = nil,
        _ body: @escaping @Sendable (virConnectPtr) throws(LibvirtError) -> T
    ) async throws(LibvirtError) -> T {
        let pool = pool
        return try await gate.run(name, deadline: deadline ?? options.callDeadline) {
            Result { () throws(LibvirtError) in try pool.borrow(body) }
        }
    }
}
