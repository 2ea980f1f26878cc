public import Model
internal import Telemetry

/// What the server does for a route before its handler runs.
public struct RouteOptions: Sendable {
    /// The largest body in bytes; `nil` for the server's own limit.
    public var bodyLimit: Int?
    /// The handler runs as soon as the headers are there and reads the body as it arrives, before it answers: the answer
    /// cannot be made of it while it still comes.
    public var isStreamed: Bool
    /// The time for receipt and handler; `nil` for the server's own.
    public var requestTimeout: Duration?

    public init(bodyLimit: Int? = nil, isStreamed: Bool = false, requestTimeout: Duration? = nil) {
        (self.bodyLimit, self.isStreamed, self.requestTimeout) = (bodyLimit, isStreamed, requestTimeout)
    }
}

/// Wraps the handling of requests. The handler it gets never throws: errors below are answers already.
public typealias HTTPMiddleware = @Sendable (HTTPRequest, HTTPHandler) async throws -> HTTPResponse

/// Picks the handler of a request by path and method. A value: build it, then give it to a server.
public struct Router: Sendable {
    /// Answers paths that no route has.
    public var notFound: HTTPHandler
    /// Answers methods that the path does not have; gets those it has.
    public var methodNotAllowed: @Sendable (HTTPRequest, [HTTPMethod]) async -> HTTPResponse
    /// Makes an answer of what a handler or a middleware threw.
    public var failure: @Sendable (HTTPRequest, any Error) async -> HTTPResponse
    /// Answers bodies over the limit in bytes. Must not block.
    public var bodyTooLarge: @Sendable (HTTPRequest, Int) -> HTTPResponse
    /// Run around every request that gets here, also those without a route; the first one is the outermost.
    public var middleware: [HTTPMiddleware] = []

    private var tree = RouteTree()
    private var mounts: [Mount] = []

    private struct Mount: Sendable {
        var prefix: [String]
        var router: Router
    }

    public init() {
        notFound = { _ in Router.plain(404, "not found") }
        methodNotAllowed = { _, allowed in
            Router.plain(405, "method not allowed", ["Allow": allowed.map(\.rawValue).joined(separator: ", ")])
        }
        failure = { _, error in Router.defaultFailure(error) }
        bodyTooLarge = { _, limit in Router.plain(413, "the body is larger than \(limit) bytes") }
    }

    /// Adds a route. `{name}` captures one segment, `{name...}` as the last segment the remainder (which may be empty).
    /// A trailing slash on the request is tolerated. The same method and pattern again replaces the handler.
    public mutating func on(
        _ method: HTTPMethod, _ pattern: String, _ options: RouteOptions, _ handler: @escaping HTTPHandler
    ) {
        tree.insert(method, pattern, options, handler)
    }

    /// Adds a route with the server's own limits.
    public mutating func on(_ method: HTTPMethod, _ pattern: String, _ handler: @escaping HTTPHandler) {
        tree.insert(method, pattern, RouteOptions(), handler)
    }

    /// Serves everything below `prefix` by `router`, whose own answers for unknown paths, methods, errors and large bodies
    /// apply there. The longest prefix wins; of several routers at one prefix the first that knows the path. The request
    /// keeps its full path.
    public mutating func mount(_ prefix: String, _ router: Router) {
        mounts.append(Mount(prefix: pathSegments(prefix).map(String.init), router: router))
    }

    /// Every route with its full pattern, mounted ones included, sorted by pattern.
    public var routes: [(HTTPMethod, String)] {
        let mounted = mounts.flatMap { mount in
            mount.router.routes.map { ($0.0, "/" + mount.prefix.joined(separator: "/") + ($0.1 == "/" ? "" : $0.1)) }
        }
        return (tree.all + mounted).sorted { ($0.1, $0.0.rawValue) < ($1.1, $1.0.rawValue) }
    }

    /// Answers `request`. Never throws: what goes wrong becomes an answer.
    public func handle(_ request: HTTPRequest) async -> HTTPResponse {
        await resolve(request).respond(to: request)
    }

    /// Finds who answers, so that the server knows the limits before it reads the body.
    func resolve(_ request: HTTPRequest) -> Resolution {
        var segments: [String] = []
        for segment in pathSegments(request.rawPath) {
            guard let decoded = PercentEncoding.decode(segment) else {
                return Resolution(routers: [self], outcome: .malformedPath)
            }
            segments.append(decoded)
        }
        return resolve(request.method, segments[...], above: [])
    }

