internal import Crypto
internal import Database
internal import HTTP
internal import Model

/// The host aggregates.
extension ComputeRoutes {
    mutating func addAggregates() {
        let parts = parts
        add(.get, "os-aggregates", rule: "os-aggregates:index") { call in
            let aggregates = try await parts.database.aggregates.table().aggregates
            return jsonAnswer(capacity: 64 + aggregates.count * 384) { writer in
                writer.array("aggregates") { writer in
                    for aggregate in aggregates { writer.object { write(aggregate, call, to: &$0) } }
                }
            }
        }
        add(.post, "os-aggregates", rule: "os-aggregates:create") { call in
            var (fields, _) = try BodyFields.body(call.request.bytes, member: "aggregate")
            let name = try fields.requiredName("name")
            let zone = try zoneName(&fields) ?? nil
            try fields.finish()
            let made = try await translated(name) {
                try await parts.database.aggregates.create(
                    name: name, uuid: makeUUID(), availabilityZone: zone, now: parts.now())
            }
            return jsonAnswer { writer in
                writer.object("aggregate") { write(made, call, isBrief: true, to: &$0) }
            }
        }
        add(.get, "os-aggregates/{id}", rule: "os-aggregates:show") { call in
            let id = try aggregateNumber(call)
            guard let found = try await parts.database.aggregates.find(id) else { throw unknownAggregate(call) }
            return answer(found, call)
        }
        add(.put, "os-aggregates/{id}", rule: "os-aggregates:update") { call in
            let id = try aggregateNumber(call)
            var (fields, _) = try BodyFields.body(call.request.bytes, member: "aggregate")
            let name = try fields.name("name")
            let zone = try zoneName(&fields)
            try fields.finish()
            guard name != nil || zone != nil else {
                throw APIError.badRequest("Invalid input for field/attribute aggregate. A name or a zone is wanted.")
            }
            return answer(
                try await translated(call.parameter("id")) {
                    try await parts.database.aggregates.update(
                        id, name: name, metadata: zone.map { [Aggregate.zoneKey: $0] } ?? [:],
                        defaultZone: parts.settings.availabilityZone, now: parts.now())
                }, call)
        }
        add(.delete, "os-aggregates/{id}", rule: "os-aggregates:delete") { call in
            let id = try aggregateNumber(call)
            try await translated(call.parameter("id")) { try await parts.database.aggregates.delete(id) }
            return HTTPResponse(200)
        }
        add(.post, "os-aggregates/{id}/action", rule: nil) { call in try await act(call, parts) }
    }
}

/// `add_host`, `remove_host` or `set_metadata`.
private func act(_ call: ComputeCall, _ parts: ComputeParts) async throws -> HTTPResponse {
    let body = try call.body()
    guard let members = body.members, members.count == 1, let (action, value) = members.first else {
        throw APIError.badRequest("Malformed request body: one action is wanted.")
    }
    switch action {
    case "add_host", "remove_host":
        try call.require("os-aggregates:\(action)")
        let id = try aggregateNumber(call)
        var fields = try BodyFields(value, as: action)
        let host = HostName(try fields.requiredText("host"))
        try fields.finish()
        return answer(
            try await translated(call.parameter("id")) {
                let zone = parts.settings.availabilityZone
                guard action == "add_host" else {
                    return try await parts.database.aggregates.remove(
                        host, from: id, defaultZone: zone, now: parts.now())
                }
                let service = try await parts.database.services.find(host: host, binary: "nova-compute")
                guard service != nil else { throw AggregateError.hostNotFound(host) }
                return try await parts.database.aggregates.add(host, to: id, defaultZone: zone, now: parts.now())
            }, call)
    case "set_metadata":
        try call.require("os-aggregates:set_metadata")
        let id = try aggregateNumber(call)
        var fields = try BodyFields(value, as: action)
        guard let given = fields.take("metadata"), let metadata = given.members, metadata.count <= 1_024 else {
            throw APIError.badRequest("Invalid input for field/attribute set_metadata: metadata is wanted, an object.")
        }
        try fields.finish()
        let changes = try changes(metadata)
        return answer(
            try await translated(call.parameter("id")) {
                try await parts.database.aggregates.update(
                    id, metadata: changes, defaultZone: parts.settings.availabilityZone, now: parts.now())
            }, call)
    default: throw APIError.badRequest("There is no such action: \(action)")
    }
}

