internal import Database
internal import HTTP
internal import Model
internal import Scheduling

extension AdminRoutes {
    mutating func addTrace() {
        let database = database
        add(.get, "/fleet/trace", rule: "apus:hosts") { request in
            var limit = traceDefault
            if let text = request.query["limit"] {
                guard let wanted = Int(text), (1...traceLimit).contains(wanted) else {
                    throw APIError.badRequest(
                        "Invalid input for query parameter limit: a whole number from 1 to \(traceLimit) is wanted.")
                }
                limit = wanted
            }
            let events = try await recorded(limit, database)
            return .json(200, JSON.object(["events": .array(events)]).serialized())
        }
    }
}

/// How many servers one trace has at most, and when nobody says less.
private let traceLimit = 100_000
private let traceDefault = 10_000

/// `GET /fleet/trace`: what the newest servers asked of the scheduler when they were made, those deleted since among
/// them, and when they were deleted, oldest first, in the form that `apus scheduler replay` reads. It is worked out from
/// the servers' records, so what they became later (another image, another zone) is what they are said to have asked for.
private func recorded(_ limit: Int, _ database: ControlDatabase) async throws -> [JSON] {
    let servers = try await newest(limit, database)
    let groups = try await database.serverGroups.groups(of: servers.map(\.id))
    var known: [ServerGroupID: ServerGroup] = [:]
    for id in Set(groups.values) { known[id] = try await database.serverGroups.find(id) }
    var moments: [(at: Timestamp, event: JSON)] = []
    // Servers of one request are one event, as they were for the scheduler.
    for siblings in Dictionary(grouping: servers, by: \.reservationID).values {
        let siblings = siblings.sorted { $0.launchIndex < $1.launchIndex }
        guard let first = siblings.first else { continue }
        var request = PlacementRequest(of: first, alternates: 2)
        request.instances = siblings.map(\.id)
        if let id = groups[first.id], let group = known[id] {
            request.group = .init(
                id: id, policy: group.policy, maxServersPerHost: group.maxServersPerHost ?? 1)
        }
        moments.append((first.createdAt, ["request": request.document]))
    }
    for server in servers {
        guard let at = server.deletedAt else { continue }
        moments.append((at, ["delete": .string(server.id.rawValue)]))
    }
    return moments.sorted { $0.at < $1.at }.map(\.event)
}

/// The newest servers, whether they are still there or not.
private func newest(_ limit: Int, _ database: ControlDatabase) async throws -> [Instance] {
    var servers: [Instance] = []
    var query = InstanceQuery()
    query.deleted = .included
    while servers.count < limit {
        query.limit = min(1_000, limit - servers.count)
        query.marker = servers.last?.id
        let page = try await database.instances.list(query)
        servers += page
        if page.count < query.limit { break }
    }
    return servers
}
