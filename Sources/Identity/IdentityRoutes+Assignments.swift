internal import HTTP
internal import Model

extension IdentityRoutes {
    func addAssignments(to router: inout Router) {
        let scopes: [(pattern: String, scope: @Sendable (HTTPRequest) -> IdentityScope)] = [
            ("/v3/projects/{scope}", { .project(ProjectID($0.parameters["scope"] ?? "")) }),
            ("/v3/domains/{scope}", { .domain($0.parameters["scope"] ?? "") }),
            ("/v3/system", { _ in .system }),
        ]
        for (pattern, scope) in scopes {
            let roles = "\(pattern)/users/{user}/roles"
            router.on(.get, roles) { request in
                try await admin(request, "list_grants")
                let assigned = Set(try await assignments(request, scope(request)).map(\.roleID))
                let known = try await storage.listRoles().filter { assigned.contains($0.id) }
                return list(request, "roles", known) { write($1, to: &$0, request) }
            }
            router.on(.put, "\(roles)/{role}") { request in
                try await admin(request, "create_grant")
                let assignment = assignment(request, scope(request))
                try await requireParts(of: assignment)
                defer { service.cache.forgetAll() }
                try await storage.insert(assignment)
                return HTTPResponse(204)
            }
            router.on(.head, "\(roles)/{role}") { request in
                try await admin(request, "check_grant")
                let assignment = assignment(request, scope(request))
                let isThere = try await assignments(request, assignment.scope).contains(assignment)
                return HTTPResponse(isThere ? 204 : 404)
            }
            router.on(.delete, "\(roles)/{role}") { request in
                try await admin(request, "revoke_grant")
                let assignment = assignment(request, scope(request))
                defer { service.cache.forgetAll() }
                guard try await storage.delete(assignment) else {
                    throw IdentityError.notFound("Could not find the role assignment.")
                }
                return HTTPResponse(204)
            }
        }
        router.on(.get, "/v3/role_assignments") { request in try await listAssignments(request) }
    }

    private func assignment(_ request: HTTPRequest, _ scope: IdentityScope) -> RoleAssignment {
        RoleAssignment(
            userID: UserID(request.parameters["user"] ?? ""), scope: scope, roleID: request.parameters["role"] ?? "")
    }

    private func assignments(_ request: HTTPRequest, _ scope: IdentityScope) async throws -> [RoleAssignment] {
        try await storage.listAssignments(
            userID: UserID(request.parameters["user"] ?? ""), scope: scope, roleID: nil)
    }

    private func requireParts(of assignment: RoleAssignment) async throws {
        guard try await storage.findUser(id: assignment.userID) != nil else {
            throw IdentityError.notFound("Could not find user: \(assignment.userID.rawValue.prefix(64)).")
        }
        guard try await storage.findRole(id: assignment.roleID) != nil else {
            throw IdentityError.notFound("Could not find role: \(assignment.roleID.prefix(64)).")
        }
        let isThere =
            switch assignment.scope {
            case .project(let id): try await storage.findProject(id: id) != nil
            case .domain(let id): try await storage.findDomain(id: id) != nil
            case .system: true
            }
        guard isThere else {
            let scope = assignment.scope
            throw IdentityError.notFound("Could not find \(scope.kind): \(scope.target.prefix(64)).")
        }
    }

    private func listAssignments(_ request: HTTPRequest) async throws -> HTTPResponse {
        try await admin(request, "list_role_assignments")
        let query = request.query
        let scope: IdentityScope? =
            query["scope.project.id"].map { .project(ProjectID($0)) }
            ?? query["scope.domain.id"].map { .domain($0) } ?? query["scope.system"].map { _ in .system }
        var found = try await storage.listAssignments(
            userID: query["user.id"].map { UserID($0) }, scope: scope, roleID: nil)
        // There are no groups: nobody has a role by one.
        if query["group.id"] != nil { found = [] }
        let roles = try await storage.listRoles()
        if query["effective"].map({ isTrue($0) }) == true { found = Self.effective(found, roles) }
        if let role = query["role.id"] { found = found.filter { $0.roleID == role } }
        found.sort { Self.order($0) < Self.order($1) }
        let names = isTrue(query["include_names"]) ? try await Names(of: found, roles, storage) : nil
        return list(request, "role_assignments", found) { write($1, names, to: &$0, request) }
    }

