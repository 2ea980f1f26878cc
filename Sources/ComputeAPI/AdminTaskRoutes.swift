internal import Database
internal import HTTP
internal import Identity
internal import Model
internal import Tasks

/// `/apus/v1/tasks`: what the cloud is doing, why it is not done yet, and what can be done about it.
extension AdminRoutes {
    mutating func addTasks() {
        let (database, conductor, now) = (database, conductor, now)
        let tasks = database.tasks
        add(.get, "/tasks", rule: "apus:tasks") { request in
            let (rows, next) = try await page(request, tasks)
            let moment = now()
            return jsonAnswer(capacity: 64 + rows.count * 512) { writer in
                writer.array("tasks") { writer in
                    for row in rows { writer.object { write(row, now: moment, to: &$0) } }
                }
                guard let next else { return }
                writer.array("tasks_links") { writer in
                    writer.object {
                        $0.member("rel", "next")
                        $0.member("href", next)
                    }
                }
            }
        }
        add(.get, "/tasks/{id}", rule: "apus:tasks") { request in
            try await answer(to: try await find(request, tasks), tasks, now: now())
        }
        add(.post, "/tasks/{id}/cancel", rule: "apus:tasks") { request in
            let row = try await find(request, tasks)
            try TaskCancellation(row: row).requirePossible()
            try await tasks.requestCancel(row.id, now: now())
            conductor.wake()
            return try await answer(to: try await find(request, tasks), tasks, now: now(), status: 202)
        }
        add(.post, "/tasks/{id}/retry", rule: "apus:tasks") { request in
            let row = try await TaskRetry(database: database, now: now()).retry(try await find(request, tasks))
            conductor.wake()
            return try await answer(to: row, tasks, now: now(), status: 202)
        }
    }
}

/// How many tasks one answer has at most, and when nobody says less.
private let taskLimit = 1_000

/// One page of the list, and the link to what follows it. Throws 400 for a query that cannot be read and a marker that
/// is no task.
private func page(
    _ request: HTTPRequest, _ tasks: any TaskStorage
) async throws -> (rows: ArraySlice<TaskRow>, next: String?) {
    let all = parseFlag(request.query["all"] ?? "false") ?? false
    var limit = taskLimit
    if let text = request.query["limit"] {
        guard let wanted = Int(text), wanted > 0 else {
            throw APIError.badRequest("Invalid input for query parameter limit: a whole number, 1 or more, is wanted.")
        }
        limit = min(wanted, taskLimit)
    }
    var marker: TaskID?
    if let text = request.query["marker"], !text.isEmpty {
        guard text.utf8.count <= 255 else { throw APIError.badRequest("marker [\(text.prefix(64))…] not found") }
        marker = TaskID(text.lowercased())
    }
    let found: [TaskRow]
    do {
        // One more than asked for tells whether there are more.
        found = try await tasks.list(
            instance: request.query["instance"].map { InstanceID($0.lowercased()) }, unfinishedOnly: !all,
            limit: limit + 1, after: marker)
    } catch TaskError.notFound(let id) {
        throw APIError.badRequest("marker [\(id)] not found")
    }
    let rows = found.prefix(limit)
    guard found.count > limit, let last = rows.last else { return (rows, nil) }
    let kept = request.query.items.filter { $0.name != "marker" } + [(name: "marker", value: last.id.rawValue)]
    let text = kept.map { PercentEncoding.encode($0.name) + "=" + PercentEncoding.encode($0.value) }
    return (rows, "\(baseURL(of: request))/apus/v1/tasks?\(text.joined(separator: "&"))")
}

private func find(_ request: HTTPRequest, _ tasks: any TaskStorage) async throws -> TaskRow {
    let id = request.parameters["id"] ?? ""
    // The ids of tasks that others have begun are longer than a uuid: they say whose they are.
    guard (1...255).contains(id.utf8.count), let row = try await tasks.find(TaskID(id.lowercased())) else {
        throw APIError.notFound("Task \(id) could not be found.")
    }
    return row
}

private func answer(
    to row: TaskRow, _ tasks: any TaskStorage, now: Timestamp, status: Int = 200
) async throws -> HTTPResponse {
    let children = try await tasks.children(of: row.id)
    var answer = jsonAnswer { writer in
        writer.object("task") { writer in
            write(row, now: now, to: &writer)
            writer.array("children") { writer in
                for child in children { writer.object { write(child, now: now, to: &$0) } }
            }
        }
    }
    answer.status = status
    return answer
}

/// A task without its state, which may hold a secret for the step that needs it.
private func write(_ row: TaskRow, now: Timestamp, to writer: inout JSONWriter) {
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
    writer.member("age_seconds", (row.finishedAt ?? now).since(row.createdAt).components.seconds)
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
