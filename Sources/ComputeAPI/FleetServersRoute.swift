internal import Database
internal import HTTP
internal import Identity
internal import Model
internal import Scheduling

extension AdminRoutes {
    /// `GET /fleet/servers`: every server that is on a host, with what placing it anew would ask and why it should stay
    /// where it is, in the form that `PlacedServer` reads. In pages, in the order of the ids.
    mutating func addFleetServers() {
        let database = database
        add(.get, "/fleet/servers", rule: "apus:hosts") { request in
            var query = InstanceQuery()
            query.sort = [(.id, true)]
            query.limit = try limit(request)
            query.marker = request.query["marker"].map { InstanceID($0.lowercased()) }
            query.matches = { $0.host != nil }
            let instances: [Instance]
            do {
                instances = try await database.instances.list(query)
            } catch StoreError.notFound {
                throw APIError.badRequest("marker [\((request.query["marker"] ?? "").prefix(64))] not found")
            }
            var members: [String: JSON] = [
                "servers": .array(try await placed(instances, database).map(\.document))
            ]
            // A page that is full by chance has an empty one behind it.
            if instances.count == query.limit, let last = instances.last {
                let next = "\(baseURL(of: request))/apus/v1/fleet/servers?limit=\(query.limit)&marker=\(last.id)"
                members["servers_links"] = [["rel": "next", "href": .string(next)]]
            }
            return .json(200, JSON.object(members).serialized())
        }
    }
}

/// How many servers one page has at most, and when nobody says less.
private let pageLimit = 1_000

private func limit(_ request: HTTPRequest) throws(APIError) -> Int {
    guard let text = request.query["limit"] else { return pageLimit }
    guard let wanted = Int(text), wanted > 0 else {
        throw .badRequest("Invalid input for query parameter limit: a whole number, 1 or more, is wanted.")
    }
    return min(wanted, pageLimit)
}

/// The servers with their groups. The policy of a group is read, not where its members are: who has all pages knows that.
private func placed(_ instances: [Instance], _ database: ControlDatabase) async throws -> [PlacedServer] {
    let ids = try await database.serverGroups.groups(of: instances.map(\.id))
    var groups: [ServerGroupID: ServerGroup] = [:]
    for id in Set(ids.values) { groups[id] = try await database.serverGroups.find(id) }
    return instances.compactMap { instance in
        PlacedServer(instance, in: ids[instance.id].flatMap { groups[$0] })
    }
}
