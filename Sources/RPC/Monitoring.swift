public import Configuration
internal import Glibc
internal import HTTP
internal import Telemetry

/// `/metrics`, in Prometheus' text format, and `/healthz` of one process, on an address of its machine alone.
public struct Monitoring: Sendable {
    public static let listen = Option(
        "metrics", "listen", default: "", help: "Loopback address and port of /metrics and /healthz. Empty: off.",
        check: {
            $0.isEmpty || (try? ListenAddress($0))?.isLoopback == true ? nil : "a loopback ADDRESS:PORT, or nothing"
        })

    private let address: ListenAddress?
    private let complaint: @Sendable () async throws -> String?

    /// - Parameter complaint: what is wrong with the process, in words; `nil` when all is well. Throwing says so as well.
    public init(_ configuration: Configuration, complaint: @escaping @Sendable () async throws -> String?) throws {
        let text = configuration[Self.listen]
        address = text.isEmpty ? nil : try ListenAddress(text)
        self.complaint = complaint
    }

    /// Serves while `body` runs; without an address there is only that. Throws what `body` throws, and `HTTPServerError`
    /// when the port is taken.
    ///
    /// - Parameter serving: is told the port, before `body` begins.
    public func run(
        serving: (UInt16) -> Void = { _ in }, _ body: @Sendable () async throws -> Void
    ) async throws {
        guard let address else { return try await body() }
        let server = HTTPServer(
            ServerConfiguration(name: "metrics", address: address.address, port: address.port), router: router)
        try server.start()
        serving(server.port)
        do {
            try await body()
        } catch {
            await server.stop(grace: .seconds(1))
            throw error
        }
        await server.stop(grace: .seconds(1))
    }

    /// What this process has used, by the names that Prometheus' own clients have.
    private static func noteUsage() {
        var usage = rusage()
        guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return }
        let seconds = Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        let fraction = Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1_000_000
        Metrics.shared.gauge("process_cpu_seconds_total", help: "Processor time of user and kernel.")
            .set(seconds + fraction)
        Metrics.shared.gauge("process_max_resident_memory_bytes", help: "The most memory that the process has had.")
            .set(Double(usage.ru_maxrss) * 1_024)
    }

    private var router: Router {
        var router = Router()
        router.on(.get, "/metrics") { _ in
            Self.noteUsage()
            return HTTPResponse(
                200, headers: ["Content-Type": "text/plain; version=0.0.4"], body: .bytes(Metrics.shared.render()))
        }
        router.on(.get, "/healthz") { [complaint] _ in
            var said: String?
            do { said = try await complaint() } catch { said = "\(error)" }
            return HTTPResponse(
                said == nil ? 200 : 503, headers: ["Content-Type": "text/plain"],
                body: .bytes(Array("\(said ?? "ok")\n".utf8)))
        }
        return router
    }
}
