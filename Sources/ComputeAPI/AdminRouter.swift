internal import Configuration
internal import Crypto
public import Database
public import HTTP
public import Model
internal import Telemetry

/// Apus's own calls: tasks and the enrolment of hosts, for administrators, and what Nova's API does not tell of servers.
/// Mount it at `/apus/v1`.
///
/// - Parameters:
///   - serviceDownTime: `[DEFAULT] service_down_time`.
///   - availabilityZone: `[DEFAULT] default_availability_zone`.
public func adminRouter(
    database: ControlDatabase, conductor: ConductorLink, serviceDownTime: Duration = .seconds(25),
    availabilityZone: String = "nova", authenticate: @escaping APIAuthenticator,
    now: @escaping @Sendable () -> Timestamp
) -> Router {
    var routes = AdminRoutes(database: database, conductor: conductor, authenticate: authenticate, now: now)
    routes.addTasks()
    routes.addHosts()
    routes.addHostDeath(downAfter: serviceDownTime)
    routes.addGuestAgent()
    routes.addFleet(downAfter: serviceDownTime, zone: availabilityZone)
    routes.addFleetServers()
    routes.addTrace()
    return routes.router
}

struct AdminRoutes {
    let database: ControlDatabase
    let conductor: ConductorLink
    let authenticate: APIAuthenticator
    let now: @Sendable () -> Timestamp
    private(set) var router = Router()

    init(
        database: ControlDatabase, conductor: ConductorLink, authenticate: @escaping APIAuthenticator,
        now: @escaping @Sendable () -> Timestamp
    ) {
        (self.database, self.conductor, self.authenticate, self.now) = (database, conductor, authenticate, now)
        router.middleware = [requestIDFrame]
        router.failure = { _, error in computeAnswer(to: error) }
        router.notFound = { request in
            _ = try await authenticate(request)
            throw APIError.notFound("The resource could not be found.")
        }
        router.bodyTooLarge = { _, limit in
            APIError(413, "The request's body is larger than \(limit) bytes.").response
        }
    }

    mutating func add(_ method: HTTPMethod, _ path: String, rule: String, _ handler: @escaping HTTPHandler) {
        let authenticate = authenticate
        router.on(method, path, RouteOptions(bodyLimit: 65_536)) { request in
            try Policy.require(rule, try await authenticate(request))
            return try await handler(request)
        }
    }

    /// Adds a route that others than administrators may have, too: its handler checks what the caller may.
    mutating func addOpen(
        _ method: HTTPMethod, _ path: String,
        _ handler: @escaping @Sendable (HTTPRequest, APICaller) async throws -> HTTPResponse
    ) {
        let authenticate = authenticate
        router.on(method, path, RouteOptions(bodyLimit: 65_536)) { request in
            try await handler(request, try await authenticate(request))
        }
    }

    // MARK: - Hosts

    mutating func addHosts() {
        let database = database
        let enrolment = Enrolment(database: database, conductor: conductor, now: now)
        add(.get, "/hosts", rule: "apus:hosts") { _ in
            let hosts = try await enrolment.hosts()
            let reports = Dictionary(
                try await database.hosts.list().map { ($0.report.host, $0.report) }, uniquingKeysWith: { $1 })
            return jsonAnswer(capacity: 64 + hosts.count * 384) { writer in
                writer.array("hosts") { writer in
                    for host in hosts { writer.object { write(host, reports[host.name]?.strays, to: &$0) } }
                }
            }
        }
        let (conductor, now) = (conductor, now)
        add(.get, "/hosts/{name}", rule: "apus:hosts") { request in
            try await showHost(request, database, conductor, now())
        }
        add(.post, "/hosts", rule: "apus:hosts") { request in
            var (fields, _) = try BodyFields.body(request.bytes, member: "host")
            let name = try fields.requiredText("name")
            try fields.finish()
            return try await enrolment.enroll(name)
        }
        add(.post, "/hosts/{name}/enroll", rule: "apus:hosts") { request in
            try await enrolment.enroll(request.parameters["name"] ?? "")
        }
        add(.post, "/hosts/{name}/rotate", rule: "apus:hosts") { request in
            try await enrolment.rotate(request.parameters["name"] ?? "")
        }
        for (method, path) in [(HTTPMethod.delete, "/hosts/{name}"), (.post, "/hosts/{name}/revoke")] {
            add(method, path, rule: "apus:hosts") { request in
                try await enrolment.revoke(request.parameters["name"] ?? "")
                return HTTPResponse(204)
            }
        }
    }
}

@Sendable private func requestIDFrame(_ request: HTTPRequest, _ next: HTTPHandler) async throws -> HTTPResponse {
    let id = RequestScope.current ?? RequestScope.makeID()
    var answer = try await RequestScope.$current.withValue(id) { try await next(request) }
    answer.headers["x-openstack-request-id"] = id.rawValue
    return answer
}

private func write(_ host: EnrolledHost, _ strays: HostStrays?, to writer: inout JSONWriter) {
    writer.member("name", host.name.rawValue)
    writer.member("url", host.url)
    writer.member("enrolled_at", host.enrolledAt.iso8601)
    writer.member("joined_at", host.joinedAt?.iso8601)
    writer.member("revoked_at", host.revokedAt?.iso8601)
    writer.member("certificate_fingerprint", host.certificateFingerprint)
    writer.object("strays") { writer in
        let strays = strays ?? HostStrays()
        let findings = [("orphans", strays.orphans), ("unplaced", strays.unplaced), ("unknown", strays.unknown)]
        for (name, finding) in findings {
            writer.object(name) { writer in
                writer.member("count", finding.count)
                writer.array("instances") { writer in
                    for id in finding.instances { writer.value(.string(id.rawValue)) }
                }
            }
        }
    }
}
