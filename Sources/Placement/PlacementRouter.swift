public import Database
public import HTTP
public import Model
internal import Telemetry

/// Finds out who sent a request, and answers the effective roles. Throws `PlacementError` with status 401 when nobody
/// known did, 403 when what the token is for has nothing to do with hosts.
public typealias PlacementAuthenticator = @Sendable (HTTPRequest) async throws -> Set<String>

/// The part of the Placement API that operators look with: one provider a compute host, from the hosts' own reports, and
/// allocations from the servers' records. Nothing is written. Mount it at `/placement`.
///
/// - Parameter baseURL: the URL under which the client reached this router, without a trailing slash.
public func placementRouter(
    database: ControlDatabase, authenticate: @escaping PlacementAuthenticator,
    now: @escaping @Sendable () -> Timestamp, baseURL: @escaping @Sendable (HTTPRequest) -> String
) -> Router {
    var routes = PlacementRoutes(database: database, authenticate: authenticate, now: now, baseURL: baseURL)
    routes.addVersions()
    routes.addProviders()
    routes.addVocabulary()
    routes.addAllocations()
    routes.addCandidates()
    return routes.router
}

/// One request on its way: at which version, and what it may say.
struct PlacementCall: Sendable {
    let request: HTTPRequest
    let version: PlacementVersion

    func parameter(_ name: String) -> String { request.parameters[name] ?? "" }

    func isAtLeast(_ minor: Int) -> Bool { version.minor >= minor }

    /// Throws 400 for query parameters that are not among `names`, or are there more often than once without being among
    /// `repeated`.
    func requireQuery(_ names: Set<String>, repeated: Set<String> = []) throws(PlacementError) {
        var seen: Set<String> = []
        for (name, _) in request.query.items {
            guard names.contains(name) else {
                throw .badQuery("Invalid query string parameters: '\(name)' was unexpected at version \(version).")
            }
            guard seen.insert(name).inserted || repeated.contains(name) else {
                throw PlacementError(400, "Query parameter '\(name)' is given twice.", code: .duplicateQueryKey)
            }
        }
    }
}

/// Collects the routes and puts the same frame around each: request id, version, caller, error form.
struct PlacementRoutes {
    typealias Handler = @Sendable (PlacementCall) async throws -> PlacementAnswer

    let database: ControlDatabase
    private let authenticate: PlacementAuthenticator
    let now: @Sendable () -> Timestamp
    let baseURL: @Sendable (HTTPRequest) -> String
    private(set) var router = Router()

    init(
        database: ControlDatabase, authenticate: @escaping PlacementAuthenticator,
        now: @escaping @Sendable () -> Timestamp, baseURL: @escaping @Sendable (HTTPRequest) -> String
    ) {
        (self.database, self.authenticate, self.now, self.baseURL) = (database, authenticate, now, baseURL)
        router.middleware = [placementFrame]
        router.failure = { request, error in placementAnswer(to: error, request) }
        router.bodyTooLarge = { request, limit in
            placementAnswer(to: PlacementError(413, "The request's body is larger than \(limit) bytes."), request)
        }
        router.notFound = { request in
            try await Self.admit(request, authenticate)
            throw PlacementError.notFound("The resource could not be found.")
        }
        router.methodNotAllowed = { request, allowed in
            do {
                try await Self.admit(request, authenticate)
                throw Self.readOnly(allowed.map(\.rawValue).joined(separator: ", "))
            } catch {
                return placementAnswer(to: error, request)
            }
        }
        // What is only ever written has no path that could be read.
        for path in ["/allocations", "/reshaper"] {
            router.on(.post, path, RouteOptions(bodyLimit: 65_536)) { request in
                try await Self.admit(request, authenticate)
                throw Self.readOnly("")
            }
        }
    }

    private static func readOnly(_ allowed: String) -> PlacementError {
        PlacementError(
            405,
            "Placement is only read here: providers, inventories and traits follow what the hosts report, allocations "
                + "follow the servers.",
            headers: ["Allow": allowed])
    }

    private static func admit(_ request: HTTPRequest, _ authenticate: PlacementAuthenticator) async throws {
        let roles = try await authenticate(request)
        guard roles.contains("admin") || roles.contains("service") else {
            throw PlacementError(403, "placement is for the roles admin and service.")
        }
    }

