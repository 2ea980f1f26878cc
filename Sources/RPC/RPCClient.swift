internal import FoundationEssentials
public import HTTP
public import Model
internal import Synchronization
internal import Telemetry

/// Where a peer listens and what to show to it.
public struct PeerAddress: Sendable, Hashable {
    /// `http://ADDRESS:PORT` or `https://…`, without a path.
    public let url: String
    public let credential: PeerCredential

    public init(url: String, credential: PeerCredential) { (self.url, self.credential) = (url, credential) }
}

/// Calls methods of one service, of which several processes may run.
public final class RPCClient: Sendable {
    private let http: HTTPClient
    private let peers: [PeerAddress]
    private let isPlaintextAllowed: Bool
    /// How long a connection may take where another peer can be asked instead.
    private static let shortConnectTimeout = Duration.seconds(1)

    private struct State: Sendable {
        var choice: PeerChoice
        /// Of the last request.
        var id = 0
    }
    private let state: Mutex<State>
    private let sizes: Gauge
    private let calls: Counter

    /// - Parameters:
    ///   - peers: asked in turn; where one cannot be reached, the next. One that failed is left alone for a while.
    ///   - isSpread: whether all peers get their share of the calls; otherwise all go to the first that answers.
    ///   - isPlaintextAllowed: whether credentials may travel beyond this machine without TLS.
    public init(
        http: HTTPClient, peers: [PeerAddress], isSpread: Bool = true, isPlaintextAllowed: Bool = false
    ) {
        (self.http, self.peers, self.isPlaintextAllowed) = (http, peers, isPlaintextAllowed)
        var generator = SystemRandomNumberGenerator()
        state = Mutex(State(choice: PeerChoice(count: peers.count, isSpread: isSpread, using: &generator)))
        sizes = Metrics.shared.gauge("rpc_client_request_bytes", help: "The last request's body, by method.")
        calls = Metrics.shared.counter("rpc_client_calls_total", help: "Calls made, by method and result.")
    }

    /// Calls `method` and waits for its answer.
    ///
    /// - Parameters:
    ///   - idempotencyKey: the same for every repetition of the same request.
    ///   - timeout: the whole call's; the method's own where it is `nil`.
    ///   - manifest: what the peer understands, where it may be of an earlier release: it gets the parameters in its form.
    /// - Throws: what the receiver threw; `.unreachable` (retriable) when no peer could be connected to; `.timeout`, and
    ///   `.unreachable` after the request was sent, leave open whether it was executed.
    public func call<M: RPCMethod>(
        _ method: M.Type, _ params: M.Params, idempotencyKey: String? = nil, timeout: Duration? = nil,
        manifest: PeerManifest? = nil
    ) async throws(Failure) -> M.Result {
        let version = try manifest?.version(of: method) ?? M.version
        let params = version < M.version ? try M.backport(params, to: version) : params
        // The peer compares repetitions of a request by their bytes, and after its upgrade they are others.
        let key = version < M.version ? idempotencyKey.map { "\($0)@\(version)" } : idempotencyKey
        let bytes: [UInt8]
        do {
            let encoder = JSONEncoder()
            // The receiver compares repetitions by their bytes, and a dictionary has a new order each time.
            encoder.outputFormatting = .sortedKeys
            bytes = Array(try encoder.encode(params))
        } catch {
            throw Failure(.internalError, "the parameters of \(M.name) cannot be written as JSON")
        }
        do {
            let result = try await send(M.name, version, bytes, key, timeout ?? M.timeout)
            calls.increment(labels: [("method", M.name), ("result", "ok")])
            do {
                return try JSONDecoder().decode(M.Result.self, from: Data(result))
            } catch {
                throw Failure(.internalError, "the answer to \(M.name) is not of its form")
            }
        } catch let failure as Failure {
            calls.increment(labels: [("method", M.name), ("result", failure.kind.rawValue)])
            throw failure
        } catch {
            throw Failure(.internalError, "\(M.name) failed unexpectedly")
        }
    }

    private func send(
        _ method: String, _ version: RPCVersion, _ params: [UInt8], _ key: String?, _ timeout: Duration
    ) async throws -> [UInt8] {
        let (order, id) = state.withLock { state in
            state.id += 1
            return (state.choice.order(at: .now), state.id)
        }
        var writer = JSONWriter(capacity: params.count + 128)
        writer.object { writer in
            writer.member("jsonrpc", "2.0")
            writer.member("id", id)
            writer.member("method", method)
            writer.member("version", version.description)
            writer.key("params")
            writer.raw(params)
        }
        let body = writer.finish()
        sizes.set(Double(body.count), labels: [("method", method)])
        var last = Failure(.unreachable, "no peer serves \(method)", isRetriable: true)
        for (tried, position) in order.enumerated() {
            let peer = peers[position]
            let hasNext = tried < order.count - 1
            try requireConfidentiality(of: peer.url, isPlaintextAllowed: isPlaintextAllowed)
            var headers: HTTPFields = [
                "Content-Type": "application/json", "X-Apus-Peer": peer.credential.peer,
                "Authorization": "Bearer \(peer.credential.secret)",
            ]
            if let request = RequestScope.current { headers["X-OpenStack-Request-Id"] = request.rawValue }
            if let key { headers["Idempotency-Key"] = key }
            do {
                let response = try await http.send(
                    ClientRequest(
                        method: .post, url: peer.url + "/rpc", headers: headers, body: .bytes(body),
                        connectTimeout: hasNext ? Self.shortConnectTimeout : .seconds(5), timeout: timeout,
                        idleTimeout: timeout))
                if response.status == 503, key != nil, (try? Envelope(response.body)) == nil, hasNext {
                    // The process stops or is overloaded. The key makes sure that nothing is done twice.
                    failed(position)
                    continue
                }
                state.withLock { $0.choice.answered(position) }
                return try Self.result(response, method, id: id)
            } catch let error as HTTPClientError {
                last = error.failure
                failed(position)
                // Only where nothing was sent is the next peer tried: the first may have executed it otherwise.
                guard case .connectFailed = error else { throw last }
            }
        }
        throw last
    }

    /// The peer is asked after the others for a while.
    private func failed(_ position: Int) {
        state.withLock { state in
            var generator = SystemRandomNumberGenerator()
            state.choice.failed(position, at: .now, using: &generator)
        }
    }

    private static func result(_ response: ClientResponse, _ method: String, id: Int) throws -> [UInt8] {
        guard let envelope = try? Envelope(response.body) else {
            throw Failure(
                response.status >= 500 ? .unreachable : .internalError,
                "\(method) was answered with HTTP \(response.status) and no JSON-RPC body",
                isRetriable: response.status >= 500)
        }
        if let result = envelope.slice("result") {
            guard envelope.slice("id") == Array(String(id).utf8) else {
                throw Failure(.internalError, "\(method) was answered with another request's answer")
            }
            return result
        }
        guard let bytes = envelope.slice("error"), let error = try? JSON(parsing: bytes) else {
            throw Failure(.internalError, "\(method) was answered with neither a result nor an error")
        }
        let data = error["data"]
        throw Failure(
            data?["kind"]?.text.flatMap { FailureKind(rawValue: $0) } ?? .internalError,
            data?["message"]?.text ?? error["message"]?.text ?? "\(method) failed",
            isRetriable: data?["retriable"]?.boolean ?? false)
    }
}
