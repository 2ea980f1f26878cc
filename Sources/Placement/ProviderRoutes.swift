internal import Database
internal import HTTP
internal import Model

/// The hosts as resource providers, and what each has and has promised.
extension PlacementRoutes {
    mutating func addProviders() {
        let database = database
        add("/resource_providers") { call in
            let found = try await providers(call, database)
            let prefix = linkPrefix(call.request)
            let changedAt = found.map(\.updatedAt).max()
            return PlacementAnswer(changedAt: changedAt, capacity: 64 + found.count * 768) { writer in
                writer.array("resource_providers") { writer in
                    for provider in found { writer.object { write(provider, prefix, call, to: &$0) } }
                }
            }
        }
        addProvider("") { provider, call, writer in write(provider, linkPrefix(call.request), call, to: &writer) }
        addProvider("/inventories") { provider, _, writer in
            writer.object("inventories") { writer in
                for inventory in provider.inventories {
                    writer.object(inventory.resourceClass) { inventory.write(to: &$0) }
                }
            }
            writer.member("resource_provider_generation", provider.generation)
        }
        addProvider("/inventories/{class}") { provider, call, writer in
            let name = call.parameter("class")
            guard let inventory = provider.inventory(of: name) else {
                throw PlacementError.notFound("No inventory of class \(name) found for \(provider.uuid)")
            }
            inventory.write(to: &writer)
            writer.member("resource_provider_generation", provider.generation)
        }
        addProvider("/usages") { provider, _, writer in
            writer.member("resource_provider_generation", provider.generation)
            writer.object("usages") { writer in
                for inventory in provider.inventories { writer.member(inventory.resourceClass, inventory.used) }
            }
        }
        addProvider("/aggregates", since: 1) { provider, call, writer in
            writer.array("aggregates") { writer in
                for aggregate in provider.aggregates { writer.string(aggregate) }
            }
            if call.isAtLeast(19) { writer.member("resource_provider_generation", provider.generation) }
        }
        addProvider("/traits", since: 6) { provider, _, writer in
            writer.array("traits") { writer in
                for trait in provider.traits.sorted() { writer.string(trait) }
            }
            writer.member("resource_provider_generation", provider.generation)
        }
        add("/resource_providers/{uuid}/allocations") { call in
            let provider = try await ResourceProvider.find(call.parameter("uuid"), database)
            let allocations = try await database.instances.list(on: provider.host).compactMap(Allocation.init)
            return PlacementAnswer(changedAt: provider.updatedAt, capacity: 128 + allocations.count * 160) { writer in
                writer.object("allocations") { writer in
                    for allocation in allocations {
                        writer.object(allocation.instance.id.rawValue) { writer in
                            allocation.writeResources(to: &writer)
                            if call.isAtLeast(28) {
                                writer.member("consumer_generation", allocation.instance.fence.generation)
                            }
                        }
                    }
                }
                writer.member("resource_provider_generation", provider.generation)
            }
        }
    }

    /// Adds `/resource_providers/{uuid}<path>`, whose answer is one object about the provider.
    private mutating func addProvider(
        _ path: String, since minor: Int = 0,
        _ write: @escaping @Sendable (ResourceProvider, PlacementCall, inout JSONWriter) throws -> Void
    ) {
        let database = database
        add("/resource_providers/{uuid}" + path, since: minor) { call in
            let provider = try await ResourceProvider.find(call.parameter("uuid"), database)
            return try PlacementAnswer(changedAt: provider.updatedAt, capacity: 1_024) { writer in
                try write(provider, call, &writer)
            }
        }
    }
}

/// The providers that the query describes.
private func providers(_ call: PlacementCall, _ database: ControlDatabase) async throws -> [ResourceProvider] {
    var names: Set<String> = ["name", "uuid"]
    for (minor, name) in [(3, "member_of"), (4, "resources"), (14, "in_tree"), (18, "required")]
    where call.isAtLeast(minor) {
        names.insert(name)
    }
    var repeated: Set<String> = call.isAtLeast(24) ? ["member_of"] : []
    if call.isAtLeast(39) { repeated.insert("required") }
    try call.requireQuery(names, repeated: repeated)
    let query = call.request.query
    if let uuid = query["uuid"], !isUUID(uuid) {
        throw PlacementError.badQuery("Invalid query string parameters: '\(uuid.prefix(64))' is not a uuid.")
    }
    var asked = ProviderQuery()
    if let text = query["resources"] { try asked.readResources(text) }
    if let text = query["in_tree"] { try asked.readTree(text) }
    for text in query.all("required") { try asked.readRequired(text, call) }
    for text in query.all("member_of") { try asked.readMemberOf(text, call) }
    let all = try await ResourceProvider.all(database)
    try asked.requireKnown(all)
    return all.filter { provider in
        (query["name"] ?? provider.name) == provider.name
            && (query["uuid"]?.lowercased() ?? provider.uuid) == provider.uuid && asked.admits(provider)
    }
}

private func write(
    _ provider: ResourceProvider, _ prefix: String, _ call: PlacementCall, to writer: inout JSONWriter
) {
    writer.member("uuid", provider.uuid)
    writer.member("name", provider.name)
    writer.member("generation", provider.generation)
    if call.isAtLeast(14) {
        writer.member("root_provider_uuid", provider.uuid)
        writer.member("parent_provider_uuid", nil as String?)
    }
    let path = "\(prefix)/resource_providers/\(provider.uuid)"
    writer.array("links") { writer in
        var links = [("self", ""), ("inventories", "/inventories"), ("usages", "/usages")]
        for (minor, name) in [(1, "aggregates"), (6, "traits"), (11, "allocations")] where call.isAtLeast(minor) {
            links.append((name, "/" + name))
        }
        for (name, tail) in links {
            writer.object {
                $0.member("rel", name)
                $0.member("href", path + tail)
            }
        }
    }
}
