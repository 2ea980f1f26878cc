public import HTTP
internal import Model
internal import Telemetry

/// The HTTP side of the identity service, to be mounted at `mountPath`: version documents, tokens, catalog, and the management of
/// domains, projects, users, roles and assignments.
public func identityRouter(
    _ service: IdentityService, mountPath: String = "/identity", catalog: @escaping CatalogSource
) -> Router {
    let routes = IdentityRoutes(service: service, mountPath: mountPath, catalog: catalog)
    var router = Router()
    routes.addVersions(to: &router)
    routes.addTokens(to: &router)
    routes.addDomains(to: &router)
    routes.addProjects(to: &router)
    routes.addUsers(to: &router)
    routes.addRoles(to: &router)
    routes.addAssignments(to: &router)
    routes.addCatalog(to: &router)
    router.notFound = { request in routes.answer(IdentityError.notFound("There is nothing here."), request) }
    router.methodNotAllowed = { _, allowed in
        var response = IdentityRoutes.error(405, "Method Not Allowed", "The method is not allowed here.")
        response.headers["Allow"] = allowed.map(\.rawValue).joined(separator: ", ")
        return response
    }
    router.failure = { request, error in routes.answer(error, request) }
    router.bodyTooLarge = { _, limit in
        IdentityRoutes.error(413, "Request Entity Too Large", "At most \(limit) bytes are read.")
    }
    router.middleware = [
        { request, next in
            let id = RequestScope.current ?? RequestScope.makeID()
            var response = try await RequestScope.$current.withValue(id) { try await next(request) }
            if response.headers["x-openstack-request-id"] == nil {
                response.headers["x-openstack-request-id"] = id.rawValue
            }
            if response.headers["Vary"] == nil { response.headers["Vary"] = "X-Auth-Token" }
            return response
        }
    ]
    return router
}

/// What all handlers share.
struct IdentityRoutes: Sendable {
    let service: IdentityService
    let mountPath: String
    let catalog: CatalogSource

    var storage: any IdentityStorage { service.storage }

    /// No identity body is near this size.
    static let options = RouteOptions(bodyLimit: 65_536)

    /// The service's own address as the client sees it: `http://host:port/identity`.
    func root(_ request: HTTPRequest) -> String { baseURL(of: request) + mountPath }

    func link(_ request: HTTPRequest, _ path: String) -> String { "\(root(request))/v3/\(path)" }

    // MARK: Callers

    /// Who asks. Throws `unauthorized` without a valid token.
    func caller(_ request: HTTPRequest) async throws -> AuthenticatedContext {
        guard let token = request.headers["X-Auth-Token"], let context = try await service.validate(token) else {
            throw IdentityError.unauthorized()
        }
        return context
    }

    /// The caller, who must have the role admin for `action`.
    @discardableResult
    func admin(_ request: HTTPRequest, _ action: String) async throws -> AuthenticatedContext {
        let context = try await caller(request)
        guard context.isAdmin else { throw refusal(action) }
        return context
    }

    func refusal(_ action: String) -> IdentityError {
        .forbidden("You are not authorized to perform the requested action: identity:\(action).")
    }

    // MARK: Bodies

    /// The object below `key` in the request's body.
    func body(_ request: HTTPRequest, _ key: String) throws(IdentityError) -> Fields {
        let json: JSON
        do throws(JSONError) {
            json = try JSON(parsing: request.bytes)
        } catch {
            throw .badRequest("The body is not JSON: \(error).")
        }
        guard let members = json[key]?.members else { throw .badRequest("'\(key)' is a required property") }
        return Fields(members: members)
    }

    func json(_ status: Int, _ write: (inout JSONWriter) -> Void) -> HTTPResponse {
        var writer = JSONWriter()
        writer.object(write)
        return .json(status, writer.finish())
    }