private func changes(_ metadata: [String: JSON]) throws(APIError) -> [String: String?] {
    var changes: [String: String?] = [:]
    for (key, value) in metadata {
        guard (1...255).contains(key.unicodeScalars.count), !key.utf8.contains(0),
            value.isNull || (value.text.map { $0.unicodeScalars.count <= 255 && !$0.utf8.contains(0) } ?? false)
        else {
            throw .badRequest(
                "Invalid input for field/attribute metadata: keys of 1 to 255 characters with texts of at most 255, or null."
            )
        }
        if key == Aggregate.zoneKey, let zone = value.text { try checkZone(zone) }
        changes.updateValue(value.text, forKey: key)
    }
    return changes
}

/// The outer optional says whether the member was there.
private func zoneName(_ fields: inout BodyFields) throws(APIError) -> String?? {
    guard let given = try fields.nullableText("availability_zone", length: 1...255) else { return nil }
    if let zone = given { try checkZone(zone) }
    return .some(given)
}

/// A colon parts zone and host where a server is asked for.
private func checkZone(_ zone: String) throws(APIError) {
    guard !zone.isEmpty, !zone.contains(":"), zone.first?.isWhitespace == false, zone.last?.isWhitespace == false else {
        throw .badRequest("Invalid input for field/attribute availability_zone: a name without a colon is wanted.")
    }
}

/// The number in the path of an aggregate.
func aggregateNumber(_ call: ComputeCall) throws(APIError) -> Int64 {
    guard let id = Int64(call.parameter("id")) else {
        throw .badRequest("Invalid aggregate id \(call.parameter("id").prefix(255)): a whole number is wanted.")
    }
    return id
}

/// The answer for an aggregate that is not there.
func unknownAggregate(_ call: ComputeCall) -> APIError {
    .notFound("Aggregate \(call.parameter("id")) could not be found.")
}

private func translated<T: Sendable>(_ name: String, _ work: () async throws -> T) async throws -> T {
    do {
        return try await work()
    } catch let error as AggregateError {
        switch error {
        case .otherZone(let host, let zone):
            throw APIError.conflict("Host \(host) is in the availability zone \(zone) already.")
        case .hasServers(let host, let count):
            throw APIError.conflict(
                "Host \(host) has \(count) server\(count == 1 ? "" : "s"): they would change their availability zone.")
        case .notEmpty(let count):
            throw APIError.badRequest(
                "Cannot remove aggregate \(name). It has \(count) host\(count == 1 ? "" : "s"): remove them first.")
        case .hostExists(let host): throw APIError.conflict("Aggregate \(name) already has host \(host).")
        case .hostNotFound(let host): throw APIError.notFound("Host \(host) could not be found.")
        }
    } catch StoreError.notFound {
        throw APIError.notFound("Aggregate \(name) could not be found.")
    } catch StoreError.exists(let what) {
        throw APIError.conflict("\(what) already exists.")
    }
}

private func answer(_ aggregate: Aggregate, _ call: ComputeCall) -> HTTPResponse {
    jsonAnswer { writer in
        writer.object("aggregate") { write(aggregate, call, to: &$0) }
    }
}

private func write(
    _ aggregate: Aggregate, _ call: ComputeCall, isBrief: Bool = false, to writer: inout JSONWriter
) {
    writer.member("id", aggregate.id)
    if call.isAtLeast(41) { writer.member("uuid", aggregate.uuid) }
    writer.member("name", aggregate.name)
    writer.member("availability_zone", aggregate.availabilityZone)
    writer.member("created_at", aggregate.createdAt.iso8601MicrosecondsWithoutZone)
    writer.member("updated_at", aggregate.updatedAt?.iso8601MicrosecondsWithoutZone)
    writer.member("deleted", false)
    writer.member("deleted_at", nil as String?)
    guard !isBrief else { return }
    writer.array("hosts") { writer in
        for host in aggregate.hosts { writer.string(host.rawValue) }
    }
    writer.object("metadata") { writer in
        for (key, value) in aggregate.metadata.sorted(by: { $0.key < $1.key }) { writer.member(key, value) }
    }
}
