public import Model

/// Where domains, projects, users, roles, assignments and tokens are kept. The control plane's database implements it;
/// `MemoryIdentityStorage` does for tests.
///
/// Each call is one transaction. Lists are sorted by name, then id. `insert` and `update` throw
/// `IdentityStorageError.duplicate` when id or name is taken; `update` and `delete` say `false` when there is no such row.
public protocol IdentityStorage: Sendable {
    func insert(_ domain: DomainRecord) async throws
    func findDomain(id: String) async throws -> DomainRecord?
    func findDomain(name: String) async throws -> DomainRecord?
    func listDomains() async throws -> [DomainRecord]
    func update(_ domain: DomainRecord) async throws -> Bool
    /// With its projects and users, and everything that goes with those.
    func deleteDomain(id: String) async throws -> Bool

    func insert(_ project: ProjectRecord) async throws
    func findProject(id: ProjectID) async throws -> ProjectRecord?
    func findProject(name: String, domainID: String) async throws -> ProjectRecord?
    /// `nil` parts of the filter match everything.
    func listProjects(name: String?, domainID: String?) async throws -> [ProjectRecord]
    func update(_ project: ProjectRecord) async throws -> Bool
    /// With the assignments in it and the tokens for it.
    func deleteProject(id: ProjectID) async throws -> Bool

    func insert(_ user: UserRecord) async throws
    func findUser(id: UserID) async throws -> UserRecord?
    func findUser(name: String, domainID: String) async throws -> UserRecord?
    /// `nil` parts of the filter match everything.
    func listUsers(name: String?, domainID: String?) async throws -> [UserRecord]
    func update(_ user: UserRecord) async throws -> Bool
    /// With the user's assignments and tokens.
    func deleteUser(id: UserID) async throws -> Bool

    func insert(_ role: RoleRecord) async throws
    func findRole(id: String) async throws -> RoleRecord?
    func listRoles() async throws -> [RoleRecord]
    func update(_ role: RoleRecord) async throws -> Bool
    /// With its assignments.
    func deleteRole(id: String) async throws -> Bool

    /// Does nothing when the assignment is there already.
    func insert(_ assignment: RoleAssignment) async throws
    /// `nil` parts of the filter match everything. In no particular order.
    func listAssignments(userID: UserID?, scope: IdentityScope?, roleID: String?) async throws -> [RoleAssignment]
    func delete(_ assignment: RoleAssignment) async throws -> Bool

    func insert(_ token: TokenRecord) async throws
    /// The token whether it has expired or not.
    func findToken(hash: String) async throws -> TokenRecord?
    func deleteToken(hash: String) async throws -> Bool
    /// All tokens of a user, except the one with the hash `keeping`. Returns how many there were.
    func deleteTokens(userID: UserID, keeping: String?) async throws -> Int
    /// Tokens whose time ended before `moment`. Returns how many there were.
    func deleteTokens(expiredBefore moment: Timestamp) async throws -> Int
}

/// What the storage refuses by rule, not by fault.
public enum IdentityStorageError: Error, Sendable, Hashable {
    /// `kind` is `domain`, `project`, `user`, `role` or `token`; the id or the name is taken.
    case duplicate(kind: String, name: String)
}
