public import HTTP
public import Model

/// Who asks, as the identity service says.
public struct ImageCaller: Sendable, Hashable {
    public let projectID: ProjectID
    public let userID: UserID
    /// Effective roles: implied ones included.
    public let roles: Set<String>
    public let isAdmin: Bool

    public init(projectID: ProjectID, userID: UserID, roles: Set<String>, isAdmin: Bool) {
        (self.projectID, self.userID, self.roles, self.isAdmin) = (projectID, userID, roles, isAdmin)
    }

    /// Whether the caller may make and change images of the project; a reader may not.
    var mayChange: Bool { isAdmin || roles.contains("member") }

    func maySee(_ image: ImageRecord) -> Bool { isAdmin || image.isVisible(to: projectID) }
}

/// Finds out who sent a request. Throws `ImageError` with status 401 when nobody known did.
public typealias ImageAuthenticator = @Sendable (HTTPRequest) async throws -> ImageCaller