    private static func order(_ assignment: RoleAssignment) -> (String, String, String, String) {
        (assignment.userID.rawValue, assignment.scope.kind, assignment.scope.target, assignment.roleID)
    }

    /// Each assignment together with those of the roles that its role includes.
    private static func effective(_ assignments: [RoleAssignment], _ roles: [RoleRecord]) -> [RoleAssignment] {
        let names = Dictionary(uniqueKeysWithValues: roles.map { ($0.id, $0.name) })
        let all = assignments.flatMap { assignment in
            let included = BuiltInRole.expanding([names[assignment.roleID] ?? ""])
            return roles.filter { included.contains($0.name) }.map {
                RoleAssignment(userID: assignment.userID, scope: assignment.scope, roleID: $0.id)
            }
        }
        return Array(Set(all))
    }

    private func write(
        _ assignment: RoleAssignment, _ names: Names?, to writer: inout JSONWriter, _ request: HTTPRequest
    ) {
        writer.object("role") {
            $0.member("id", assignment.roleID)
            if let names { $0.member("name", names.roles[assignment.roleID]) }
        }
        writer.object("user") { writer in
            writer.member("id", assignment.userID.rawValue)
            if let user = names?.users[assignment.userID.rawValue] { write(user, to: &writer) }
        }
        writer.object("scope") { writer in
            if case .system = assignment.scope { return writer.object("system") { $0.member("all", true) } }
            writer.object(assignment.scope.kind) { writer in
                writer.member("id", assignment.scope.target)
                if let scope = names?.scopes[assignment.scope] { write(scope, to: &writer) }
            }
        }
        writer.object("links") {
            let scope = assignment.scope
            let place = scope == .system ? "system" : "\(scope.kind)s/\(scope.target)"
            $0.member("assignment", link(request, "\(place)/users/\(assignment.userID)/roles/\(assignment.roleID)"))
        }
    }

    private func write(_ name: Names.Named, to writer: inout JSONWriter) {
        writer.member("name", name.name)
        if let domain = name.domain { writer.object("domain") { reference(domain, to: &$0) } }
    }
}

/// The names for `?include_names`, each looked up once.
private struct Names {
    struct Named {
        var name: String
        /// `nil` for what is not in a domain.
        var domain: NamedReference?
    }

    private(set) var roles: [String: String] = [:]
    private(set) var users: [String: Named] = [:]
    private(set) var scopes: [IdentityScope: Named] = [:]

    init(of assignments: [RoleAssignment], _ roles: [RoleRecord], _ storage: any IdentityStorage) async throws {
        self.roles = Dictionary(uniqueKeysWithValues: roles.map { ($0.id, $0.name) })
        let domains = try await storage.listDomains()
        let references = Dictionary(
            uniqueKeysWithValues: domains.map { ($0.id, NamedReference(id: $0.id, name: $0.name)) })
        for id in Set(assignments.map(\.userID)) {
            guard let user = try await storage.findUser(id: id) else { continue }
            users[id.rawValue] = Named(name: user.name, domain: references[user.domainID])
        }
        for scope in Set(assignments.map(\.scope)) {
            switch scope {
            case .project(let id):
                guard let project = try await storage.findProject(id: id) else { continue }
                scopes[scope] = Named(name: project.name, domain: references[project.domainID])
            case .domain(let id): scopes[scope] = references[id].map { Named(name: $0.name) }
            case .system: break
            }
        }
    }
}