    mutating func addVersions() {
        let baseURL = baseURL
        router.on(.get, "/") { request in
            var writer = JSONWriter()
            writer.object { writer in
                writer.array("versions") { writer in
                    writer.object { writer in
                        writer.member("id", "v1.0")
                        writer.member("status", "CURRENT")
                        writer.member("min_version", PlacementVersion.minimum.description)
                        writer.member("max_version", PlacementVersion.maximum.description)
                        writer.array("links") { writer in
                            writer.object {
                                $0.member("rel", "self")
                                $0.member("href", baseURL(request) + "/")
                            }
                        }
                    }
                }
            }
            return .json(200, writer.finish())
        }
    }

    /// Adds a path that can be read from version 1.`minor` on; below it there is none.
    mutating func add(_ path: String, since minor: Int = 0, _ handler: @escaping Handler) {
        let (authenticate, now) = (authenticate, now)
        router.on(.get, path, RouteOptions(bodyLimit: 65_536)) { request in
            try await Self.admit(request, authenticate)
            let call = PlacementCall(request: request, version: try PlacementVersion.requested(by: request.headers))
            guard call.isAtLeast(minor) else { throw PlacementError.notFound("The resource could not be found.") }
            let answer = try await handler(call)
            var response = answer.response
            if call.isAtLeast(15) {
                response.headers["Last-Modified"] = (answer.changedAt ?? now()).httpDate
                response.headers["Cache-Control"] = "no-cache"
            }
            return response
        }
    }
}

/// What a handler answers, and when that last changed; without a time it is as of now.
struct PlacementAnswer: Sendable {
    var response: HTTPResponse
    var changedAt: Timestamp?

    init(_ status: Int) { response = HTTPResponse(status) }

    /// An answer with a JSON object.
    init(
        changedAt: Timestamp? = nil, capacity: Int = 512, _ body: (inout JSONWriter) throws -> Void
    ) rethrows {
        var writer = JSONWriter(capacity: capacity)
        try writer.object(body)
        response = HTTPResponse.json(200, writer.finish())
        self.changedAt = changedAt
    }
}

/// Gives each request its id, and each answer the headers that clients look for.
@Sendable private func placementFrame(_ request: HTTPRequest, _ next: HTTPHandler) async throws -> HTTPResponse {
    let id = RequestScope.current ?? RequestScope.makeID()
    var answer = try await RequestScope.$current.withValue(id) { try await next(request) }
    answer.headers["x-openstack-request-id"] = id.rawValue
    answer.headers.add("Vary", "OpenStack-API-Version")
    // A version that is none is told in the error, not echoed.
    if let version = try? PlacementVersion.requested(by: request.headers) {
        answer.headers["OpenStack-API-Version"] = "placement \(version)"
    }
    return answer
}

/// The answer to whatever a handler threw. Faults of ours are logged, not shown.
private func placementAnswer(to error: any Error, _ request: HTTPRequest) -> HTTPResponse {
    let known: PlacementError =
        switch error {
        case let error as PlacementError: error
        case let failure as Failure where failure.kind != .internalError:
            PlacementError(failure.status, failure.message)
        case is CancellationError: PlacementError(503, "The request was cut off.")
        case let error as any FailureConvertible where error.failure.retryAfter != nil:
            PlacementError(error.failure.status, "\(error.failure.message); try again.")
        default: PlacementError(500, "Placement failed; the API's log says more under this request's id.")
        }
    if known.status == 500 { Logger("placement").error("request failed", ["error": String(describing: error)]) }
    let hasCode = (try? PlacementVersion.requested(by: request.headers)).map { $0.minor >= 23 } ?? true
    return known.response(requestID: RequestScope.current?.rawValue ?? "", hasCode: hasCode)
}

extension Timestamp {
    /// `Sat, 31 Jan 2026 12:00:00 GMT`.
    var httpDate: String {
        let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        // `2026-01-31 12:00:00`; the first of 1970 was a Thursday.
        let parts = spaced.split { "- ".contains($0) }
        let day = ((microseconds / 86_400_000_000) % 7 + 7) % 7
        guard parts.count == 4, let month = Int(parts[1]), months.indices.contains(month - 1) else { return "" }
        return "\(days[Int(day)]), \(parts[2]) \(months[month - 1]) \(parts[0]) \(parts[3]) GMT"
    }
}
