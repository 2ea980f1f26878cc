internal import HTTP
internal import Model

/// A server by id or by name; a name that several carry is refused with their ids.
func findServer(_ wanted: String, _ client: CloudClient) async throws -> JSON {
    if let byID = try await found({ try await showServer(wanted, client) }) { return byID }
    let anchored = "^" + wanted.map { "\\^$.|?*+()[]{}".contains($0) ? "\\\($0)" : String($0) }.joined() + "$"
    let byName = try await allServers(client, query: [("name", anchored)]).filter { $0["name"]?.text == wanted }
    return try only(byName, wanted, kind: "server")
}

/// One server by its id.
func showServer(_ id: String, _ client: CloudClient) async throws -> JSON {
    try await client.request(.get, .compute, "/servers/\(percentEncoded(id))")["server"] ?? .null
}

/// Every page of the list.
func allServers(_ client: CloudClient, query: [(String, String)]) async throws -> [JSON] {
    var servers: [JSON] = []
    var marker: String?
    while true {
        let page = try await client.request(
            .get, .compute, "/servers/detail", query: query + (marker.map { [("marker", $0)] } ?? []))
        let rows = page["servers"]?.list ?? []
        servers += rows
        guard page["servers_links"]?.list?.isEmpty == false, let last = rows.last?["id"]?.text, last != marker else {
            return servers
        }
        marker = last
    }
}

/// Every page of the tasks.
func allTasks(_ client: CloudClient, query: [(String, String)]) async throws -> [JSON] {
    var tasks: [JSON] = []
    var marker: String?
    while true {
        let page = try await client.apus(.get, "/tasks", query: query + (marker.map { [("marker", $0)] } ?? []))
        let rows = page["tasks"]?.list ?? []
        tasks += rows
        guard page["tasks_links"]?.list?.isEmpty == false, let last = rows.last?["id"]?.text, last != marker else {
            return tasks
        }
        marker = last
    }
}

/// An image by id or by name.
func findImage(_ wanted: String, _ client: CloudClient) async throws -> JSON {
    let images = try await allImages(client)
    if let byID = images.first(where: { $0["id"]?.text == wanted }) { return byID }
    return try only(images.filter { $0["name"]?.text == wanted }, wanted, kind: "image")
}

/// Every page of the images that the person may see.
func allImages(_ client: CloudClient) async throws -> [JSON] {
    var images: [JSON] = []
    var marker: String?
    while true {
        let page = try await client.request(
            .get, .image, "/images", query: marker.map { [("marker", $0)] } ?? [])
        let rows = page["images"]?.list ?? []
        images += rows
        guard page["next"]?.text != nil, let last = rows.last?["id"]?.text, last != marker else { return images }
        marker = last
    }
}

/// A flavor by id or by name.
func findFlavor(_ wanted: String, _ client: CloudClient) async throws -> JSON {
    let flavors = try await allFlavors(client)
    if let byID = flavors.first(where: { $0["id"]?.text == wanted }) { return byID }
    let known = flavors.compactMap { $0["name"]?.text }
    return try only(flavors.filter { $0["name"]?.text == wanted }, wanted, kind: "flavor", known: known)
}

func allFlavors(_ client: CloudClient) async throws -> [JSON] {
    try await client.request(.get, .compute, "/flavors/detail")["flavors"]?.list ?? []
}

func flavorNames(_ client: CloudClient) async throws -> [String: String] {
    var names: [String: String] = [:]
    for flavor in try await allFlavors(client) {
        if let id = flavor["id"]?.text, let name = flavor["name"]?.text { names[id] = name }
    }
    return names
}

private func only(_ found: [JSON], _ wanted: String, kind: String, known: [String] = []) throws(CommandError) -> JSON {
    guard let first = found.first else {
        throw .failure("There is no \(kind) '\(wanted)'.\(suggestion(wanted, among: known))")
    }
    guard found.count == 1 else {
        let ids = found.compactMap { $0["id"]?.text }.joined(separator: ", ")
        throw .failure("\(found.count) \(kind)s are called '\(wanted)'; say which by its id: \(ids).")
    }
    return first
}

/// What `request` gives, or `nil` when the API answers that there is no such thing.
func found(_ request: () async throws -> JSON) async throws -> JSON? {
    do { return try await request() } catch let error as APIError where error.status == 404 || error.status == 400 {
        return nil
    }
}

func status(of server: JSON) -> String { server["status"]?.text ?? "" }

/// `ACTIVE`, or `ACTIVE (powering-off)` while something is under way.
func describedStatus(of server: JSON) -> String {
    let task = server["OS-EXT-STS:task_state"]?.text
    return status(of: server) + (task.map { " (\($0))" } ?? "")
}

/// `default=192.168.122.5`
func addresses(of server: JSON) -> String {
    (server["addresses"]?.members ?? [:]).sorted { $0.key < $1.key }.map { network, entries in
        "\(network)=\((entries.list ?? []).compactMap { $0["addr"]?.text }.joined(separator: ","))"
    }.joined(separator: " ")
}

/// A server as a person reads it.
func serverFacts(_ server: JSON) -> String {
    var facts: [(String, String)] = [
        ("id", server["id"]?.text ?? ""), ("name", server["name"]?.text ?? ""), ("status", describedStatus(of: server)),
    ]
    if let reason = server["fault"]?["message"]?.text { facts.append(("fault", reason)) }
    facts += [
        ("addresses", addresses(of: server)), ("flavor", server["flavor"]?["id"]?.text ?? ""),
        ("image", server["image"]?["id"]?.text ?? ""), ("key", server["key_name"]?.text ?? ""),
        ("host", server["OS-EXT-SRV-ATTR:host"]?.text ?? ""),
        ("domain", server["OS-EXT-SRV-ATTR:instance_name"]?.text ?? ""),
        ("created", server["created"]?.text ?? ""), ("launched", server["OS-SRV-USG:launched_at"]?.text ?? ""),
    ]
    if let metadata = server["metadata"]?.members, !metadata.isEmpty {
        facts.append(
            (
                "metadata",
                metadata.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.text ?? "")" }.joined(separator: " ")
            ))
    }
    if let password = server["adminPass"]?.text { facts.append(("password", password)) }
    return Table.facts(facts.filter { !$0.1.isEmpty })
}
