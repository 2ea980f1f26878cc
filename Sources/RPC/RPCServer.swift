internal import Crypto
internal import FoundationEssentials
public import HTTP
public import Model
internal import Synchronization
internal import Telemetry

/// Serves methods under `POST /rpc`.
///
/// A request must show its peer's credential; a method is open to the roles that it was registered for. Requests with
/// an idempotency key are recorded before they run: a repetition gets the recorded answer, attaches to the execution
/// that is under way, or is refused when its parameters differ.
public final class RPCServer: Sendable {
    /// How long a verified credential is believed without asking the verifier again.
    public static let verificationLifetime = Duration.seconds(2)
    /// The largest request body.
    public static let bodyLimit = 8 * 1_024 * 1_024

    private struct Method: Sendable {
        var version: RPCVersion
        var kind: RPCKind
        var summary: String
        var allowed: Set<PeerRole>
        var execute: @Sendable (_ params: [UInt8], _ call: RPCCall) async throws -> [UInt8]
    }

    private struct Running: Hashable {
        var peer: String
        var method: String
        var key: String
    }

    private struct State: Sendable {
        var methods: [String: Method] = [:]
        /// By hash of peer and secret.
        var verified: [[UInt8]: (peer: Peer, until: Timestamp)] = [:]
        var running: [Running: (parametersHash: [UInt8], task: Task<[UInt8], any Error>)] = [:]
    }

    private let name: String
    private let verifier: any PeerVerifier
    private let idempotency: any IdempotencyStore
    private let now: @Sendable () -> Timestamp
    private let state = Mutex(State())
    private let log = Logger("rpc")
    private let calls: Counter
    private let seconds: Histogram

    /// - Parameters:
    ///   - name: this service's role, in metrics and in the OpenRPC document.
    public init(
        name: String, verifier: any PeerVerifier, idempotency: any IdempotencyStore,
        now: @escaping @Sendable () -> Timestamp
    ) {
        (self.name, self.verifier, self.idempotency, self.now) = (name, verifier, idempotency, now)
        calls = Metrics.shared.counter("rpc_server_calls_total", help: "Calls answered, by method and result.")
        seconds = Metrics.shared.histogram("rpc_server_seconds", help: "Time from a call's body to its answer.")
    }

    /// Opens a method to peers of the `allowed` roles. What the handler throws crosses as it is when it is a `Failure`,
    /// otherwise as `internal_error`, with the details in the log only.
    public func register<M: RPCMethod>(
        _ method: M.Type, allowed: Set<PeerRole>,
        _ handler: @escaping @Sendable (M.Params, RPCCall) async throws -> M.Result
    ) {
        let entry = Method(version: M.version, kind: M.kind, summary: M.summary, allowed: allowed) { bytes, call in
            let params: M.Params
            do {
                params = try JSONDecoder().decode(M.Params.self, from: Data(bytes))
            } catch {
                throw Failure(.invalidParameters, "\(M.name): \(describe(error))")
            }
            var result = try await handler(params, call)
            if let version = call.version, version < M.version { result = try M.backport(result: result, to: version) }
            return Array(try JSONEncoder().encode(result))
        }
        state.withLock { $0.methods[M.name] = entry }
    }

    /// What this server understands, for those who call it.
    public var manifest: PeerManifest {
        PeerManifest(release: AgentVersion.current, methods: state.withLock { $0.methods.mapValues(\.version) })
    }

    public func mount(on router: inout Router) {
        router.on(.post, "/rpc", RouteOptions(bodyLimit: Self.bodyLimit)) { request in await self.answer(request) }
    }

    /// Forgets verified credentials, so that a revocation holds at once.
    public func forgetVerified() { state.withLock { $0.verified.removeAll() } }

