internal import Configuration
internal import Crypto
public import Database
public import HTTP
public import Model
internal import Tasks
internal import Telemetry

/// Apus's own calls, for administrators: tasks and the enrolment of hosts. Mount it at `/apus/v1`.
public func adminRouter(
    database: ControlDatabase, conductor: ConductorLink, authenticate: @escaping APIAuthenticator,
    now: @escaping @Sendable () -> Timestamp
) -> Router {
    var routes = AdminRoutes(database: database, conductor: conductor, authenticate: authenticate, now: now)
    routes.addTasks()
    routes.addHosts()
    return routes.router
}

private struct AdminRoutes {
    private static let taskLimit = 1_000

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

    private mutating func add(_ method: HTTPMethod, _ path: String, rule: String, _ handler: @escaping HTTPHandler) {
        let authenticate = authenticate
        router.on(method, path, RouteOptions(bodyLimit: 65_536)) { request in
            try Policy.require(rule, try await authenticate(request))
            return try await handler(request)
        }
    }

    // MARK: - Tasks

    mutating func addTasks() {
        let (tasks, conductor, now) = (database.tasks, conductor, now)
        add(.get, "/tasks", rule: "apus:tasks") { request in
            let all = parseFlag(request.query["all"] ?? "false") ?? false
            let limit = min(Self.taskLimit, max(1, request.query["limit"].flatMap { Int($0) } ?? Self.taskLimit))
            let rows = try await tasks.list(
                instance: request.query["instance"].map { InstanceID($0.lowercased()) }, unfinishedOnly: !all,
                limit: limit)
            return jsonAnswer(capacity: 64 + rows.count * 512) { writer in
                writer.array("tasks") { writer in
                    for row in rows { writer.object { write(row, to: &$0) } }
                }
            }
        }
        add(.get, "/tasks/{id}", rule: "apus:tasks") { request in
            taskAnswer(try await find(request, tasks))
        }
        add(.post, "/tasks/{id}/cancel", rule: "apus:tasks") { request in
            let row = try await find(request, tasks)
            guard !row.status.isFinished else {
                throw APIError.conflict("Task \(row.id) has ended already: it \(row.status.rawValue).")
            }
            try await tasks.requestCancel(row.id, now: now())
            conductor.wake()
            var answer = taskAnswer(try await find(request, tasks))
            answer.status = 202
            return answer
        }
    }

    // MARK: - Hosts

    mutating func addHosts() {
        let enrolment = Enrolment(database: database, conductor: conductor, now: now)
        add(.get, "/hosts", rule: "apus:hosts") { _ in
            let hosts = try await enrolment.hosts()
            return jsonAnswer(capacity: 64 + hosts.count * 384) { writer in
                writer.array("hosts") { writer in
                    for host in hosts { writer.object { write(host, to: &$0) } }
                }
            }
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

private func find(_ request: HTTPRequest, _ tasks: any TaskStorage) async throws -> TaskRow {
    let id = request.parameters["id"] ?? ""
    guard isUUID(id), let row = try await tasks.find(TaskID(id.lowercased())) else {
        throw APIError.notFound("Task \(id) could not be found.")
    }
    return row
}

private func taskAnswer(_ row: TaskRow) -> HTTPResponse {
    jsonAnswer { writer in
        writer.object("task") { write(row, to: &$0) }
    }
}

/// A task without its state, which may hold a secret for the step that needs it.
private func write(_ row: TaskRow, to writer: inout JSONWriter) {
    writer.member("id", row.id.rawValue)
    writer.member("kind", row.kind)
    writer.member("status", row.status.rawValue)
    writer.member("step", row.step)
    writer.member("attempts", row.attempts)
    writer.member("instance_id", row.instance?.rawValue)
    writer.member("parent_id", row.parent?.rawValue)
    writer.member("request_id", row.requestID.rawValue)
    writer.member("owner", row.owner)
    writer.member("generation", row.generation)
    writer.member("epoch", row.epoch)
    writer.member("is_cancel_requested", row.isCancelRequested)
    writer.member("waits_until", row.wakeAt?.iso8601)
    writer.member("deadline", row.deadline?.iso8601)
    writer.member("created_at", row.createdAt.iso8601)
    writer.member("updated_at", row.updatedAt.iso8601)
    writer.member("finished_at", row.finishedAt?.iso8601)
    guard let error = row.lastError else { return writer.member("last_error", nil as String?) }
    writer.object("last_error") { writer in
        writer.member("kind", error.kind.rawValue)
        writer.member("message", error.message)
    }
}

private func write(_ host: EnrolledHost, to writer: inout JSONWriter) {
    writer.member("name", host.name.rawValue)
    writer.member("url", host.url)
    writer.member("enrolled_at", host.enrolledAt.iso8601)
    writer.member("joined_at", host.joinedAt?.iso8601)
    writer.member("revoked_at", host.revokedAt?.iso8601)
    writer.member("certificate_fingerprint", host.certificateFingerprint)
}