    /// A list as every collection answers it.
    func list<Item>(
        _ request: HTTPRequest, _ key: String, _ items: [Item], _ write: (inout JSONWriter, Item) -> Void
    ) -> HTTPResponse {
        json(200) { writer in
            writer.array(key) { writer in
                for item in items { writer.object { write(&$0, item) } }
            }
            writer.object("links") {
                $0.member("next", String?.none)
                $0.member("previous", String?.none)
                $0.member("self", link(request, key))
            }
        }
    }

    // MARK: Errors

    func answer(_ error: any Error, _ request: HTTPRequest) -> HTTPResponse {
        switch error {
        case let error as IdentityError:
            var response = Self.error(error.status, error.title, error.description)
            if case .unauthorized(let seconds) = error {
                response.headers["WWW-Authenticate"] = "Keystone uri=\"\(root(request))\""
                response.headers["Retry-After"] = seconds.map(String.init)
            }
            if case .overloaded = error { response.headers["Retry-After"] = "1" }
            return response
        case IdentityStorageError.duplicate(let kind, let name):
            return answer(
                IdentityError.conflict("Conflict occurred attempting to store \(kind) - '\(name)' exists already."),
                request)
        case let error as any FailureConvertible where error.failure.retryAfter != nil:
            service.log.warning("request not served now", ["path": request.path, "error": LoggedError(error)])
            var response = Self.error(503, "Service Unavailable", "\(error.failure.message); try again.")
            for (name, value) in error.failure.retryHeaders { response.headers.add(name, value) }
            return response
        default:
            service.log.error("request failed", ["path": request.path, "error": LoggedError(error)])
            return Self.error(500, "Internal Server Error", "An unexpected error prevented the request.")
        }
    }

    static func error(_ code: Int, _ title: String, _ message: String) -> HTTPResponse {
        var writer = JSONWriter()
        writer.object {
            $0.object("error") {
                $0.member("code", code)
                $0.member("message", message)
                $0.member("title", title)
            }
        }
        return .json(code, writer.finish())
    }
}

/// The members of a request's object, each read with its type.
struct Fields {
    let members: [String: JSON]

    func has(_ key: String) -> Bool { members[key] != nil }

    /// A text; `nil` when it is absent or null.
    func text(_ key: String, longest: Int = 1_024) throws(IdentityError) -> String? {
        guard let value = members[key], !value.isNull else { return nil }
        guard let text = value.text else { throw wrong(key, "a string") }
        guard text.unicodeScalars.count <= longest else { throw wrong(key, "at most \(longest) characters long") }
        return text
    }

    /// A name: 1 to `longest` characters, not only white space.
    func name(longest: Int) throws(IdentityError) -> String? {
        guard let name = try text("name", longest: longest) else {
            if has("name") { throw wrong("name", "a string") }
            return nil
        }
        guard !name.allSatisfy(\.isWhitespace) else { throw wrong("name", "at least one visible character") }
        return name
    }

    func requiredName(longest: Int) throws(IdentityError) -> String {
        guard let name = try name(longest: longest) else { throw .badRequest("'name' is a required property") }
        return name
    }

    func flag(_ key: String) throws(IdentityError) -> Bool? {
        guard let value = members[key], !value.isNull else { return nil }
        guard let flag = value.boolean else { throw wrong(key, "a boolean") }
        return flag
    }

    func tags() throws(IdentityError) -> [String]? {
        guard let value = members["tags"] else { return nil }
        guard let list = value.list, list.count <= 80 else { throw wrong("tags", "a list of at most 80 strings") }
        var tags: [String] = []
        for item in list {
            guard let tag = item.text, (1...255).contains(tag.unicodeScalars.count) else {
                throw wrong("tags", "strings of 1 to 255 characters")
            }
            if !tags.contains(tag) { tags.append(tag) }
        }
        return tags
    }

    private func wrong(_ key: String, _ wanted: String) -> IdentityError {
        .badRequest("Invalid input for field '\(key)': it must be \(wanted).")
    }
}

/// `?enabled=true` and its like: present without a value is true.
func isTrue(_ value: String?) -> Bool {
    guard let value else { return false }
    return !["0", "false", "no", "off"].contains(value.lowercased())
}
