internal import Crypto
internal import Database
internal import HTTP
internal import Model

/// Groups of servers that are to run together, or apart.
extension ComputeRoutes {
    mutating func addServerGroups() {
        let parts = parts
        add(.get, "os-server-groups", rule: "os-server-groups:index") { call in
            try call.requireKnownQuery(["all_projects", "limit", "offset"])
            let isAll = call.query["all_projects"].map { parseFlag($0) ?? true } ?? false
            if isAll { try call.require("os-server-groups:index:all_projects") }
            let groups = try await parts.database.serverGroups.list(of: isAll ? nil : call.caller.projectID)
            let page = try cut(groups, call, parts)
            return jsonAnswer(capacity: 64 + page.count * 256) { writer in
                writer.array("server_groups") { writer in
                    for group in page { writer.object { write(group, call, to: &$0) } }
                }
            }
        }
        add(.post, "os-server-groups", rule: "os-server-groups:create") { call in
            let group = try read(call, now: parts.now())
            let limits = try await parts.limits(of: call.caller.projectID, call.caller.userID)
            do {
                try await parts.database.serverGroups.create(
                    group, projectLimit: limits.project[.serverGroups], userLimit: limits.user[.serverGroups])
            } catch let reached as ServerGroupLimitReached {
                throw QuotaExceeded(reached, requested: 1)
            }
            return answer(group, call)
        }
        add(.get, "os-server-groups/{id}", rule: "os-server-groups:show") { call in
            answer(try await findServerGroup(call.parameter("id"), call, parts), call)
        }
        add(.delete, "os-server-groups/{id}", rule: "os-server-groups:delete") { call in
            let group = try await findServerGroup(call.parameter("id"), call, parts)
            do {
                try await parts.database.serverGroups.delete(group.id)
            } catch StoreError.notFound {
                throw unknownGroup(call.parameter("id"))
            }
            return HTTPResponse(204)
        }
    }
}

extension QuotaExceeded {
    init(_ reached: ServerGroupLimitReached, requested: Int) {
        self.init(
            shortages: [
                .init(resource: reached.resource, requested: requested, used: reached.used, limit: reached.limit)
            ])
    }
}

private func unknownGroup(_ id: String) -> APIError {
    .notFound("Instance group \(id.prefix(255)) could not be found.")
}

/// A group of the caller's project; administrators see all. Throws 404.
func findServerGroup(_ id: String, _ call: ComputeCall, _ parts: ComputeParts) async throws -> ServerGroup {
    guard isUUID(id), let group = try await parts.database.serverGroups.find(ServerGroupID(id.lowercased())),
        group.projectID == call.caller.projectID || call.caller.isAdmin
    else { throw unknownGroup(id) }
    return group
}

/// `limit` and `offset`; at most as many as any list has.
private func cut(
    _ groups: [ServerGroup], _ call: ComputeCall, _ parts: ComputeParts
) throws(APIError) -> ArraySlice<ServerGroup> {
    var offset = 0
    if let text = call.query["offset"] {
        guard let number = Int(text), number >= 0 else {
            throw .badRequest("Invalid input for query parameter offset: a whole number, 0 or more, is wanted.")
        }
        offset = number
    }
    return groups.dropFirst(offset).prefix(try call.limit(maximum: parts.settings.maxLimit))
}

private func read(_ call: ComputeCall, now: Timestamp) throws(APIError) -> ServerGroup {
    var (fields, _) = try BodyFields.body(call.request.bytes, member: "server_group")
    let name = try fields.requiredName("name")
    let policy: ServerGroup.Policy
    var most: Int?
    if call.isAtLeast(64) {
        policy = try known(try fields.requiredText("policy"), call)
        if let value = fields.take("rules") {
            var rules = try BodyFields(value, as: "rules")
            most = try rules.integer("max_server_per_host", 1...1_000_000)
            try rules.finish()
        }
        guard most == nil || policy == .antiAffinity else {
            throw .badRequest("Only anti-affinity policy supports rules.")
        }
    } else {
        let policies = try fields.list("policies") ?? []
        guard policies.count == 1, let text = policies[0].text else {
            throw .badRequest("Invalid input for field/attribute policies: a list of exactly one policy is wanted.")
        }
        policy = try known(text, call)
        // Old clients send an empty object along.
        if let value = fields.take("metadata"), value.members?.isEmpty != true {
            throw .badRequest("Invalid input for field/attribute metadata: server groups have none.")
        }
    }
    try fields.finish()
    return ServerGroup(
        id: ServerGroupID(makeUUID()), projectID: call.caller.projectID, userID: call.caller.userID, name: name,
        policy: policy, maxServersPerHost: most, createdAt: now)
}

private func known(_ text: String, _ call: ComputeCall) throws(APIError) -> ServerGroup.Policy {
    let allowed = ServerGroup.Policy.allCases.filter {
        call.isAtLeast(15) || $0 == .affinity || $0 == .antiAffinity
    }
    guard let policy = allowed.first(where: { $0.rawValue == text }) else {
        throw .badRequest(
            "Invalid input for field/attribute policy. Value: '\(text.prefix(64))'. Wanted: one of "
                + allowed.map(\.rawValue).joined(separator: ", ") + ".")
    }
    return policy
}

private func answer(_ group: ServerGroup, _ call: ComputeCall) -> HTTPResponse {
    jsonAnswer { writer in
        writer.object("server_group") { write(group, call, to: &$0) }
    }
}

private func write(_ group: ServerGroup, _ call: ComputeCall, to writer: inout JSONWriter) {
    writer.member("id", group.id.rawValue)
    writer.member("name", group.name)
    if call.isAtLeast(64) {
        writer.member("policy", group.policy.rawValue)
        writer.object("rules") { writer in
            if let most = group.maxServersPerHost { writer.member("max_server_per_host", most) }
        }
    } else {
        writer.array("policies") { $0.string(group.policy.rawValue) }
        writer.object("metadata") { _ in }
    }
    writer.array("members") { writer in
        for member in group.members { writer.string(member.rawValue) }
    }
    guard call.isAtLeast(13) else { return }
    writer.member("project_id", group.projectID.rawValue)
    writer.member("user_id", group.userID.rawValue)
}
