internal import HTTP
internal import Model

extension IdentityRoutes {
    func addVersions(to router: inout Router) {
        router.on(.get, "/") { request in
            var response = json(300) { writer in
                writer.object("versions") { writer in
                    writer.array("values") { writer in writer.object { version(&$0, request) } }
                }
            }
            response.headers["Location"] = root(request) + "/v3/"
            return response
        }
        router.on(.get, "/v3") { request in
            json(200) { writer in writer.object("version") { version(&$0, request) } }
        }
    }

    private func version(_ writer: inout JSONWriter, _ request: HTTPRequest) {
        writer.member("id", "v3.14")
        writer.member("status", "stable")
        writer.member("updated", "2020-04-07T00:00:00Z")
        writer.array("links") { writer in
            writer.object {
                $0.member("rel", "self")
                $0.member("href", root(request) + "/v3/")
            }
        }
        writer.array("media-types") { writer in
            writer.object {
                $0.member("base", "application/json")
                $0.member("type", "application/vnd.openstack.identity-v3+json")
            }
        }
    }

    func addTokens(to router: inout Router) {
        router.on(.post, "/v3/auth/tokens", Self.options) { request in
            let body: JSON
            do throws(JSONError) {
                body = try JSON(parsing: request.bytes)
            } catch {
                throw IdentityError.badRequest("The body is not JSON: \(error).")
            }
            let issued = try await service.authenticate(
                AuthenticationRequest(parsing: body), address: request.remoteAddress)
            return token(201, issued.context, request)
        }
        router.on(.get, "/v3/auth/tokens") { request in
            token(200, try await subject(request, "validate_token"), request)
        }
        router.on(.head, "/v3/auth/tokens") { request in
            var response = token(200, try await subject(request, "check_token"), request)
            response.body = .empty
            return response
        }
        router.on(.delete, "/v3/auth/tokens") { request in
            let context = try await subject(request, "revoke_token")
            guard try await service.revoke(context.token) else { throw IdentityError.notFound("Token not found.") }
            return HTTPResponse(204)
        }
        router.on(.get, "/v3/auth/projects") { request in
            list(request, "projects", try await projects(of: caller(request).userID)) { write($1, to: &$0, request) }
        }
        router.on(.get, "/v3/auth/domains") { request in
            let scopes = try await scopes(of: caller(request).userID)
            var domains: [DomainRecord] = []
            for case .domain(let id) in scopes {
                if let domain = try await storage.findDomain(id: id), domain.isEnabled { domains.append(domain) }
            }
            return list(request, "domains", domains) { write($1, to: &$0, request) }
        }
        router.on(.get, "/v3/auth/system") { request in
            let isAllowed = try await scopes(of: caller(request).userID).contains(.system)
            return list(request, "system", isAllowed ? [true] : []) { writer, all in writer.member("all", all) }
        }
    }

    /// The token that the call is about. It must be the caller's own user's, or the caller an admin or a service.
    private func subject(_ request: HTTPRequest, _ action: String) async throws -> AuthenticatedContext {
        let caller = try await caller(request)
        guard let token = request.headers["X-Subject-Token"], !token.isEmpty else {
            throw IdentityError.badRequest("The header X-Subject-Token is required.")
        }
        let isTrusted = caller.isAdmin || caller.roles.contains(BuiltInRole.service.rawValue)
        guard let subject = try await service.validate(token) else {
            throw isTrusted || token == caller.token ? IdentityError.notFound("Token not found.") : refusal(action)
        }
        guard isTrusted || subject.userID == caller.userID else { throw refusal(action) }
        return subject
    }

    /// The scopes in which a user has a role.
    private func scopes(of user: UserID) async throws -> Set<IdentityScope> {
        Set(try await storage.listAssignments(userID: user, scope: nil, roleID: nil).map(\.scope))
    }

    /// The enabled projects in which a user has a role.
    func projects(of user: UserID) async throws -> [ProjectRecord] {
        let scopes = try await scopes(of: user)
        return try await storage.listProjects(name: nil, domainID: nil)
            .filter { $0.isEnabled && scopes.contains(.project($0.id)) }
    }

    private func token(_ status: Int, _ context: AuthenticatedContext, _ request: HTTPRequest) -> HTTPResponse {
        var response = json(status) { writer in
            writer.object("token") { writer in
                writer.array("methods") { for method in context.methods { $0.string(method) } }
                writer.object("user") {
                    $0.member("id", context.userID.rawValue)
                    $0.member("name", context.userName)
                    domain(context.userDomain, to: &$0)
                    $0.member("password_expires_at", String?.none)
                }
                writer.array("audit_ids") { for id in context.auditIDs { $0.string(id) } }
                writer.member("expires_at", context.expiresAt.iso8601Microseconds)
                writer.member("issued_at", context.issuedAt.iso8601Microseconds)
                guard let scope = context.scope else { return }
                switch scope {
                case .project(let id):
                    writer.object("project") {
                        $0.member("id", id.rawValue)
                        $0.member("name", context.projectName)
                        if let reference = context.scopeDomain { domain(reference, to: &$0) }
                    }
                    writer.member("is_domain", false)
                case .domain: if let reference = context.scopeDomain { domain(reference, to: &writer) }
                case .system: writer.object("system") { $0.member("all", true) }
                }
                writer.array("roles") { writer in
                    for role in context.roleReferences { writer.object { reference(role, to: &$0) } }
                }
                if request.query["nocatalog"] == nil {
                    writer.array("catalog") { writeCatalog(to: &$0, request) }
                }
            }
        }
        response.headers["X-Subject-Token"] = context.token
        return response
    }

    private func domain(_ domain: NamedReference, to writer: inout JSONWriter) {
        writer.object("domain") { reference(domain, to: &$0) }
    }

    func reference(_ reference: NamedReference, to writer: inout JSONWriter) {
        writer.member("id", reference.id)
        writer.member("name", reference.name)
    }
}