    private func resolve(_ method: HTTPMethod, _ segments: ArraySlice<String>, above: [Router]) -> Resolution {
        let routers = above + [self]
        let longest = mounts.filter { segments.starts(with: $0.prefix) }.map(\.prefix.count).max()
        let own = longest == nil || longest == 0 ? tree.find(method, segments) : .nothing
        if case .nothing = own, let longest {
            let candidates = mounts.lazy.filter { $0.prefix.count == longest && segments.starts(with: $0.prefix) }
                .map { $0.router.resolve(method, segments.dropFirst(longest), above: routers) }
            return candidates.first { $0.knowsPath } ?? candidates.first
                ?? Resolution(routers: routers, outcome: .lookup(.nothing))
        }
        return Resolution(routers: routers, outcome: .lookup(own))
    }

    /// The answer for an error where the router has no form of its own.
    static func defaultFailure(_ error: any Error) -> HTTPResponse {
        switch error {
        case let failure as Failure where failure.kind != .internalError:
            return plain(failure.kind.status, failure.message)
        case RequestBodyError.timedOut:
            return plain(408, "the body did not arrive in time")
        case is RequestBodyError:
            return plain(400, "the body ended too early")
        default:
            Logger("http").error("request failed", ["error": LoggedError(error)])
            return plain(500, "internal error")
        }
    }

    static func plain(_ status: Int, _ message: String, _ headers: HTTPFields = [:]) -> HTTPResponse {
        var writer = JSONWriter()
        writer.object {
            $0.object("error") {
                $0.member("code", status)
                $0.member("message", message)
            }
        }
        return .json(status, writer.finish(), headers: headers)
    }
}

/// Who answers a request.
struct Resolution: Sendable {
    enum Outcome: Sendable {
        case lookup(RouteTree.Lookup)
        case malformedPath
    }

    /// From the outermost router to the one that decided; never empty.
    let routers: [Router]
    let outcome: Outcome

    private var router: Router { routers[routers.count - 1] }

    var options: RouteOptions {
        guard case .lookup(.found(let match)) = outcome else { return RouteOptions() }
        return match.route.options
    }

    var knowsPath: Bool {
        if case .lookup(.nothing) = outcome { false } else { true }
    }

    func tooLarge(_ request: HTTPRequest, limit: Int) -> HTTPResponse { router.bodyTooLarge(request, limit) }

    func respond(to request: HTTPRequest) async -> HTTPResponse {
        var request = request
        if case .lookup(.found(let match)) = outcome {
            for (name, value) in zip(match.route.parameterNames, match.values) { request.parameters[name] = value }
        }
        var handler = answering(router, decide)
        for router in routers.reversed() {
            for middleware in router.middleware.reversed() {
                let next = handler
                handler = answering(router) { try await middleware($0, next) }
            }
        }
        return await handler(request)
    }

    private func decide(_ request: HTTPRequest) async throws -> HTTPResponse {
        switch outcome {
        case .malformedPath:
            return Router.plain(400, "the path is not valid percent-encoded UTF-8")
        case .lookup(.nothing):
            return try await router.notFound(request)
        case .lookup(.otherMethods(let methods)):
            return await router.methodNotAllowed(request, methods)
        case .lookup(.found(let match)):
            if let limit = match.route.options.bodyLimit, request.bytes.count > limit {
                return router.bodyTooLarge(request, limit)
            }
            return try await match.route.handler(request)
        }
    }

    private func answering(
        _ router: Router, _ handler: @escaping HTTPHandler
    ) -> @Sendable (HTTPRequest) async -> HTTPResponse {
        { request in
            do {
                return try await handler(request)
            } catch RequestBodyError.tooLarge(let limit) {
                return router.bodyTooLarge(request, limit)
            } catch {
                return await router.failure(request, error)
            }
        }
    }
}

extension Failure {
    /// The HTTP status that says the same: 503 also for what the service itself may be able to do a little later.
    public var status: Int { retryAfter == nil ? kind.status : 503 }

    /// Seconds after which to ask again, for `Retry-After`; `nil` where waiting is no advice.
    public var retryAfter: Int? {
        guard isRetriable else { return nil }
        switch kind {
        case .overloaded: return 1
        case .storage: return 5
        default: return nil
        }
    }

    /// The header that says when to ask again, if that is any use.
    public var retryHeaders: HTTPFields { retryAfter.map { ["Retry-After": String($0)] } ?? [:] }
}

extension FailureKind {
    /// The HTTP status that says the same.
    public var status: Int {
        switch self {
        case .invalidParameters, .imageUnacceptable, .methodNotFound, .unsupportedVersion: 400
        case .unauthenticated: 401
        case .forbidden: 403
        case .notFound: 404
        case .conflict, .idempotencyMismatch: 409
        case .insufficientResources, .noValidHost, .networkUnavailable, .unreachable, .overloaded: 503
        case .timeout: 504
        case .hypervisor, .storage, .cancelled, .internalError: 500
        }
    }
}
