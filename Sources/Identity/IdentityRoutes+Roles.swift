internal import HTTP
internal import Model

extension IdentityRoutes {
    func addRoles(to router: inout Router) {
        router.on(.get, "/v3/roles") { request in
            try await admin(request, "list_roles")
            let roles = try await storage.listRoles().filter { (request.query["name"] ?? $0.name) == $0.name }
            return list(request, "roles", roles) { write($1, to: &$0, request) }
        }
        router.on(.post, "/v3/roles", Self.options) { request in
            try await admin(request, "create_role")
            let fields = try body(request, "role")
            guard try fields.text("domain_id") == nil else {
                throw IdentityError.badRequest("Roles of a domain are not offered.")
            }
            let role = RoleRecord(
                id: IdentityService.makeID(), name: try fields.requiredName(longest: 255),
                description: try fields.text("description"), createdAt: service.now())
            try await storage.insert(role)
            return answer(201, role, request)
        }
        router.on(.get, "/v3/roles/{id}") { request in
            try await admin(request, "get_role")
            return answer(200, try await role(request), request)
        }
        router.on(.patch, "/v3/roles/{id}", Self.options) { request in
            try await admin(request, "update_role")
            var role = try await role(request)
            let fields = try body(request, "role")
            let name = try fields.name(longest: 255) ?? role.name
            if name != role.name { try refuseBuiltIn(role) }
            role.name = name
            if fields.has("description") { role.description = try fields.text("description") }
            defer { service.cache.forgetAll() }
            guard try await storage.update(role) else { throw missing("role", request) }
            return answer(200, role, request)
        }
        router.on(.delete, "/v3/roles/{id}") { request in
            try await admin(request, "delete_role")
            let role = try await role(request)
            try refuseBuiltIn(role)
            defer { service.cache.forgetAll() }
            guard try await storage.deleteRole(id: role.id) else { throw missing("role", request) }
            return HTTPResponse(204)
        }
    }

    private func refuseBuiltIn(_ role: RoleRecord) throws(IdentityError) {
        guard BuiltInRole(rawValue: role.name) == nil else {
            throw .forbidden("The role \(role.name) has a meaning of its own and stays.")
        }
    }

    private func role(_ request: HTTPRequest) async throws -> RoleRecord {
        guard let role = try await storage.findRole(id: request.parameters["id"] ?? "") else {
            throw missing("role", request)
        }
        return role
    }

    private func answer(_ status: Int, _ role: RoleRecord, _ request: HTTPRequest) -> HTTPResponse {
        json(status) { writer in writer.object("role") { write(role, to: &$0, request) } }
    }

    func write(_ role: RoleRecord, to writer: inout JSONWriter, _ request: HTTPRequest) {
        writer.member("id", role.id)
        writer.member("name", role.name)
        writer.member("domain_id", String?.none)
        writer.member("description", role.description)
        writer.object("options") { _ in }
        writer.object("links") { $0.member("self", link(request, "roles/\(role.id)")) }
    }
}
