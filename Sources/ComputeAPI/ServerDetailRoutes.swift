internal import Database
internal import HTTP
internal import Model

/// A server's metadata, tags and addresses.
extension ComputeRoutes {
    mutating func addServerDetails() {
        addMetadata()
        addTags()
        addAddresses()
    }

    private mutating func addMetadata() {
        let parts = parts
        addServer(.get, "/metadata", rule: "server-metadata:index") { _, server in metadataAnswer(server.metadata) }
        addServer(.post, "/metadata", rule: "server-metadata:create") { call, server in
            let added = try metadataBody(call)
            let changed = try await changeMetadata(server, call, parts) { $0.merge(added) { $1 } }
            return metadataAnswer(changed.metadata)
        }
        addServer(.put, "/metadata", rule: "server-metadata:update_all") { call, server in
            let all = try metadataBody(call)
            return metadataAnswer(try await changeMetadata(server, call, parts) { $0 = all }.metadata)
        }
        addServer(.get, "/metadata/{key}", rule: "server-metadata:show") { call, server in
            let key = call.parameter("key")
            guard let value = server.metadata[key] else { throw APIError.notFound("Metadata item was not found") }
            return metaAnswer(key, value)
        }
        addServer(.put, "/metadata/{key}", rule: "server-metadata:update") { call, server in
            let key = call.parameter("key")
            let (fields, _) = try BodyFields.body(call.request.bytes, member: "meta")
            let items = try fields.allTexts()
            guard items.count == 1, let value = items[key] else {
                throw APIError.badRequest(
                    items.count == 1 ? "Request body and URI mismatch" : "Request body contains too many items")
            }
            _ = try await changeMetadata(server, call, parts) { $0[key] = value }
            return metaAnswer(key, value)
        }
        addServer(.delete, "/metadata/{key}", rule: "server-metadata:delete") { call, server in
            let key = call.parameter("key")
            guard server.metadata[key] != nil else { throw APIError.notFound("Metadata item was not found") }
            _ = try await changeMetadata(server, call, parts) { $0[key] = nil }
            return HTTPResponse(204)
        }
    }

    private mutating func addTags() {
        let parts = parts
        let versions = 26...Int.max
        addServer(.get, "/tags", rule: "os-server-tags:index", versions: versions) { _, server in
            tagsAnswer(server.tags)
        }
        addServer(.put, "/tags", rule: "os-server-tags:update_all", versions: versions) { call, server in
            let tags = try ServerRequest.tags(try BodyFields.bodyList(call.request.bytes, member: "tags"))
            return tagsAnswer(try await changeTags(server, call, parts) { $0 = tags }.tags)
        }
        addServer(.delete, "/tags", rule: "os-server-tags:delete_all", versions: versions) { call, server in
            _ = try await changeTags(server, call, parts) { $0 = [] }
            return HTTPResponse(204)
        }
        addServer(.get, "/tags/{tag}", rule: "os-server-tags:show", versions: versions) { call, server in
            guard server.tags.contains(call.parameter("tag")) else { throw missingTag(call, server) }
            return HTTPResponse(204)
        }
        addServer(.put, "/tags/{tag}", rule: "os-server-tags:update", versions: versions) { call, server in
            let tag = try ServerRequest.tag(call.parameter("tag"))
            guard !server.tags.contains(tag) else { return HTTPResponse(204) }
            _ = try await changeTags(server, call, parts) { tags in
                guard tags.contains(tag) || tags.count < ServerRequest.maximumTagCount else {
                    throw APIError.badRequest("A server has at most \(ServerRequest.maximumTagCount) tags.")
                }
                tags.insert(tag)
            }
            let place = "\(call.base)/v2.1/servers/\(server.id)/tags/\(PercentEncoding.encode(tag))"
            return HTTPResponse(201, headers: ["Location": place])
        }
        addServer(.delete, "/tags/{tag}", rule: "os-server-tags:delete", versions: versions) { call, server in
            let tag = call.parameter("tag")
            guard server.tags.contains(tag) else { throw missingTag(call, server) }
            _ = try await changeTags(server, call, parts) { tags in tags.remove(tag) }
            return HTTPResponse(204)
        }
    }

    private mutating func addAddresses() {
        addServer(.get, "/ips", rule: "ips:index") { _, server in
            jsonAnswer { writer in
                writer.object("addresses") { writer in
                    for (network, interfaces) in addressesByNetwork(server) {
                        writeAddresses(network, interfaces, to: &writer)
                    }
                }
            }
        }
        addServer(.get, "/ips/{network}", rule: "ips:show") { call, server in
            let network = call.parameter("network")
            guard let found = addressesByNetwork(server).first(where: { $0.network == network }) else {
                throw APIError.notFound("Instance is not a member of specified network")
            }
            return jsonAnswer { writeAddresses(network, found.interfaces, to: &$0) }
        }
    }
}

private func writeAddresses(_ network: String, _ interfaces: [NetworkInterface], to writer: inout JSONWriter) {
    writer.array(network) { writer in
        for interface in interfaces {
            writer.object {
                $0.member("version", 4)
                $0.member("addr", interface.ipv4Address)
            }
        }
    }
}

private func metadataBody(_ call: ComputeCall) throws(APIError) -> [String: String] {
    let (fields, _) = try BodyFields.body(call.request.bytes, member: "metadata")
    return try fields.allTexts()
}

private func metadataAnswer(_ items: [String: String]) -> HTTPResponse {
    jsonAnswer { writer in
        writer.object("metadata") { writer in
            for (key, value) in items.sorted(by: { $0.key < $1.key }) { writer.member(key, value) }
        }
    }
}

private func metaAnswer(_ key: String, _ value: String) -> HTTPResponse {
    jsonAnswer { writer in
        writer.object("meta") { $0.member(key, value) }
    }
}

/// Changes metadata where the server's state admits it, within the limit.
private func changeMetadata(
    _ server: Instance, _ call: ComputeCall, _ parts: ComputeParts,
    _ change: @escaping @Sendable (inout [String: String]) -> Void
) async throws -> Instance {
    let limits = try await parts.serverLimits(of: server)
    return try await parts.database.instances.update(server.id, now: parts.now()) { instance in
        guard instance.deletedAt == nil else { throw APIError.server(instance.id.rawValue) }
        try requireAdmitted(.changeMetadata, to: instance, call)
        let before = instance.metadata.count
        change(&instance.metadata)
        // A limit lowered since does not keep anybody from having fewer.
        guard instance.metadata.count > before else { return }
        try limits.require(.metadataItems, instance.metadata.count)
    }
}

private func changeTags(
    _ server: Instance, _ call: ComputeCall, _ parts: ComputeParts,
    _ change: @escaping @Sendable (inout Set<String>) throws -> Void
) async throws -> Instance {
    try await parts.database.instances.update(server.id, now: parts.now()) { instance in
        guard instance.deletedAt == nil else { throw APIError.server(instance.id.rawValue) }
        try requireAdmitted(.changeTags, to: instance, call)
        try change(&instance.tags)
    }
}

private func tagsAnswer(_ tags: Set<String>) -> HTTPResponse {
    jsonAnswer { writer in
        writer.array("tags") { writer in
            for tag in tags.sorted() { writer.string(tag) }
        }
    }
}

private func missingTag(_ call: ComputeCall, _ server: Instance) -> APIError {
    .notFound("Server \(server.id) has no tag '\(call.parameter("tag"))'")
}
