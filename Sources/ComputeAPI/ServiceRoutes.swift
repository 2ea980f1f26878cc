internal import Database
internal import HTTP
internal import Model

/// The services, and the zones they are in.
extension ComputeRoutes {
    mutating func addServices() {
        let parts = parts
        add(.get, "os-services", rule: "os-services:list") { call in
            try call.requireKnownQuery(["binary", "host"])
            let services = try await parts.database.services.list(
                host: call.query["host"].map { HostName($0) }, binary: call.query["binary"])
            let zones = try await Zones(parts)
            return jsonAnswer(capacity: 64 + services.count * 384) { writer in
                writer.array("services") { writer in
                    for service in services { writer.object { write(service, call, parts, zones, to: &$0) } }
                }
            }
        }
        add(.put, "os-services/{id}", rule: "os-services:update") { call in
            call.isAtLeast(53)
                ? try await updateService(call, parts) : try await updateServiceByName(call, parts)
        }
        add(.delete, "os-services/{id}", rule: "os-services:delete") { call in
            try await deleteService(call, parts)
        }
        add(.get, "os-availability-zone", rule: "os-availability-zone:list") { _ in
            try await zonesAnswer(parts, isDetailed: false)
        }
        add(.get, "os-availability-zone/detail", rule: "os-availability-zone:detail") { _ in
            try await zonesAnswer(parts, isDetailed: true)
        }
    }
}

private let computeBinary = "nova-compute"

private func isUp(_ service: ServiceRecord, _ parts: ComputeParts) -> Bool {
    service.isUp(now: parts.now(), downAfter: parts.settings.serviceDownTime)
}

/// The zones that services are in.
private struct Zones {
    let zones: [HostName: String]
    let otherwise: String

    init(_ parts: ComputeParts) async throws {
        zones = try await parts.database.aggregates.table().zones
        otherwise = parts.settings.availabilityZone
    }

    subscript(_ service: ServiceRecord) -> String {
        service.binary == computeBinary ? zones[service.host] ?? otherwise : "internal"
    }
}

private func write(
    _ service: ServiceRecord, _ call: ComputeCall, _ parts: ComputeParts, _ zones: Zones,
    to writer: inout JSONWriter
) {
    if call.isAtLeast(53) { writer.member("id", service.uuid) } else { writer.member("id", service.id) }
    writer.member("binary", service.binary)
    writer.member("host", service.host.rawValue)
    writer.member("zone", zones[service])
    writer.member("status", service.isDisabled ? "disabled" : "enabled")
    writer.member("state", isUp(service, parts) ? "up" : "down")
    writer.member("updated_at", service.lastSeenAt?.iso8601MicrosecondsWithoutZone)
    writer.member("disabled_reason", service.disabledReason)
    if call.isAtLeast(11) { writer.member("forced_down", service.isForcedDown) }
}

private func checkReason(_ reason: String?) throws(APIError) -> String? {
    guard let reason else { return nil }
    guard let first = reason.first, let last = reason.last, !first.isWhitespace, !last.isWhitespace else {
        throw .badRequest("Disabled reason contains invalid characters or is too long")
    }
    return reason
}

/// `PUT /os-services/{uuid}`, from 2.53.
private func updateService(_ call: ComputeCall, _ parts: ComputeParts) async throws -> HTTPResponse {
    let id = call.parameter("id")
    guard isUUID(id) else { throw APIError.badRequest("Invalid uuid \(id)") }
    var fields = try BodyFields(try call.body(), as: "body")
    let status = try fields.choice("status", ["enabled", "disabled"])
    let reason = try checkReason(try fields.text("disabled_reason", length: 1...255))
    let forcedDown = try fields.flag("forced_down")
    try fields.finish()
    guard status != nil || forcedDown != nil else {
        throw APIError.badRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    }
    guard reason == nil || status == "disabled" else {
        throw APIError.badRequest("Specifying 'disabled_reason' requires that 'status' is 'disabled'.")
    }
    guard let service = try await parts.database.services.find(uuid: id.lowercased()) else {
        throw APIError.notFound("Service \(id) not found.")
    }
    guard service.binary == computeBinary else {
        throw APIError.badRequest(
            "Updating a \(service.binary) service is not supported. Only nova-compute services can be updated.")
    }
    let changed = try await parts.database.services.change(
        uuid: service.uuid, isDisabled: status.map { $0 == "disabled" },
        disabledReason: status == nil ? nil : .some(reason), isForcedDown: forcedDown)
    let zones = try await Zones(parts)
    return jsonAnswer { writer in
        writer.object("service") { write(changed, call, parts, zones, to: &$0) }
    }
}

