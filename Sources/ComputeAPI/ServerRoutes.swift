internal import Database
internal import HTTP
internal import Model

/// Listing, showing, making, changing and removing servers.
extension ComputeRoutes {
    mutating func addServers() {
        let parts = parts
        add(.get, "servers", rule: "servers:index") { try await listServers($0, parts, isDetailed: false) }
        add(.get, "servers/detail", rule: "servers:detail") { try await listServers($0, parts, isDetailed: true) }
        add(.post, "servers", rule: "servers:create") { try await createServers($0, parts) }
        addServer(.get, "", rule: "servers:show") { call, server in
            try await serverAnswer(server, .full, call, parts)
        }
        addServer(.put, "", rule: "servers:update") { call, server in
            let changed = try await updateServer(server, call, parts)
            return try await serverAnswer(changed, .afterUpdate, call, parts)
        }
        addServer(.delete, "", rule: "servers:delete") { call, server in
            try await deleteServer(server, call, parts)
            return HTTPResponse(204)
        }
    }
}

private func listServers(_ call: ComputeCall, _ parts: ComputeParts, isDetailed: Bool) async throws -> HTTPResponse {
    let asked = try ServerListQuery(call, settings: parts.settings)
    var servers: [Instance] = []
    var hasMore = false
    if !asked.isEmpty, asked.limit > 0 {
        do {
            servers = try await parts.database.instances.list(asked.query)
        } catch StoreError.notFound {
            throw APIError.badRequest("marker [\(asked.query.marker?.rawValue ?? "")] not found")
        }
        // A full page may be the last one; then the next one is empty, and says so.
        hasMore = servers.count == asked.limit
    }
    var view = try await ServerView(call, parts: parts)
    let known = isDetailed ? parts.written.entries(for: view.reader) : [:]
    var fresh: [WrittenServers.Entry] = []
    defer { parts.written.note(fresh, for: view.reader) }
    return jsonAnswer(capacity: 256 + servers.count * (isDetailed ? 1_536 : 384)) { writer in
        writer.array("servers") { writer in
            for server in servers {
                if isDetailed {
                    view.write(server, known: known, noting: &fresh, to: &writer)
                } else {
                    view.writeBrief(server, to: &writer)
                }
            }
        }
        guard hasMore, let last = servers.last else { return }
        call.writeNext(
            "servers_links", path: isDetailed ? "servers/detail" : "servers", marker: last.id.rawValue, to: &writer)
    }
}

private func serverAnswer(
    _ server: Instance, _ form: ServerView.Form, _ call: ComputeCall, _ parts: ComputeParts
) async throws -> HTTPResponse {
    var view = try await ServerView(call, parts: parts)
    let group = try await ServerGroupMember(server, call, parts)
    return jsonAnswer(capacity: 2_048) { writer in
        writer.key("server")
        view.write(server, form, group: group, to: &writer)
    }
}

private func updateServer(
    _ server: Instance, _ call: ComputeCall, _ parts: ComputeParts
) async throws -> Instance {
    var (fields, _) = try BodyFields.body(call.request.bytes, member: "server")
    let name = try fields.name("name")
    let accessIPv4 = try fields.nullableText("accessIPv4", length: 0...15)
    let accessIPv6 = try fields.nullableText("accessIPv6", length: 0...45)
    let description = call.isAtLeast(19) ? try fields.nullableText("description") : nil
    let hostname = try ServerRequest.hostname(&fields, call)
    _ = try fields.choice("OS-DCF:diskConfig", ["AUTO", "MANUAL"])
    try fields.finish()
    try checkAddresses(accessIPv4 ?? nil, accessIPv6 ?? nil)
    return try await parts.database.instances.update(server.id, now: parts.now()) { instance in
        guard instance.deletedAt == nil else { throw APIError.server(instance.id.rawValue) }
        if let name { instance.name = name }
        if let accessIPv4 { instance.accessIPv4 = accessIPv4?.isEmpty == false ? accessIPv4 : nil }
        if let accessIPv6 { instance.accessIPv6 = accessIPv6?.isEmpty == false ? accessIPv6 : nil }
        if let description { instance.description = description }
        if let hostname { instance.hostname = hostname }
    }
}

func checkAddresses(_ ipv4: String?, _ ipv6: String?) throws(APIError) {
    if let ipv4, !ipv4.isEmpty, !isIPv4(ipv4) { throw .badRequest("accessIPv4 is not proper IPv4 format") }
    if let ipv6, !ipv6.isEmpty, !isIPv6(ipv6) { throw .badRequest("accessIPv6 is not proper IPv6 format") }
}