    private func answer(_ request: HTTPRequest) async -> HTTPResponse {
        let started = ContinuousClock.now
        let requestID =
            request.headers["X-OpenStack-Request-Id"].flatMap { RequestScope.accept($0) } ?? RequestScope.makeID()
        var (id, method) = (Array("null".utf8), "?")
        var caller: Peer?
        let response: HTTPResponse
        do {
            let peer = try await verify(request)
            caller = peer
            let envelope = try Self.envelope(request.bytes)
            id = try Self.id(envelope)
            let name = try Self.method(envelope)
            if state.withLock({ $0.methods[name] != nil }) || name == "rpc.discover" { method = name }
            let bytes = try await RequestScope.$current.withValue(requestID) {
                try await self.execute(
                    name, envelope.slice("params") ?? Array("{}".utf8), envelope, peer, requestID,
                    request.headers["Idempotency-Key"])
            }
            response = .json(200, Answer.result(bytes, id: id))
            calls.increment(labels: [("method", method), ("result", "ok")])
        } catch let error as ProtocolError {
            response = .json(
                200,
                Answer.failure(
                    Failure(.invalidParameters, error.message), id: id, requestID: requestID, code: error.code))
            calls.increment(labels: [("method", method), ("result", "malformed")])
        } catch {
            let failure = Self.failure(error)
            if failure.kind == .internalError {
                log.error(
                    "a call failed by an unexpected error",
                    ["method": method, "error": "\(error)", "request": requestID])
            }
            // Whoever asks for what is not its own: the answer alone would tell nobody but itself.
            if failure.kind == .forbidden, let caller {
                log.warning(
                    "a call is refused",
                    ["peer": caller.description, "method": method, "what": failure.message, "request": requestID])
            }
            response = .json(
                failure.kind.status, Answer.failure(failure, id: id, requestID: requestID))
            calls.increment(labels: [("method", method), ("result", failure.kind.rawValue)])
        }
        seconds.observe(started.duration(to: .now).inSeconds, labels: [("method", method)])
        return response
    }

    private struct ProtocolError: Error {
        var code: Int
        var message: String
    }

    private static func failure(_ error: any Error) -> Failure {
        switch error {
        case let failure as Failure: failure
        case is CancellationError: Failure(.cancelled, "the service is stopping", isRetriable: true)
        case let error as any FailureConvertible: error.failure
        default: Failure(.internalError, "the service failed unexpectedly; its log says more")
        }
    }

    private static func envelope(_ bytes: [UInt8]) throws -> Envelope {
        do {
            return try Envelope(bytes)
        } catch .notAnObject where bytes.first(where: { $0 > 0x20 }) == UInt8(ascii: "[") {
            throw ProtocolError(code: -32_600, message: "batches are not served: send one request a body")
        } catch .notAnObject {
            throw ProtocolError(code: -32_600, message: "a request is a JSON object")
        } catch {
            throw ProtocolError(code: -32_700, message: "the body is not JSON")
        }
    }

    /// The request's id as it stands in the body; a request without one would be a notification, and those are not
    /// served, because nobody would confirm them.
    private static func id(_ envelope: Envelope) throws -> [UInt8] {
        guard envelope.text("jsonrpc") == "2.0" else {
            throw ProtocolError(code: -32_600, message: "jsonrpc must be \"2.0\"")
        }
        guard let id = envelope.slice("id"), let first = id.first, id.count <= 256 else {
            throw ProtocolError(code: -32_600, message: "a request needs an id: notifications are not served")
        }
        let isText = first == UInt8(ascii: "\"")
        let isNumber = first == UInt8(ascii: "-") || (48...57).contains(first)
        guard isText || isNumber, (try? JSON(parsing: id)) != nil else {
            throw ProtocolError(code: -32_600, message: "an id is text or a number")
        }
        return id
    }

    private static func method(_ envelope: Envelope) throws -> String {
        guard let name = envelope.text("method") else {
            throw ProtocolError(code: -32_600, message: "a request needs a method")
        }
        return name
    }

    private func verify(_ request: HTTPRequest) async throws -> Peer {
        guard let name = request.headers["X-Apus-Peer"], name.utf8.count <= 512,
            let authorization = request.headers["Authorization"], authorization.utf8.count <= 1_024,
            authorization.hasPrefix("Bearer ")
        else { throw Failure(.unauthenticated, "a call needs X-Apus-Peer and Authorization: Bearer") }
        let secret = String(authorization.dropFirst("Bearer ".count))
        let key = digest(.sha256, of: Array("\(name)\u{0}\(secret)".utf8))
        let moment = now()
        if let known = state.withLock({ $0.verified[key] }), known.until > moment { return known.peer }
        guard let peer = try await verifier.verify(peer: name, secret: secret) else {
            log.warning("a peer showed a credential that is not valid", ["peer": name, "from": request.remoteAddress])
            throw Failure(.unauthenticated, "the credential of \(name) is not valid here")
        }
        state.withLock { state in
            if state.verified.count >= 20_000 { state.verified.removeAll() }
            state.verified[key] = (peer, moment + Self.verificationLifetime)
        }
        return peer
    }