/// `PUT /os-services/enable` and its like, up to 2.52: the body names host and binary.
private func updateServiceByName(_ call: ComputeCall, _ parts: ComputeParts) async throws -> HTTPResponse {
    let verb = call.parameter("id")
    guard ["enable", "disable", "disable-log-reason"].contains(verb) || (verb == "force-down" && call.isAtLeast(11))
    else { throw APIError.notFound("Unknown action") }
    var fields = try BodyFields(try call.body(), as: "body")
    let host = HostName(try fields.requiredText("host"))
    let binary = try fields.requiredText("binary")
    let reason = verb == "disable-log-reason" ? try checkReason(try fields.requiredText("disabled_reason")) : nil
    let forcedDown = verb == "force-down" ? try fields.flag("forced_down") : nil
    try fields.finish()
    guard verb != "force-down" || forcedDown != nil else {
        throw APIError.badRequest("Missing forced_down field")
    }
    guard let service = try await parts.database.services.find(host: host, binary: binary) else {
        throw APIError.notFound("Could not find binary \(binary) on host \(host).")
    }
    let changed: ServiceRecord
    switch verb {
    case "enable":
        changed = try await parts.database.services.change(
            uuid: service.uuid, isDisabled: false, disabledReason: .some(nil))
    case "force-down":
        changed = try await parts.database.services.change(
            uuid: service.uuid, disabledReason: nil, isForcedDown: forcedDown)
    default:
        changed = try await parts.database.services.change(
            uuid: service.uuid, isDisabled: true, disabledReason: .some(reason))
    }
    return jsonAnswer { writer in
        writer.object("service") { writer in
            writer.member("host", changed.host.rawValue)
            writer.member("binary", changed.binary)
            if verb == "force-down" {
                writer.member("forced_down", changed.isForcedDown)
            } else {
                writer.member("status", changed.isDisabled ? "disabled" : "enabled")
            }
            if verb == "disable-log-reason" { writer.member("disabled_reason", changed.disabledReason) }
        }
    }
}

/// A host is forgotten with its compute service: it may come back under another uuid then, as a machine that was installed
/// anew does.
private func deleteService(_ call: ComputeCall, _ parts: ComputeParts) async throws -> HTTPResponse {
    let id = call.parameter("id")
    let services = parts.database.services
    let service: ServiceRecord?
    if call.isAtLeast(53) {
        guard isUUID(id) else { throw APIError.badRequest("Invalid uuid \(id)") }
        service = try await services.find(uuid: id.lowercased())
    } else {
        guard let number = Int64(id) else { throw APIError.badRequest("Invalid input: service id \(id)") }
        service = try await services.list().first { $0.id == number }
    }
    guard let service else { throw APIError.notFound("Service \(id) not found.") }
    if service.binary == computeBinary {
        let count = try await parts.database.instances.list(on: service.host).count
        guard count == 0 else {
            throw APIError.conflict(
                "Unable to delete compute service that is hosting instances. Migrate or delete the \(count) "
                    + "instance\(count == 1 ? "" : "s") on host \(service.host) first.")
        }
        var query = MigrationQuery()
        query.host = service.host
        query.statuses = Set(MigrationStatus.allCases).subtracting(MigrationStatus.over)
        guard try await parts.database.migrations.list(query).isEmpty else {
            throw APIError.conflict(
                "Unable to delete compute service with in-progress migrations from or to host \(service.host). A resize "
                    + "that waits to be confirmed counts.")
        }
        try await parts.database.hosts.delete(service.host, now: parts.now())
        try await parts.database.aggregates.forget(service.host, now: parts.now())
    }
    do {
        try await services.delete(uuid: service.uuid)
    } catch StoreError.notFound {
        throw APIError.notFound("Service \(id) not found.")
    }
    return HTTPResponse(204)
}

/// The zones that services are in. The plain list holds those in which servers can run.
private func zonesAnswer(_ parts: ComputeParts, isDetailed: Bool) async throws -> HTTPResponse {
    let services = try await parts.database.services.list()
    let known = try await Zones(parts)
    let zones = Dictionary(grouping: services) { known[$0] }
    return jsonAnswer { writer in
        writer.array("availabilityZoneInfo") { writer in
            for (name, services) in zones.sorted(by: { $0.key < $1.key }) where isDetailed || name != "internal" {
                writer.object { writer in
                    writer.member("zoneName", name)
                    writer.object("zoneState") { $0.member("available", services.contains { !$0.isDisabled }) }
                    guard isDetailed else { return writer.member("hosts", nil as String?) }
                    writer.object("hosts") { writer in
                        for (host, services) in Dictionary(grouping: services, by: \.host).sorted(by: {
                            $0.key < $1.key
                        }) {
                            writer.object(host.rawValue) { writer in
                                for service in services { writeState(service, parts, to: &writer) }
                            }
                        }
                    }
                }
            }
        }
    }
}

private func writeState(_ service: ServiceRecord, _ parts: ComputeParts, to writer: inout JSONWriter) {
    writer.object(service.binary) { writer in
        writer.member("available", isUp(service, parts))
        writer.member("active", !service.isDisabled)
        writer.member("updated_at", service.lastSeenAt?.iso8601MicrosecondsWithoutZone)
    }
}
