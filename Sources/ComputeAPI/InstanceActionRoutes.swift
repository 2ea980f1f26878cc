internal import Database
internal import HTTP
internal import Model

/// What was done to a server: `os-instance-actions`.
extension ComputeRoutes {
    mutating func addInstanceActions() {
        let parts = parts
        add(.get, "servers/{id}/os-instance-actions", rule: nil) { call in
            let server = try await findServer(
                call, in: parts.database.instances, includeDeleted: call.isAtLeast(21))
            try call.require("os-instance-actions:list")
            let all = try await parts.database.actions.list(server.id)
            guard call.isAtLeast(58) else { return actionsAnswer(all[...], next: nil, server, call) }
            try call.requireKnownQuery(["changes-before", "changes-since", "limit", "marker"])
            let times = try ChangeTimes(call)
            let changed = all.filter { action in
                let updated = updatedAt(action)
                return times.since.map { updated >= $0 } ?? true && times.before.map { updated <= $0 } ?? true
            }
            let page = try call.page(of: changed, maximum: parts.settings.maxLimit) { $0.requestID.rawValue }
            return actionsAnswer(page.things, next: page.next, server, call)
        }
        add(.get, "servers/{id}/os-instance-actions/{request}", rule: nil) { call in
            let server = try await findServer(
                call, in: parts.database.instances, includeDeleted: call.isAtLeast(21))
            try call.require("os-instance-actions:show")
            let id = RequestID(call.parameter("request"))
            guard let action = try await parts.database.actions.find(server.id, id) else {
                throw APIError.notFound("Action for request_id \(id) on instance \(server.id) not found")
            }
            let seesEvents = call.isAtLeast(51) || call.allows("os-instance-actions:events")
            let events = seesEvents ? try await parts.database.actions.events(server.id, id) : []
            return jsonAnswer(capacity: 1_024) { writer in
                writer.object("instanceAction") { writer in
                    writeMembers(action, call, to: &writer)
                    guard seesEvents else { return }
                    writer.array("events") { writer in
                        for event in events { write(event, server, call, to: &writer) }
                    }
                }
            }
        }
    }
}

private func updatedAt(_ action: InstanceAction) -> Timestamp { action.finishedAt ?? action.startedAt }

private func actionsAnswer(
    _ actions: ArraySlice<InstanceAction>, next: String?, _ server: Instance, _ call: ComputeCall
) -> HTTPResponse {
    jsonAnswer(capacity: 64 + actions.count * 384) { writer in
        writer.array("instanceActions") { writer in
            for action in actions { writer.object { writeMembers(action, call, to: &$0) } }
        }
        if let next {
            call.writeNext("links", path: "servers/\(server.id)/os-instance-actions", marker: next, to: &writer)
        }
    }
}

private func writeMembers(_ action: InstanceAction, _ call: ComputeCall, to writer: inout JSONWriter) {
    writer.member("action", action.kind.rawValue)
    writer.member("instance_uuid", action.instance.rawValue)
    writer.member("request_id", action.requestID.rawValue)
    writer.member("user_id", action.userID.rawValue)
    writer.member("project_id", action.projectID.rawValue)
    writer.member("start_time", action.startedAt.iso8601MicrosecondsWithoutZone)
    writer.member("message", action.message)
    if call.isAtLeast(58) { writer.member("updated_at", updatedAt(action).iso8601MicrosecondsWithoutZone) }
}

private func write(
    _ event: InstanceEvent, _ server: Instance, _ call: ComputeCall, to writer: inout JSONWriter
) {
    let isPrivileged = call.allows("os-instance-actions:events")
    writer.object { writer in
        writer.member("event", event.name)
        writer.member("start_time", event.startedAt.iso8601MicrosecondsWithoutZone)
        writer.member("finish_time", event.finishedAt?.iso8601MicrosecondsWithoutZone)
        writer.member("result", event.result)
        if isPrivileged || !call.isAtLeast(51) { writer.member("traceback", nil as String?) }
        guard call.isAtLeast(62) else { return }
        var cache: [String: String] = [:]
        writer.member(
            "hostId",
            event.host.map { ServerView.hostID(project: server.projectID, host: $0, cache: &cache) } ?? "")
        if isPrivileged { writer.member("host", event.host?.rawValue) }
        if call.isAtLeast(84) { writer.member("details", event.details) }
    }
}
