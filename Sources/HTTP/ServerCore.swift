internal import Model
internal import Synchronization
internal import Telemetry

/// What the server's event threads, handlers and watch share.
final class ServerCore: Sendable {
    let configuration: ServerConfiguration
    let router: Router
    let watch: ConnectionWatch
    let files: BlockingExecutor

    private let connections = Mutex<[UInt64: ServerConnection]>([:])
    private let lastID = Atomic<UInt64>(0)
    private let handling = Atomic<Int>(0)
    private let exchanges = Atomic<Int>(0)
    private let stopping = Atomic<Bool>(false)
    private let stopped = Atomic<Bool>(false)
    private let idleSignal = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))

    private let requestCells = Mutex<[String: CounterCell]>([:])
    private let requests = Metrics.shared.counter(
        "http_requests_total", help: "Requests answered, by server, method and class of status.")
    private let seconds = Metrics.shared.histogram(
        "http_request_seconds", help: "From the request line to the answer's first byte.")
    private let connectionGauge: GaugeCell

    init(_ configuration: ServerConfiguration, _ router: Router, _ watch: ConnectionWatch) {
        (self.configuration, self.router, self.watch) = (configuration, router, watch)
        files = BlockingExecutor(name: "http-files", threads: 4)
        connectionGauge = Metrics.shared.gauge("http_connections", help: "Connections open.")
            .cell(labels: [("server", configuration.name)])
    }

    /// New requests are refused, and connections close with their answers.
    var isStopping: Bool { stopping.load(ordering: .sequentiallyConsistent) }
    /// Nothing may be suspended any more.
    var isStopped: Bool { stopped.load(ordering: .sequentiallyConsistent) }

    // MARK: Connections

    func open(socket: Int32, remoteAddress: String) -> ServerConnection {
        let id = lastID.add(1, ordering: .relaxed).newValue
        let connection = ServerConnection(id: id, socket: socket, remoteAddress: remoteAddress)
        let count = connections.withLock { connections in
            connections[id] = connection
            return connections.count
        }
        connectionGauge.set(Double(count))
        watch.add(socket, id: id, isFirst: count == 1)
        return connection
    }

    func close(_ connection: ServerConnection) {
        connection.close()
        let count = connections.withLock { connections in
            connections[connection.id] = nil
            return connections.count
        }
        connectionGauge.set(Double(count))
    }

    func connection(_ id: UInt64) -> ServerConnection? { connections.withLock { $0[id] } }

    var hasConnections: Bool { connections.withLock { !$0.isEmpty } }

    var openConnections: [ServerConnection] { connections.withLock { Array($0.values) } }

    /// Looks through all connections for what takes too long.
    func checkTimes() {
        let now = ContinuousClock.now
        let idleLimit = configuration.idleTimeout + configuration.requestTimeout
        for connection in openConnections { connection.checkTime(now, idleLimit: idleLimit) }
    }

    // MARK: Requests

    func begin(_ exchange: Exchange) {
        exchanges.add(1, ordering: .sequentiallyConsistent)
        exchange.connection.begin(exchange)
    }

    func end(_ exchange: Exchange) {
        exchange.finish()
        exchange.connection.end()
        if exchanges.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 { idleSignal.continuation.yield() }
    }

    /// Admits one more running handler, or refuses.
    func beginHandling() -> Bool {
        let count = handling.add(1, ordering: .relaxed).newValue
        guard count > configuration.maxConcurrentRequests else { return true }
        handling.subtract(1, ordering: .relaxed)
        return false
    }

    func endHandling() { handling.subtract(1, ordering: .relaxed) }

    func answered(_ exchange: Exchange, method: HTTPMethod?, status: Int) {
        let label = method?.label ?? "other"
        let group = "\(status / 100)xx"
        let cell = requestCells.withLock { cells in
            let key = label + group
            if let cell = cells[key] { return cell }
            let cell = requests.cell(
                labels: [("server", configuration.name), ("method", label), ("status", group)])
            cells[key] = cell
            return cell
        }
        cell.increment()
        seconds.observe(
            (ContinuousClock.now - exchange.startedAt).inSeconds, labels: [("server", configuration.name)])
    }

    // MARK: Stopping

    func beginStopping() { stopping.store(true, ordering: .sequentiallyConsistent) }

    /// Returns when no request is under way, or when the task is cancelled.
    func waitUntilIdle() async {
        if exchanges.load(ordering: .sequentiallyConsistent) == 0 { return }
        for await _ in idleSignal.stream where exchanges.load(ordering: .sequentiallyConsistent) == 0 { return }
    }

    /// From here on nothing is suspended, so that the library can end its threads.
    func abortAll() {
        stopped.store(true, ordering: .sequentiallyConsistent)
        for connection in openConnections { connection.exchange?.abort() }
    }
}
