internal import Database
internal import HTTP
internal import Model
internal import Scheduling

extension AdminRoutes {
    mutating func addFleet(downAfter: Duration, zone: String) {
        let (database, now) = (database, now)
        add(.get, "/fleet", rule: "apus:hosts") { _ in
            try await showFleet(database, downAfter: downAfter, zone: zone, now: now())
        }
        add(.get, "/fleet/servers/{id}", rule: "apus:hosts") { request in
            let id = request.parameters["id"] ?? ""
            guard isUUID(id), let server = try await database.instances.find(InstanceID(id.lowercased())) else {
                throw APIError.server(id)
            }
            var members: [String: JSON] = ["request": try await placing(server, database).document]
            members["host"] = server.host.map { .string($0.rawValue) }
            return .json(200, JSON.object(members).serialized())
        }
    }
}

/// `GET /fleet`: every host with what a scheduler reads of it, the aggregates, and the options that the scheduler decides
/// by, in the form that `apus scheduler explain --hosts` reads. One read of all hosts; for people, not for each decision.
private func showFleet(
    _ database: ControlDatabase, downAfter: Duration, zone: String, now: Timestamp
) async throws -> HTTPResponse {
    let records = try await database.hosts.list()
    let services = Dictionary(
        try await database.services.list(binary: "nova-compute").map { ($0.host, $0) }, uniquingKeysWith: { $1 })
    let table = try await database.aggregates.table()
    let facts = AggregateFacts.byHost(table.aggregates)
    let hosts = records.map { record in
        let service = services[record.report.host]
        var host = HostState(
            report: record.report, availabilityZone: table.zones[record.report.host] ?? zone,
            isDisabled: service?.isDisabled ?? false, isUp: service?.isUp(now: now, downAfter: downAfter) ?? false)
        host.aggregates = facts[host.name] ?? []
        return host
    }
    var document = FleetDocument(hosts: hosts)
    document.options = try await PublishedOptions(settings: database.settings).read()
    return .json(200, document.json.serialized())
}

/// What placing a server anew would ask of the scheduler, in the form that `apus scheduler explain --request` reads:
/// `GET /fleet/servers/{id}`, with the host that it is on. The server itself counts nowhere in it.
private func placing(_ server: Instance, _ database: ControlDatabase) async throws -> PlacementRequest {
    let options = try await PublishedOptions(settings: database.settings).read()
    var request = try await PlacementFacts(database: database).complete(PlacementRequest(of: server, alternates: 2))
    let filters = options["filter_scheduler.enabled_filters", default: ""].split(separator: ",")
    if filters.contains("TypeAffinityFilter") {
        request.otherFlavorHosts = try await database.instances.hosts(withOtherFlavorThan: server.flavor.id)
    }
    if let weight = options["filter_scheduler.image_props_weight_multiplier"].flatMap(Double.init), weight != 0 {
        var counts = try await database.instances.imagePropertyCounts()
        if let host = server.host {
            for (name, value) in server.imageProperties ?? [:] { counts[host]?["\(name)=\(value)"]? -= 1 }
        }
        request.setImagePropertyCounts(counts)
    }
    return request
}
