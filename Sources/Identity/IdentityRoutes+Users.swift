internal import HTTP
internal import Model

extension IdentityRoutes {
    func addUsers(to router: inout Router) {
        router.on(.get, "/v3/users") { request in
            try await admin(request, "list_users")
            let users = try await storage.listUsers(
                name: request.query["name"], domainID: request.query["domain_id"]
            ).filter { matches($0.isEnabled, request) }
            return list(request, "users", users) { write($1, to: &$0, request) }
        }
        router.on(.post, "/v3/users", Self.options) { request in
            try await admin(request, "create_user")
            let fields = try body(request, "user")
            let user = UserRecord(
                id: UserID(IdentityService.makeID()), domainID: try await domainID(fields),
                name: try fields.requiredName(longest: 255), passwordHash: try await passwordHash(fields),
                isEnabled: try fields.flag("enabled") ?? true, email: try fields.text("email", longest: 255),
                description: try fields.text("description"),
                defaultProjectID: try fields.text("default_project_id", longest: 64).map { ProjectID($0) },
                createdAt: service.now())
            try await storage.insert(user)
            return answer(201, user, request)
        }
        router.on(.get, "/v3/users/{id}") { request in
            try await own(request, "get_user")
            return answer(200, try await user(request), request)
        }
        router.on(.patch, "/v3/users/{id}", Self.options) { request in try await update(request) }
        router.on(.delete, "/v3/users/{id}") { request in
            try await admin(request, "delete_user")
            let user = try await user(request)
            defer { service.cache.forgetAll() }
            guard try await storage.deleteUser(id: user.id) else { throw missing("user", request) }
            return HTTPResponse(204)
        }
        router.on(.post, "/v3/users/{id}/password", Self.options) { request in try await changePassword(request) }
        router.on(.get, "/v3/users/{id}/projects") { request in
            try await own(request, "list_user_projects")
            return list(request, "projects", try await projects(of: user(request).id)) { write($1, to: &$0, request) }
        }
    }

    /// The caller, who must be the user that the path names, or an admin.
    @discardableResult
    private func own(_ request: HTTPRequest, _ action: String) async throws -> AuthenticatedContext {
        let caller = try await caller(request)
        guard caller.isAdmin || caller.userID.rawValue == request.parameters["id"] else { throw refusal(action) }
        return caller
    }

    private func update(_ request: HTTPRequest) async throws -> HTTPResponse {
        try await admin(request, "update_user")
        var user = try await user(request)
        let fields = try body(request, "user")
        guard (try fields.text("domain_id") ?? user.domainID) == user.domainID else {
            throw IdentityError.badRequest("A user's domain cannot be changed.")
        }
        user.name = try fields.name(longest: 255) ?? user.name
        user.isEnabled = try fields.flag("enabled") ?? user.isEnabled
        if fields.has("email") { user.email = try fields.text("email", longest: 255) }
        if fields.has("description") { user.description = try fields.text("description") }
        if fields.has("default_project_id") {
            user.defaultProjectID = try fields.text("default_project_id", longest: 64).map { ProjectID($0) }
        }
        if fields.has("password") { user.passwordHash = try await passwordHash(fields) }
        defer { service.cache.forgetAll() }
        guard try await storage.update(user) else { throw missing("user", request) }
        if fields.has("password") || !user.isEnabled {
            // Whoever used the old password, or the user's tokens, is out.
            _ = try await storage.deleteTokens(userID: user.id, keeping: nil)
        }
        return answer(200, user, request)
    }

    /// The user changes the own password and shows the old one; other tokens than the one in use end.
    private func changePassword(_ request: HTTPRequest) async throws -> HTTPResponse {
        let caller = try await caller(request)
        guard caller.userID.rawValue == request.parameters["id"] else { throw refusal("change_password") }
        let fields = try body(request, "user")
        guard let original = try fields.text("original_password"), try fields.text("password") != nil else {
            throw IdentityError.badRequest("'password' and 'original_password' are required properties")
        }
        var user = try await user(request)
        try await service.check(
            original, of: user, limitedAs: user.id.rawValue, address: request.remoteAddress)
        user.passwordHash = try await passwordHash(fields)
        defer { service.cache.forgetAll() }
        guard try await storage.update(user) else { throw missing("user", request) }
        _ = try await storage.deleteTokens(userID: user.id, keeping: IdentityService.hash(caller.token))
        return HTTPResponse(204)
    }

    private func passwordHash(_ fields: Fields) async throws -> String? {
        guard let password = try fields.text("password") else { return nil }
        return try await service.passwords.hash(password)
    }

    private func user(_ request: HTTPRequest) async throws -> UserRecord {
        guard let user = try await storage.findUser(id: UserID(request.parameters["id"] ?? "")) else {
            throw missing("user", request)
        }
        return user
    }

    private func answer(_ status: Int, _ user: UserRecord, _ request: HTTPRequest) -> HTTPResponse {
        json(status) { writer in writer.object("user") { write(user, to: &$0, request) } }
    }

    private func write(_ user: UserRecord, to writer: inout JSONWriter, _ request: HTTPRequest) {
        writer.member("id", user.id.rawValue)
        writer.member("name", user.name)
        writer.member("domain_id", user.domainID)
        writer.member("enabled", user.isEnabled)
        if let email = user.email { writer.member("email", email) }
        if let description = user.description { writer.member("description", description) }
        if let project = user.defaultProjectID { writer.member("default_project_id", project.rawValue) }
        writer.member("password_expires_at", String?.none)
        writer.object("options") { _ in }
        writer.object("links") { $0.member("self", link(request, "users/\(user.id)")) }
    }
}
