public import Model

/// The body of `POST /v3/auth/tokens`.
public struct AuthenticationRequest: Sendable, Hashable {
    /// An id, or a name with the domain it is in. Where both are given the id wins.
    public enum DomainReference: Sendable, Hashable {
        case id(String)
        case name(String)
    }

    public enum Reference: Sendable, Hashable {
        case id(String)
        case name(String, in: DomainReference)
    }

    public enum Method: Sendable, Hashable {
        case password(user: Reference, password: String)
        case token(String)
    }

    public enum Scope: Sendable, Hashable {
        /// Nothing said: the user's default project if there is one.
        case unspecified
        case unscoped
        case project(Reference)
        case domain(DomainReference)
        case system
    }

    public var method: Method
    public var scope: Scope

    public init(method: Method, scope: Scope) { (self.method, self.scope) = (method, scope) }

    /// Reads the body. Throws `badRequest` for a wrong shape, `unauthorized` for methods that are not offered.
    public init(parsing body: JSON) throws(IdentityError) {
        guard let auth = body["auth"], let identity = auth["identity"] else {
            throw .badRequest("'auth' with 'identity' is a required property")
        }
        guard let methods = identity["methods"]?.list, !methods.isEmpty else {
            throw .badRequest("'methods' must be a list with at least one method")
        }
        switch methods.map(\.text) {
        case ["password"]: method = try Self.password(identity["password"]?["user"])
        case ["token"]:
            guard let token = identity["token"]?["id"]?.text else {
                throw .badRequest("'token' with 'id' is a required property")
            }
            method = .token(token)
        default: throw .unauthorized()
        }
        scope = try Self.scope(auth["scope"])
    }

    private static func password(_ user: JSON?) throws(IdentityError) -> Method {
        guard let user, let password = user["password"]?.text else {
            throw .badRequest("'password' with 'user' and its 'password' is a required property")
        }
        return .password(user: try reference(user, "user"), password: password)
    }

    private static func scope(_ scope: JSON?) throws(IdentityError) -> Scope {
        guard let scope, !scope.isNull else { return .unspecified }
        if scope.text == "unscoped" { return .unscoped }
        guard let members = scope.members, members.count == 1, let (kind, value) = members.first else {
            throw .badRequest("'scope' must be exactly one of project, domain, system and unscoped")
        }
        switch kind {
        case "unscoped": return .unscoped
        case "project": return .project(try reference(value, "project"))
        case "domain": return .domain(try domain(value))
        case "system" where value["all"] == .bool(true): return .system
        default: throw .badRequest("the scope '\(kind.prefix(64))' is not offered")
        }
    }

    private static func reference(_ value: JSON, _ what: String) throws(IdentityError) -> Reference {
        if let id = value["id"]?.text { return .id(id) }
        guard let name = value["name"]?.text, let domain = value["domain"] else {
            throw .badRequest("'\(what)' must have an id, or a name and a domain")
        }
        return .name(name, in: try Self.domain(domain))
    }

    private static func domain(_ value: JSON) throws(IdentityError) -> DomainReference {
        if let id = value["id"]?.text { return .id(id) }
        guard let name = value["name"]?.text else { throw .badRequest("'domain' must have an id or a name") }
        return .name(name)
    }
}
