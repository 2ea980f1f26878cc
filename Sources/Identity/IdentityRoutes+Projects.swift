internal import HTTP
internal import Model

extension IdentityRoutes {
    func addDomains(to router: inout Router) {
        router.on(.get, "/v3/domains") { request in
            try await admin(request, "list_domains")
            let domains = try await storage.listDomains().filter { domain in
                (request.query["name"] ?? domain.name) == domain.name && matches(domain.isEnabled, request)
            }
            return list(request, "domains", domains) { write($1, to: &$0, request) }
        }
        router.on(.post, "/v3/domains", Self.options) { request in
            try await admin(request, "create_domain")
            let fields = try body(request, "domain")
            let domain = DomainRecord(
                id: IdentityService.makeID(), name: try fields.requiredName(longest: 64),
                description: try fields.text("description") ?? "", isEnabled: try fields.flag("enabled") ?? true,
                createdAt: service.now())
            try await storage.insert(domain)
            return answer(201, domain, request)
        }
        router.on(.get, "/v3/domains/{id}") { request in
            try await admin(request, "get_domain")
            return answer(200, try await domain(request), request)
        }
        router.on(.patch, "/v3/domains/{id}", Self.options) { request in
            try await admin(request, "update_domain")
            var domain = try await domain(request)
            let fields = try body(request, "domain")
            domain.name = try fields.name(longest: 64) ?? domain.name
            domain.description = try fields.text("description") ?? domain.description
            domain.isEnabled = try fields.flag("enabled") ?? domain.isEnabled
            guard domain.isEnabled || domain.id != IdentityService.defaultDomainID else {
                throw IdentityError.forbidden("The default domain cannot be disabled.")
            }
            defer { service.cache.forgetAll() }
            guard try await storage.update(domain) else { throw missing("domain", request) }
            return answer(200, domain, request)
        }
        router.on(.delete, "/v3/domains/{id}") { request in
            try await admin(request, "delete_domain")
            let domain = try await domain(request)
            guard !domain.isEnabled else {
                throw IdentityError.forbidden("Cannot delete a domain that is enabled, please disable it first.")
            }
            defer { service.cache.forgetAll() }
            guard try await storage.deleteDomain(id: domain.id) else { throw missing("domain", request) }
            return HTTPResponse(204)
        }
    }

    func addProjects(to router: inout Router) {
        router.on(.get, "/v3/projects") { request in
            try await admin(request, "list_projects")
            let projects = try await storage.listProjects(
                name: request.query["name"], domainID: request.query["domain_id"]
            ).filter { matches($0.isEnabled, request) }
            return list(request, "projects", projects) { write($1, to: &$0, request) }
        }
        router.on(.post, "/v3/projects", Self.options) { request in
            try await admin(request, "create_project")
            let fields = try body(request, "project")
            guard try fields.flag("is_domain") != true else {
                throw IdentityError.badRequest("A project that acts as a domain is not offered; create a domain.")
            }
            let domain = try await domainID(fields)
            if let parent = try fields.text("parent_id"), parent != domain {
                throw IdentityError.badRequest(
                    "Projects inside projects are not offered; parent_id must be the domain.")
            }
            let project = ProjectRecord(
                id: ProjectID(IdentityService.makeID()), domainID: domain, name: try fields.requiredName(longest: 64),
                description: try fields.text("description") ?? "", isEnabled: try fields.flag("enabled") ?? true,
                tags: try fields.tags() ?? [], createdAt: service.now())
            try await storage.insert(project)
            return answer(201, project, request)
        }
        router.on(.get, "/v3/projects/{id}") { request in
            let caller = try await caller(request)
            guard caller.isAdmin || caller.projectID?.rawValue == request.parameters["id"] else {
                throw refusal("get_project")
            }
            return answer(200, try await project(request), request)
        }
        router.on(.patch, "/v3/projects/{id}", Self.options) { request in
            try await admin(request, "update_project")
            var project = try await project(request)
            let fields = try body(request, "project")
            project.name = try fields.name(longest: 64) ?? project.name
            project.description = try fields.text("description") ?? project.description
            project.isEnabled = try fields.flag("enabled") ?? project.isEnabled
            project.tags = try fields.tags() ?? project.tags
            guard (try fields.text("domain_id") ?? project.domainID) == project.domainID else {
                throw IdentityError.badRequest("A project's domain cannot be changed.")
            }
            defer { service.cache.forgetAll() }
            guard try await storage.update(project) else { throw missing("project", request) }
            return answer(200, project, request)
        }
        router.on(.delete, "/v3/projects/{id}") { request in
            try await admin(request, "delete_project")
            let project = try await project(request)
            defer { service.cache.forgetAll() }
            guard try await storage.deleteProject(id: project.id) else { throw missing("project", request) }
            return HTTPResponse(204)
        }
    }

    // MARK: Finding

    func missing(_ kind: String, _ request: HTTPRequest) -> IdentityError {
        .notFound("Could not find \(kind): \((request.parameters["id"] ?? "").prefix(64)).")
    }

    /// Whether `?enabled=` lets a record of that state through.
    func matches(_ isEnabled: Bool, _ request: HTTPRequest) -> Bool {
        request.query["enabled"].map { isTrue($0) == isEnabled } ?? true
    }

    private func domain(_ request: HTTPRequest) async throws -> DomainRecord {
        guard let domain = try await storage.findDomain(id: request.parameters["id"] ?? "") else {
            throw missing("domain", request)
        }
        return domain
    }

    private func project(_ request: HTTPRequest) async throws -> ProjectRecord {
        guard let project = try await storage.findProject(id: ProjectID(request.parameters["id"] ?? "")) else {
            throw missing("project", request)
        }
        return project
    }

    /// The domain that a new project or user shall be in.
    func domainID(_ fields: Fields) async throws -> String {
        let id = try fields.text("domain_id") ?? IdentityService.defaultDomainID
        guard try await storage.findDomain(id: id) != nil else {
            throw IdentityError.notFound("Could not find domain: \(id.prefix(64)).")
        }
        return id
    }

    // MARK: Writing

    private func answer(_ status: Int, _ domain: DomainRecord, _ request: HTTPRequest) -> HTTPResponse {
        json(status) { writer in writer.object("domain") { write(domain, to: &$0, request) } }
    }

    private func answer(_ status: Int, _ project: ProjectRecord, _ request: HTTPRequest) -> HTTPResponse {
        json(status) { writer in writer.object("project") { write(project, to: &$0, request) } }
    }

    func write(_ domain: DomainRecord, to writer: inout JSONWriter, _ request: HTTPRequest) {
        writer.member("id", domain.id)
        writer.member("name", domain.name)
        writer.member("description", domain.description)
        writer.member("enabled", domain.isEnabled)
        writer.array("tags") { _ in }
        writer.object("options") { _ in }
        writer.object("links") { $0.member("self", link(request, "domains/\(domain.id)")) }
    }

    func write(_ project: ProjectRecord, to writer: inout JSONWriter, _ request: HTTPRequest) {
        writer.member("id", project.id.rawValue)
        writer.member("name", project.name)
        writer.member("domain_id", project.domainID)
        writer.member("parent_id", project.domainID)
        writer.member("description", project.description)
        writer.member("enabled", project.isEnabled)
        writer.member("is_domain", false)
        writer.array("tags") { for tag in project.tags { $0.string(tag) } }
        writer.object("options") { _ in }
        writer.object("links") { $0.member("self", link(request, "projects/\(project.id)")) }
    }
}
