public import Model

/// A domain: the name space of projects and users. There is always one with the id `default`.
public struct DomainRecord: Sendable, Hashable, Codable {
    public var id: String
    /// Unique.
    public var name: String
    public var description: String
    public var isEnabled: Bool
    public var createdAt: Timestamp

    public init(id: String, name: String, description: String = "", isEnabled: Bool = true, createdAt: Timestamp) {
        (self.id, self.name, self.description, self.isEnabled) = (id, name, description, isEnabled)
        self.createdAt = createdAt
    }
}

/// A project: what owns servers and images.
public struct ProjectRecord: Sendable, Hashable, Codable {
    public var id: ProjectID
    public var domainID: String
    /// Unique within its domain.
    public var name: String
    public var description: String
    public var isEnabled: Bool
    public var tags: [String]
    public var createdAt: Timestamp

    public init(
        id: ProjectID, domainID: String, name: String, description: String = "", isEnabled: Bool = true,
        tags: [String] = [], createdAt: Timestamp
    ) {
        (self.id, self.domainID, self.name, self.description) = (id, domainID, name, description)
        (self.isEnabled, self.tags, self.createdAt) = (isEnabled, tags, createdAt)
    }
}

/// A user with the hash of the password.
public struct UserRecord: Sendable, Hashable, Codable {
    public var id: UserID
    public var domainID: String
    /// Unique within its domain.
    public var name: String
    /// A `$y$` hash; `nil` when the user cannot log in by password.
    public var passwordHash: String?
    public var isEnabled: Bool
    public var email: String?
    public var description: String?
    public var defaultProjectID: ProjectID?
    public var createdAt: Timestamp

    public init(
        id: UserID, domainID: String, name: String, passwordHash: String? = nil, isEnabled: Bool = true,
        email: String? = nil, description: String? = nil, defaultProjectID: ProjectID? = nil, createdAt: Timestamp
    ) {
        (self.id, self.domainID, self.name, self.passwordHash) = (id, domainID, name, passwordHash)
        (self.isEnabled, self.email, self.description) = (isEnabled, email, description)
        (self.defaultProjectID, self.createdAt) = (defaultProjectID, createdAt)
    }
}

/// A role; its meaning lies in its name.
public struct RoleRecord: Sendable, Hashable, Codable {
    public var id: String
    /// Unique.
    public var name: String
    public var description: String?
    public var createdAt: Timestamp

    public init(id: String, name: String, description: String? = nil, createdAt: Timestamp) {
        (self.id, self.name, self.description, self.createdAt) = (id, name, description, createdAt)
    }
}

/// What a token or an assignment is for.
public enum IdentityScope: Sendable, Hashable, Codable {
    case project(ProjectID)
    case domain(String)
    case system

    /// `project`, `domain` or `system`: together with `target` the form for a table's columns.
    public var kind: String {
        switch self {
        case .project: "project"
        case .domain: "domain"
        case .system: "system"
        }
    }

    /// The project's or domain's id; `all` for the system.
    public var target: String {
        switch self {
        case .project(let id): id.rawValue
        case .domain(let id): id
        case .system: "all"
        }
    }

    /// The scope that `kind` and `target` describe; `nil` for an unknown kind.
    public init?(kind: String, target: String) {
        switch kind {
        case "project": self = .project(ProjectID(target))
        case "domain": self = .domain(target)
        case "system": self = .system
        default: return nil
        }
    }
}

/// A role that a user has in a scope.
public struct RoleAssignment: Sendable, Hashable, Codable {
    public var userID: UserID
    public var scope: IdentityScope
    public var roleID: String

    public init(userID: UserID, scope: IdentityScope, roleID: String) {
        (self.userID, self.scope, self.roleID) = (userID, scope, roleID)
    }
}

/// A token as it is stored: without the token itself.
public struct TokenRecord: Sendable, Hashable, Codable {
    /// SHA-256 of the token's text in hexadecimal; unique.
    public var hash: String
    public var userID: UserID
    /// `nil` for an unscoped token.
    public var scope: IdentityScope?
    /// How the user proved who he is: `password`, `token`.
    public var methods: [String]
    /// The token's own audit id, then that of the first token of its chain.
    public var auditIDs: [String]
    public var issuedAt: Timestamp
    public var expiresAt: Timestamp

    public init(
        hash: String, userID: UserID, scope: IdentityScope?, methods: [String], auditIDs: [String],
        issuedAt: Timestamp, expiresAt: Timestamp
    ) {
        (self.hash, self.userID, self.scope, self.methods) = (hash, userID, scope, methods)
        (self.auditIDs, self.issuedAt, self.expiresAt) = (auditIDs, issuedAt, expiresAt)
    }
}
