public import Model

/// A name beside its id.
public struct NamedReference: Sendable, Hashable {
    public let id: String
    public let name: String

    public init(id: String, name: String) { (self.id, self.name) = (id, name) }
}

/// Who a valid token belongs to and what it is for.
public struct AuthenticatedContext: Sendable, Hashable {
    public let userID: UserID
    public let userName: String
    public let userDomain: NamedReference
    /// `nil` unless the token is scoped to a project.
    public let projectID: ProjectID?
    public let projectName: String?
    /// `nil` for an unscoped token.
    public let scope: IdentityScope?
    /// The domain of the scope; `nil` for unscoped and system tokens.
    public let scopeDomain: NamedReference?
    /// The effective roles, implied ones included, sorted by name.
    public let roleReferences: [NamedReference]
    /// The names of the effective roles.
    public let roles: Set<String>
    public let methods: [String]
    public let auditIDs: [String]
    public let issuedAt: Timestamp
    public let expiresAt: Timestamp
    /// The token itself: a secret, for no log.
    public let token: String

    /// The id of the user's domain.
    public var domainID: String { userDomain.id }

    public var isAdmin: Bool { roles.contains(BuiltInRole.admin.rawValue) }

    /// A context made by hand, for tests of what stands behind the identity service.
    public init(
        userID: UserID, userName: String, userDomain: NamedReference = .init(id: "default", name: "Default"),
        projectID: ProjectID? = nil, projectName: String? = nil, scope: IdentityScope? = nil,
        scopeDomain: NamedReference? = nil, roleReferences: [NamedReference], methods: [String] = ["password"],
        auditIDs: [String] = [], issuedAt: Timestamp, expiresAt: Timestamp, token: String
    ) {
        (self.userID, self.userName, self.userDomain) = (userID, userName, userDomain)
        (self.projectID, self.projectName, self.scopeDomain) = (projectID, projectName, scopeDomain)
        self.scope = scope ?? projectID.map { .project($0) }
        self.roleReferences = roleReferences
        roles = Set(roleReferences.map(\.name))
        (self.methods, self.auditIDs) = (methods, auditIDs)
        (self.issuedAt, self.expiresAt, self.token) = (issuedAt, expiresAt, token)
    }
}
