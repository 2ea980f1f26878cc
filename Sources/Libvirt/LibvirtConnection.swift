internal import CLibvirt
internal import Synchronization
internal import Telemetry

/// How a connection is opened and used.
public struct ConnectionOptions: Sendable, Hashable {
    /// Silence after which the daemon is asked whether it lives; whole seconds.
    public var keepAliveInterval: Duration = .seconds(5)
    /// Unanswered questions after which the connection counts as broken. 0 turns keepalive off.
    public var keepAliveCount: Int = 3
    /// Calls in flight at a time. libvirtd serves 5 requests of one connection at once (`max_client_requests`).
    public var threads: Int = 4
    /// Calls over their deadline whose threads are replaced; more make the others wait.
    public var stuckLimit: Int = 4
    /// How long a call may take, waiting for a thread included.
    public var callDeadline: Duration = .seconds(60)
    /// How long starting a domain may take.
    public var startDeadline: Duration = .seconds(300)
    /// How long destroying a domain may take. A QEMU that does not end by SIGTERM gets SIGKILL after 10 s.
    public var destroyDeadline: Duration = .seconds(60)
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

/// One connection to a hypervisor. Never reconnects: when it is lost it stays lost, and `LibvirtHost` makes another.
///
/// Its methods block threads of its own, never the caller's. Each throws `LibvirtError`; `.operationTimeout` after the
/// deadline of its kind of call, in which case the call may still take effect.
public final class LibvirtConnection: Sendable {
    public let uri: String
    public let options: ConnectionOptions

    let cache = Mutex<[String: String]>([:])
    private let handle: ConnectionHandle
    private let gate: CallGate
    private let closing = Mutex<Task<CloseOutcome, Never>?>(nil)

    private init(uri: String, options: ConnectionOptions, handle: ConnectionHandle, gate: CallGate) {
        self.uri = uri
        self.options = options
        self.handle = handle
        self.gate = gate
    }

    deinit {
        guard closing.withLock({ $0 == nil }) else { return }
        let (handle, gate) = (handle, gate)
        // Calls that were given up may still be in it, and closing blocks: neither is for whoever dropped it.
        Task { _ = await Self.finish(handle, gate) }
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
        let flags = options.readOnly ? VIR_CONNECT_RO.rawValue : 0
        let interval = UInt32(clamping: options.keepAliveInterval.components.seconds)
        let count = UInt32(clamping: options.keepAliveCount)
        // The threads of an attempt that failed are of no more use.
        var isOpen = false
        defer { if !isOpen { gate.executor.shutdown() } }
        let handle = try await gate.run("virConnectOpenAuth", deadline: options.callDeadline) {
            () -> Result<ConnectionHandle, LibvirtError> in
            guard let pointer = virConnectOpenAuth(uri, nil, flags) else {
                return .failure(.last("virConnectOpenAuth"))
            }
            let handle = ConnectionHandle(owning: pointer)
            guard count > 0, virConnectSetKeepAlive(pointer, Int32(clamping: interval), count) < 0 else {
                return .success(handle)
            }
            let error = LibvirtError.last("virConnectSetKeepAlive")
            // Drivers inside this process have no keepalive and need none.
            guard error.code != .noSupport else { return .success(handle) }
            _ = handle.close()
            return .failure(error)
        }
        isOpen = true
        return LibvirtConnection(uri: uri, options: options, handle: handle, gate: gate)
    }

    /// Delivers domain events and the end of the connection to `deliver`, for the rest of the connection's life;
    /// at most once a connection.
    /// - Parameter deliver: runs on libvirt's event thread, or on the thread of a call that found the connection
    ///   broken: it must hand over and return, and never call back into this target.
    public func subscribe(_ deliver: @escaping @Sendable (ConnectionEvent) -> Void) async throws(LibvirtError) {
        let sink = EventSink(deliver)
        try await call("virConnectDomainEventRegisterAny", options.callDeadline) {
            (connection, handle) throws(LibvirtError) in
            handle.keep(sink, try sink.register(on: connection))
        }
    }

    /// Ends all calls, subscriptions and the connection. Later calls fail with `.connectionLost`. Waits for calls in
    /// flight, at most `grace`.
    @discardableResult
    public func close(grace: Duration = .seconds(5)) async -> CloseOutcome {
        gate.close()
        let (gate, handle) = (gate, handle)
        let task = closing.withLock { closing in
            if let closing { return closing }
            let task = Task { await Self.finish(handle, gate) }
            closing = task
            return task
        }
        let outcome = OneShot<CloseOutcome>()
        Task { outcome.fulfil(await task.value) }
        let watchdog = Task {
            do { try await Task.sleep(for: grace) } catch { return }
            outcome.fulfil(.deferred(stuckCalls: gate.stuckCalls))
        }
        defer { watchdog.cancel() }
        return await outcome.value
    }

    private static func finish(_ handle: ConnectionHandle, _ gate: CallGate) async -> CloseOutcome {
        await gate.drained()
        for sink in await gate.executor.run({ handle.deregister() }) {
            await sink.waitUntilReleased(atMost: .seconds(2))
        }
        let references = await gate.executor.run { handle.close() }
        gate.executor.shutdown()
        return references > 0 ? .referenced(references) : .closed
    }

    /// Calls over their deadline whose thread has not come back.
    public var stuckCalls: Int { gate.stuckCalls }

    /// Runs `body` with the connection on a thread of the gate. What `body` throws is recorded under `name`.
    func call<T: Sendable>(
        _ name: String, deadline: Duration? = nil,
        _ body: @escaping @Sendable (virConnectPtr) throws(LibvirtError) -> T
    ) async throws(LibvirtError) -> T {
        try await call(name, deadline ?? options.callDeadline) { (pointer, _) throws(LibvirtError) in
            try body(pointer)
        }
    }

    private func call<T: Sendable>(
        _ name: String, _ deadline: Duration,
        _ body: @escaping @Sendable (virConnectPtr, ConnectionHandle) throws(LibvirtError) -> T
    ) async throws(LibvirtError) -> T {
        let handle = handle
        return try await gate.run(name, deadline: deadline) {
            Result { () throws(LibvirtError) in try handle.borrow(body) }
        }
    }
}
