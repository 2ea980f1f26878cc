internal import Database
public import HTTP
internal import Model
internal import RPC
internal import Telemetry

/// The compute API: version documents and everything below `/v2.1`. Mount it at `/compute`.
///
/// - Parameter baseURL: the URL under which the client reached this router, without a trailing slash.
public func computeRouter(
    _ parts: ComputeParts, baseURL: @escaping @Sendable (HTTPRequest) -> String
) -> Router {
    var routes = ComputeRoutes(parts: parts, baseURL: baseURL)
    routes.addVersions()
    routes.addExtensions()
    routes.addServers()
    routes.addServerDetails()
    routes.addServerActions()
    routes.addConsoles()
    routes.addDiagnostics()
    routes.addTopology()
    routes.addInterfaces()
    routes.addInstanceActions()
    routes.addMigrations()
    routes.addFlavors()
    routes.addFlavorAccess()
    routes.addFlavorSpecs()
    routes.addKeyPairs()
    routes.addServices()
    routes.addAggregates()
    routes.addAggregateImages()
    routes.addServerGroups()
    routes.addHypervisors()
    routes.addLimits()
    routes.addQuotas()
    routes.addUsageAudits()
    routes.addNetworkProxies()
    return routes.router
}

/// Collects the routes of the compute API and puts the same frame around each: request id, version, caller, error form.
struct ComputeRoutes {
    typealias Handler = @Sendable (ComputeCall) async throws -> HTTPResponse
    typealias ServerHandler = @Sendable (ComputeCall, Instance) async throws -> HTTPResponse

    private static let bodyLimit = 1_048_576

    let parts: ComputeParts
    let baseURL: @Sendable (HTTPRequest) -> String
    private(set) var router = Router()

    init(parts: ComputeParts, baseURL: @escaping @Sendable (HTTPRequest) -> String) {
        (self.parts, self.baseURL) = (parts, baseURL)
        router.middleware = [computeFrame]
        router.failure = { _, error in computeAnswer(to: error) }
        router.bodyTooLarge = { _, limit in
            APIError(413, "The request's body is larger than \(limit) bytes.").response
        }
        router.notFound = { request in
            // Whoever has no token learns nothing, not even which paths there are.
            _ = try await parts.authenticate(request)
            throw APIError.notFound("The resource could not be found.")
        }
        router.methodNotAllowed = { request, allowed in
            APIError(
                405, "Method Not Allowed.",
                headers: ["Allow": allowed.map(\.rawValue).joined(separator: ", ")]
            ).response
        }
    }

    /// Adds a route without caller and version rules.
    mutating func addOpen(_ path: String, _ handler: @escaping HTTPHandler) { router.on(.get, path, handler) }

    /// Adds `/v2.1/<path>`.
    ///
    /// - Parameters:
    ///   - rule: checked before the handler runs; `nil` where the handler checks.
    ///   - versions: at others the path does not exist.
    mutating func add(
        _ method: HTTPMethod, _ path: String, rule: String?, versions: ClosedRange<Int> = 1...Int.max,
        _ handler: @escaping Handler
    ) {
        let (parts, baseURL) = (parts, baseURL)
        router.on(method, "/v2.1/" + path, RouteOptions(bodyLimit: Self.bodyLimit)) { request in
            let caller = try await parts.authenticate(request)
            let version = try Microversion.requested(by: request.headers, maximum: MicroversionHistory.maximum)
            let call = ComputeCall(
                request: request, caller: caller, version: version,
                requestID: RequestScope.current ?? RequestScope.makeID(), base: baseURL(request))
            guard versions.contains(version.minor) else { throw APIError.notFound("The resource could not be found.") }
            if let rule { try call.require(rule) }
            return try await handler(call)
        }
    }

    /// Adds `/v2.1/servers/{id}<path>`: the handler gets the server, if it is the caller's to see.
    ///
    /// - Parameter rule: checked after the server was found, so that another project's server is 404 for everybody.
    mutating func addServer(
        _ method: HTTPMethod, _ path: String, rule: String?, versions: ClosedRange<Int> = 1...Int.max,
        _ handler: @escaping ServerHandler
    ) {
        let instances = parts.database.instances
        add(method, "servers/{id}" + path, rule: nil, versions: versions) { call in
            let instance = try await findServer(call, in: instances)
            if let rule { try call.require(rule) }
            return try await handler(call, instance)
        }
    }
}

/// The server named in the path, if there is one that the caller may see.
func findServer(
    _ call: ComputeCall, in instances: InstanceStore, includeDeleted: Bool = false
) async throws -> Instance {
    let id = call.parameter("id")
    guard isUUID(id),
        let instance = try await instances.find(InstanceID(id.lowercased()), includeDeleted: includeDeleted),
        instance.projectID == call.caller.projectID || call.caller.isAdmin
    else { throw APIError.server(id) }
    return instance
}

/// Gives each request its id, and each answer the headers that clients look for.
@Sendable private func computeFrame(
    _ request: HTTPRequest, _ next: HTTPHandler
) async throws -> HTTPResponse {
    let id = RequestScope.current ?? RequestScope.makeID()
    var answer = try await RequestScope.$current.withValue(id) {
        if let global = request.headers["X-OpenStack-Request-Id"].flatMap(RequestScope.accept), global != id {
            Logger("api").info("request of a larger one", ["global_request_id": global])
        }
        return try await next(request)
    }
    answer.headers["x-openstack-request-id"] = id.rawValue
    answer.headers["x-compute-request-id"] = id.rawValue
    guard answer.headers["OpenStack-API-Version"] == nil else { return answer }
    // Errors that came before the version was read are told apart by having none.
    if let version = try? Microversion.requested(by: request.headers, maximum: MicroversionHistory.maximum) {
        for (name, value) in Microversion.headers(version.description) { answer.headers.add(name, value) }
    }
    return answer
}

/// The answer to whatever a handler threw. Faults of ours are logged, not shown.
func computeAnswer(to error: any Error) -> HTTPResponse {
    switch error {
    case let error as APIError: return error.response
    case let error as QuotaExceeded: return error.apiError.response
    case StoreError.notFound(let what): return APIError.notFound("\(what) could not be found.").response
    case StoreError.exists(let what): return APIError.conflict("\(what) already exists.").response
    case StoreError.conflict(let current):
        return APIError.conflict(
            "Instance \(current.id) was changed by another request at the same time; look at it and try again."
        ).response
    case let failure as Failure where failure.kind != .internalError:
        return APIError(failure.status, failure.message, headers: failure.retryHeaders).response
    case is CancellationError: return APIError(503, "The request was cut off.").response
    case let error as any FailureConvertible where error.failure.retryAfter != nil:
        Logger("api").warning("request not served now", ["error": String(describing: error)])
        let failure = error.failure
        return APIError(failure.status, "\(failure.message); try again.", headers: failure.retryHeaders).response
    default:
        Logger("api").error("request failed", ["error": String(describing: error)])
        return APIError(500, "The API failed; its log says more under this request's id.").response
    }
}
