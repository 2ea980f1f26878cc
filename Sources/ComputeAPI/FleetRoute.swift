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
