internal import CMicroHTTPD
internal import CSystem
internal import Glibc
internal import Model
internal import Synchronization
internal import Telemetry

/// An HTTP/1.1 server. Event threads read and write; handlers run as Swift tasks, one a request.
///
/// A handler whose client goes away, or whose time is over, is cancelled.
public final class HTTPServer: Sendable {
    private enum Life {
        case fresh
        case running(Daemon)
        case over
    }

    // Sendable: the library guards what is behind the pointer; this class stops it once.
    private struct Daemon: @unchecked Sendable {
        let pointer: OpaquePointer
        let port: UInt16
    }

    private let configuration: ServerConfiguration
    private let router: Router
    private let life = Mutex(Life.fresh)
    private let core = Mutex<ServerCore?>(nil)

    public init(_ configuration: ServerConfiguration, router: Router) {
        (self.configuration, self.router) = (configuration, router)
    }

    deinit {
        guard let daemon = end() else { return }
        Self.halt(daemon, core.withLock { $0 })
    }

    /// Opens the port and begins to answer. Once per server.
    public func start() throws(HTTPServerError) {
        try life.withLock { life throws(HTTPServerError) in
            guard case .fresh = life else { throw .alreadyStarted }
            life = .running(try open())
        }
    }

    private func open() throws(HTTPServerError) -> Daemon {
        let (listener, port) = try openListener(
            configuration.address, configuration.port, device: configuration.device)
        defer { close(listener) }
        let refusal = HTTPServerError.refused(address: configuration.address, isTLS: configuration.tls != nil)
        guard let watch = ConnectionWatch(configuration) else { throw refusal }
        let core = ServerCore(configuration, router, watch)
        guard watch.start(core) else { throw refusal }
        // The library gets its own descriptor: when it refuses, it has closed what it was given, or it has not.
        let given = apus_mhd_duplicate(listener)
        guard given >= 0, let pointer = Self.launch(given, core) else {
            watch.stop()
            if given >= 0, isSameFile(given, listener) { close(given) }
            throw refusal
        }
        self.core.withLock { $0 = core }
        return Daemon(pointer: pointer, port: port)
    }

    private static func launch(_ listener: Int32, _ core: ServerCore) -> OpaquePointer? {
        let configuration = core.configuration
        var settings = apus_mhd_settings()
        settings.listen_socket = listener
        settings.threads = UInt32(clamping: max(1, configuration.threads))
        settings.connection_limit = UInt32(clamping: max(1, configuration.maxConnections))
        settings.per_address_limit = UInt32(clamping: max(0, configuration.maxConnectionsPerAddress))
        settings.timeout_seconds = UInt32(
            clamping: max(1, (configuration.idleTimeout.microseconds + 999_999) / 1_000_000))
        // The library takes half for reading at first and the rest as needed; the answer's headers come from the same.
        settings.memory_limit = max(4_096, configuration.headerLimit)
        settings.handler = serverRequest
        settings.completed = serverRequestCompleted
        settings.connection = serverConnectionChanged
        settings.request_line = serverRequestLine
        let context = Unmanaged.passRetained(core)
        settings.context = context.toOpaque()
        let pointer = withOptionalCString(configuration.tls?.privateKeyPEM) { key in
            withOptionalCString(configuration.tls?.certificatePEM) { certificate in
                withOptionalCString(configuration.tls?.trustPEM) { trust in
                    (settings.key, settings.certificate, settings.trust) = (key, certificate, trust)
                    return apus_mhd_start(&settings)
                }
            }
        }
        if pointer == nil { context.release() }
        return pointer
    }

    /// The port that was opened; 0 before `start()` and after `stop(grace:)`.
    public var port: UInt16 {
        life.withLock { life in
            guard case .running(let daemon) = life else { return 0 }
            return daemon.port
        }
    }

    /// Refuses new connections and requests, lets what has begun end within `grace`, then breaks the rest off and cancels
    /// its handlers. Returns when the port is free and no event thread runs.
    public func stop(grace: Duration) async {
        guard let daemon = end(), let core = core.withLock({ $0 }) else { return }
        core.beginStopping()
        // The library's thread may still use the socket, so that it can be closed only when that has ended; until then
        // nobody gets in any more.
        let listener = MHD_quiesce_daemon(daemon.pointer)
        if listener >= 0 { apus_shutdown(listener) }
        await withTaskGroup { group in
            group.addTask { await core.waitUntilIdle() }
            // Ends early only by cancellation, and then so does the wait.
            group.addTask { try? await AlarmClock().sleep(for: grace) }
            await group.next()
            group.cancelAll()
        }
        let executor = BlockingExecutor(name: "http-stop", threads: 1)
        await executor.run {
            Self.halt(daemon, core)
            if listener >= 0 { close(listener) }
        }
        executor.shutdown()
    }

    private func end() -> Daemon? {
        life.withLock { life in
            defer { life = .over }
            guard case .running(let daemon) = life else { return nil }
            return daemon
        }
    }

    /// Breaks everything off and joins the threads.
    private static func halt(_ daemon: Daemon, _ core: ServerCore?) {
        guard let core else { return }
        core.beginStopping()
        core.abortAll()
        MHD_stop_daemon(daemon.pointer)
        core.watch.stop()
        core.files.shutdown()
        // The reference that the callbacks' context held.
        Unmanaged.passUnretained(core).release()
    }
}

private func isSameFile(_ left: Int32, _ right: Int32) -> Bool {
    var (first, second) = (stat(), stat())
    return fstat(left, &first) == 0 && fstat(right, &second) == 0 && first.st_dev == second.st_dev
        && first.st_ino == second.st_ino
}

private func withOptionalCString<T>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> T) -> T {
    guard let text else { return body(nil) }
    return text.withCString { body($0) }
}
