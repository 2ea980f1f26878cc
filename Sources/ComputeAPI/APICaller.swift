public import HTTP
public import Model

/// Who asks, as the identity service says.
public struct APICaller: Sendable, Hashable {
    public let userID: UserID
    public let projectID: ProjectID
    /// Effective roles: implied ones included.
    public let roles: Set<String>

    public init(userID: UserID, projectID: ProjectID, roles: Set<String>) {
        (self.userID, self.projectID, self.roles) = (userID, projectID, roles)
    }

    public var isAdmin: Bool { roles.contains("admin") }
}

/// Finds out who sent a request. Throws `APIError` with status 401 when nobody known did.
public typealias APIAuthenticator = @Sendable (HTTPRequest) async throws -> APICaller
