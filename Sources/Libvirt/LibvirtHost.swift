internal import Synchronization
public import Telemetry

/// A host's hypervisor, connected for as long as `run()` runs: reconnects by itself, subscribes again and says so.
///
/// Keeps three connections, each with threads and sockets of its own: a slow start must not hold up a destroy, nor a
/// hung guest the statistics.
public actor LibvirtHost {
    /// What a connection is for.
    public enum Role: String, Sendable, Hashable, CaseIterable {
        /// Everything that has no other role.
        case work
        /// Bulk statistics and lists.
        case statistics
        /// Destroying and aborting, and the events. Calls that the daemon serves with priority.
        case control
    }

    typealias Opener = @Sendable (Role) async throws(LibvirtError) -> LibvirtConnection

    public nonisolated let uri: String
    nonisolated let hub: EventHub
    private let opener: Opener
    private let now: @Sendable () -> Duration
    private let sleep: @Sendable (Duration) async throws -> Void
    private let log = Logger("libvirt")
    private var generator: any RandomNumberGenerator & Sendable
    private var link: HostLink
    private var connections: [Role: LibvirtConnection] = [:]
    var currentLoss: OneShot<String>?
    private var lastError: LibvirtError?
    private var waiters: [UInt64: OneShot<Bool>] = [:]
    private var lastWaiter: UInt64 = 0

    /// - Parameters:
    ///   - options: of each connection; the one for statistics has a single thread.
    ///   - eventLimit: events that wait for one subscriber before they become `.resync`.
    public init(
        uri: String, options: ConnectionOptions = ConnectionOptions(), reconnect: ReconnectPolicy = ReconnectPolicy(),
        eventLimit: Int = 4_096, clock: any Clock<Duration> = AlarmClock(),
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) {
        self.init(uri: uri, reconnect: reconnect, eventLimit: eventLimit, clock: clock, generator: generator) {
            (role) throws(LibvirtError) in
            var own = options
            if role == .statistics { own.threads = 1 }
            return try await LibvirtConnection.open(uri: uri, name: "virt-\(role.rawValue)", options: own)
        }
    }

    init(
        uri: String, reconnect: ReconnectPolicy, eventLimit: Int, clock: some Clock<Duration>,
        generator: any RandomNumberGenerator & Sendable, opener: @escaping Opener
    ) {
        self.uri = uri
        self.opener = opener
        self.generator = generator
        link = HostLink(policy: reconnect)
        hub = EventHub(limit: eventLimit)
        let start = clock.now
        now = { start.duration(to: clock.now) }
        sleep = { try await clock.sleep(for: $0) }
    }

    /// Connects, and reconnects until the task is cancelled; then closes everything and ends the event sequences.
    /// To be run once.
    public func run() async {
        while !Task.isCancelled {
            let delay: Duration
            do {
                let loss = OneShot<String>()
                let generation = link.generation + 1
                try await connect(generation: generation, loss: loss)
                currentLoss = loss
                let reason = await withTaskCancellationHandler {
                    await loss.value
                } onCancel: {
                    loss.fulfil("stopped")
                }
                guard !Task.isCancelled else { break }
                log.warning("connection to libvirt lost", ["uri": uri, "reason": reason])
                delay = link.lost(reason: reason, at: now(), using: &generator)
            } catch {
                // Once for each time it is lost; the attempts after that are counted by the metric.
                if lastError?.code != error.code {
                    log.warning("cannot connect to libvirt", ["uri": uri, "error": error.description])
                }
                lastError = error
                delay = link.failed(reason: error.description, using: &generator)
            }
            await closeAll(grace: .zero)
            do { try await sleep(delay) } catch { break }
        }
        link.stopped()
        hub.finish()
        for waiter in waiters.values { waiter.fulfil(false) }
        await closeAll(grace: .seconds(5))
    }

    /// A new subscription; see `HostEvents`.
    public nonisolated func events() -> HostEvents { hub.subscribe() }

    /// How many times it has connected, if it is connected.
    public var generation: Int? {
        guard case .connected(let generation) = link.state else { return nil }
        return generation
    }

    /// Waits until there is a connection.
    /// - Throws: the error of the last attempt when none succeeded within `timeout`.
    public func waitUntilConnected(timeout: Duration) async throws(LibvirtError) {
        if generation != nil { return }
        guard link.state != .stopped else { throw Self.notConnected("stopped") }
        let connected = OneShot<Bool>()
        lastWaiter += 1
        let id = lastWaiter
        waiters[id] = connected
        defer { waiters[id] = nil }
        let sleep = sleep
        let watchdog = Task {
            do { try await sleep(timeout) } catch { return }
            connected.fulfil(false)
        }
        defer { watchdog.cancel() }
        let isConnected = await withTaskCancellationHandler {
            await connected.value
        } onCancel: {
            connected.fulfil(false)
        }
        guard isConnected else { throw lastError ?? Self.notConnected("no answer from \(uri) within \(timeout)") }
    }

    /// The connection for `role`. Not to be kept: after a loss there is another.
    /// - Throws: `.connectionLost` at once when there is none.
    public func connection(_ role: Role) throws(LibvirtError) -> LibvirtConnection {
        guard let connection = connections[role], generation != nil else {
            throw Self.notConnected(lastError?.message ?? "not connected to \(uri)")
        }
        return connection
    }

    // MARK: - Connecting

    private func connect(generation: Int, loss: OneShot<String>) async throws(LibvirtError) {
        do {
            for role in Role.allCases where connections[role] == nil {
                connections[role] = try await opener(role)
            }
            for (role, connection) in connections {
                try await subscribe(to: connection, role, generation, loss)
            }
        } catch {
            LibvirtMetrics.connects.increment(labels: [("result", error.metricName)])
            throw error
        }
        LibvirtMetrics.connects.increment(labels: [("result", "ok")])
        lastError = nil
        link.opened(at: now())
        hub.connected(generation)
        log.info("connected to libvirt", ["uri": uri, "generation": generation])
        for waiter in waiters.values { waiter.fulfil(true) }
    }

    /// Events come once, on the control connection; of the others only their end is of interest.
    private func subscribe(
        to connection: LibvirtConnection, _ role: Role, _ generation: Int, _ loss: OneShot<String>
    ) async throws(LibvirtError) {
        let hub = hub
        try await connection.subscribe { event in
            switch event {
            case .lifecycle(let event) where role == .control:
                LibvirtMetrics.events.increment(labels: [("kind", "lifecycle")])
                hub.deliver(.lifecycle(event), from: generation)
            case .reboot(let uuid, let name) where role == .control:
                LibvirtMetrics.events.increment(labels: [("kind", "reboot")])
                hub.deliver(.reboot(uuid: uuid, name: name), from: generation)
            case .deviceRemoval(let removal) where role == .control:
                LibvirtMetrics.events.increment(labels: [("kind", "device_removal")])
                hub.deliver(.deviceRemoval(removal), from: generation)
            case .jobEnded(let end) where role == .control:
                LibvirtMetrics.events.increment(labels: [("kind", "job")])
                hub.deliver(.jobEnded(end), from: generation)
            case .closed(.client), .lifecycle, .reboot, .deviceRemoval, .jobEnded:
                break
            case .closed(let reason):
                _ = hub.lost(generation, reason: "\(reason)")
                loss.fulfil("\(reason)")
            }
        }
    }

    private func closeAll(grace: Duration) async {
        let all = Array(connections.values)
        currentLoss = nil
        connections = [:]
        for connection in all { _ = await connection.close(grace: grace) }
    }

    private static func notConnected(_ message: String) -> LibvirtError {
        LibvirtError(.connectionLost, call: "connection", message: message)
    }
}

extension LibvirtHost {
    /// Does as if libvirt had told the end of the connection; for tests, whose driver cannot be cut off.
    func lose(reason: String) {
        guard let currentLoss, let generation else { return }
        _ = hub.lost(generation, reason: reason)
        currentLoss.fulfil(reason)
    }
}