    private func execute(
        _ name: String, _ params: [UInt8], _ envelope: Envelope, _ peer: Peer, _ requestID: RequestID, _ key: String?
    ) async throws -> [UInt8] {
        if name == "rpc.discover" { return discovery() }
        guard let method = state.withLock({ $0.methods[name] }) else {
            throw Failure(.methodNotFound, "\(self.name) has no method \(name)")
        }
        guard let role = peer.role, method.allowed.contains(role) else {
            throw Failure(.forbidden, "\(peer) may not call \(name)")
        }
        var version: RPCVersion?
        if let text = envelope.text("version") {
            guard let asked = RPCVersion(text) else { throw Failure(.invalidParameters, "version is MAJOR.MINOR") }
            guard asked.major == method.version.major else {
                throw Failure(.unsupportedVersion, "\(name) is served as \(method.version), not as \(text)")
            }
            version = asked
        }
        guard let key else {
            return try await method.execute(
                params, RPCCall(peer: peer, requestID: requestID, idempotencyKey: nil, version: version))
        }
        guard (1...255).contains(key.utf8.count) else {
            throw Failure(.invalidParameters, "an idempotency key has 1 to 255 bytes")
        }
        return try await once(
            name, method, params, RPCCall(peer: peer, requestID: requestID, idempotencyKey: key, version: version), key)
    }

    /// Executes a request once for its key. Within the process the record is read and written by one execution at a time;
    /// who comes meanwhile with the same request attaches to it.
    private func once(
        _ name: String, _ method: Method, _ params: [UInt8], _ call: RPCCall, _ key: String
    ) async throws -> [UInt8] {
        let place = Running(peer: call.peer.description, method: name, key: key)
        let hash = digest(.sha256, of: params)
        let execution = try state.withLock { state in
            if let running = state.running[place] {
                guard running.parametersHash == hash else { throw Self.mismatch(place) }
                return running.task
            }
            // Its own task: the caller may go away, the others that attached still want the answer.
            let task = Task {
                defer { _ = self.state.withLock { $0.running.removeValue(forKey: place) } }
                return try await self.decide(place, hash) { try await method.execute(params, call) }
            }
            state.running[place] = (hash, task)
            return task
        }
        return try await execution.value
    }

    private static func mismatch(_ place: Running) -> Failure {
        Failure(
            .idempotencyMismatch,
            "the idempotency key \(place.key) was used for \(place.method) with other parameters")
    }

    private func decide(
        _ place: Running, _ hash: [UInt8], _ execute: () async throws -> [UInt8]
    ) async throws -> [UInt8] {
        let decision = try await idempotency.begin(
            peer: place.peer, method: place.method, key: place.key, parametersHash: hash, now: now())
        switch decision {
        case .mismatch: throw Self.mismatch(place)
        case .finished(let response): return response
        case .execute, .running: break
        }
        // `.running` without an execution here: the process that ran it is gone. Handlers are idempotent.
        do {
            let response = try await execute()
            try await idempotency.finish(
                peer: place.peer, method: place.method, key: place.key, response: response, now: now())
            return response
        } catch {
            // Only answers are kept: what failed may be sent again.
            do {
                try await idempotency.abandon(peer: place.peer, method: place.method, key: place.key)
            } catch let second {
                log.warning("a request's record cannot be removed", ["error": LoggedError(second)])
            }
            throw error
        }
    }

    /// The OpenRPC document, made from the method table.
    private func discovery() -> [UInt8] {
        let methods = state.withLock { $0.methods }.sorted { $0.key < $1.key }
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("openrpc", "1.3.2")
            writer.object("info") { writer in
                writer.member("title", "Apus \(name)")
                writer.member("version", "1.0.0")
            }
            writer.array("methods") { writer in
                for (name, method) in methods {
                    writer.object { writer in
                        writer.member("name", name)
                        writer.member("summary", method.summary)
                        writer.member("paramStructure", "by-name")
                        writer.array("params") { _ in }
                        writer.object("result") { writer in
                            writer.member("name", "result")
                            writer.object("schema") { $0.member("type", "object") }
                        }
                        writer.member("x-version", method.version.description)
                        writer.member("x-kind", method.kind.rawValue)
                        writer.array("x-roles") { writer in
                            for role in method.allowed.map(\.rawValue).sorted() { writer.string(role) }
                        }
                    }
                }
            }
        }
        return writer.finish()
    }
}

/// Which member is wrong and why, without its value.
private func describe(_ error: any Error) -> String {
    guard let error = error as? DecodingError else { return "the parameters cannot be read" }
    func path(_ context: DecodingError.Context) -> String {
        let text = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
        return text.isEmpty ? "params" : text
    }
    switch error {
    case .keyNotFound(let key, let context): return "\(path(context)): member \(key.stringValue) is missing"
    case .typeMismatch(let type, let context): return "\(path(context)): not of type \(type)"
    case .valueNotFound(let type, let context): return "\(path(context)): null where \(type) is needed"
    case .dataCorrupted(let context): return "\(path(context)): \(context.debugDescription)"
    @unknown default: return "the parameters cannot be read"
    }
}
