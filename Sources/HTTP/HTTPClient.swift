internal import Telemetry

/// An HTTP/1.1 client: one thread for all its requests, connections kept alive between them.
///
/// A cancelled task takes its request along. Waiting never blocks a thread of Swift's pool.
public final class HTTPClient: Sendable {
    let engine: HTTPClientEngine
    /// Where tunnels are asked for.
    let dials = BlockingExecutor(name: "tunnel-dial", threads: 8)
    private let requests = Metrics.shared.counter(
        "http_client_requests_total", help: "Requests sent, by class of status or kind of error.")

    /// - Parameter maxConnectionsPerHost: requests beyond it wait for one to become free.
    public init(tls: ClientTLS = .init(), maxConnectionsPerHost: Int = 16) {
        engine = HTTPClientEngine(tls: tls, maxConnectionsPerHost: maxConnectionsPerHost)
    }

    deinit {
        engine.end()
        dials.shutdown()
    }

    /// Sends a request and waits for the whole answer, whatever its status. As long as the request's timeouts allow.
    public func send(_ request: ClientRequest) async throws(HTTPClientError) -> ClientResponse {
        let transfer = Transfer(request, engine, isStreamed: false)
        let result = await perform(transfer) { _, _ in }
        return try result.get()
    }

    /// Sends a request and gives a successful body to `sink` piece by piece, no faster than it takes them. The body of any
    /// other answer is collected. Throws `HTTPClientError`, or what `sink` throws.
    public func download(
        _ request: ClientRequest, _ sink: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws -> ClientResponse {
        try await download(request) { piece, _ in try await sink(piece) }
    }

    /// The same for who must know which of the successful statuses the body belongs to: `sink` is told with each piece.
    public func download(
        _ request: ClientRequest, _ sink: @escaping @Sendable (_ piece: [UInt8], _ status: Int) async throws -> Void
    ) async throws -> ClientResponse {
        let transfer = Transfer(request, engine, isStreamed: true)
        var failure: (any Error)?
        let result = await perform(transfer) { piece, status in
            guard failure == nil else { return }
            do {
                try await sink(piece, status)
            } catch {
                failure = error
                transfer.markCancelled()
            }
        }
        if let failure { throw failure }
        return try result.get()
    }

    /// Cancels every request and ends the client's thread. Later requests are refused.
    public func shutdown() async {
        engine.end()
        dials.shutdown()
        await engine.waitForEnd()
    }

    private func perform(
        _ transfer: Transfer, _ sink: ([UInt8], Int) async -> Void
    ) async -> Result<ClientResponse, HTTPClientError> {
        let engine = engine
        let result = await withTaskCancellationHandler {
            engine.add(transfer)
            guard let upload = transfer.upload else { return await receive(transfer, sink) }
            async let _: Void = upload.pump { engine.touch(transfer) }
            // Leaving the scope cancels the pump, should its source still be at work.
            return await receive(transfer, sink)
        } onCancel: {
            transfer.markCancelled()
            engine.touch(transfer)
        }
        count(result)
        return result
    }

    private func receive(
        _ transfer: Transfer, _ sink: ([UInt8], Int) async -> Void
    ) async -> Result<ClientResponse, HTTPClientError> {
        while true {
            switch await transfer.next() {
            case .piece(let piece, let status):
                await sink(piece, status)
                engine.touch(transfer)
            case .finished(let result):
                return result
            }
        }
    }

    private func count(_ result: Result<ClientResponse, HTTPClientError>) {
        let label: String
        switch result {
        case .success(let response): label = "\(response.status / 100)xx"
        case .failure(.connectFailed): label = "connect"
        case .failure(.timedOut): label = "timeout"
        case .failure(.tls): label = "tls"
        case .failure(.cancelled): label = "cancelled"
        case .failure: label = "aborted"
        }
        requests.increment(labels: [("result", label)])
    }
}
