public import Model
internal import Synchronization

/// Identity's records in memory.
public final class MemoryIdentityStorage: IdentityStorage {
    private struct State: Sendable {
        var domains: [String: DomainRecord] = [:]
        var projects: [ProjectID: ProjectRecord] = [:]
        var users: [UserID: UserRecord] = [:]
        var roles: [String: RoleRecord] = [:]
        var assignments: Set<RoleAssignment> = []
        var tokens: [String: TokenRecord] = [:]

        mutating func remove(project id: ProjectID) -> Bool {
            assignments = assignments.filter { $0.scope != .project(id) }
            tokens = tokens.filter { $0.value.scope != .project(id) }
            return projects.removeValue(forKey: id) != nil
        }

        mutating func remove(user id: UserID) -> Bool {
            assignments = assignments.filter { $0.userID != id }
            tokens = tokens.filter { $0.value.userID != id }
            return users.removeValue(forKey: id) != nil
        }
    }

    private let state = Mutex(State())

    public init() {}

    // MARK: Domains

    public func insert(_ domain: DomainRecord) async throws {
        try state.withLock { state in
            let isTaken = state.domains[domain.id] != nil || state.domains.values.contains { $0.name == domain.name }
            guard !isTaken else { throw IdentityStorageError.duplicate(kind: "domain", name: domain.name) }
            state.domains[domain.id] = domain
        }
    }

    public func findDomain(id: String) async throws -> DomainRecord? { state.withLock { $0.domains[id] } }

    public func findDomain(name: String) async throws -> DomainRecord? {
        state.withLock { $0.domains.values.first { $0.name == name } }
    }

    public func listDomains() async throws -> [DomainRecord] {
        state.withLock { $0.domains.values.sorted { ($0.name, $0.id) < ($1.name, $1.id) } }
    }

    public func update(_ domain: DomainRecord) async throws -> Bool {
        try state.withLock { state in
            guard state.domains[domain.id] != nil else { return false }
            guard !state.domains.values.contains(where: { $0.name == domain.name && $0.id != domain.id }) else {
                throw IdentityStorageError.duplicate(kind: "domain", name: domain.name)
            }
            state.domains[domain.id] = domain
            return true
        }
    }

    public func deleteDomain(id: String) async throws -> Bool {
        state.withLock { state in
            for project in state.projects.values where project.domainID == id { _ = state.remove(project: project.id) }
            for user in state.users.values where user.domainID == id { _ = state.remove(user: user.id) }
            state.assignments = state.assignments.filter { $0.scope != .domain(id) }
            state.tokens = state.tokens.filter { $0.value.scope != .domain(id) }
            return state.domains.removeValue(forKey: id) != nil
        }
    }

    // MARK: Projects

    public func insert(_ project: ProjectRecord) async throws {
        try state.withLock { state in
            guard state.projects[project.id] == nil, !Self.isTaken(project, state) else {
                throw IdentityStorageError.duplicate(kind: "project", name: project.name)
            }
            state.projects[project.id] = project
        }
    }

    private static func isTaken(_ project: ProjectRecord, _ state: State) -> Bool {
        state.projects.values.contains {
            $0.name == project.name && $0.domainID == project.domainID && $0.id != project.id
        }
    }

    public func findProject(id: ProjectID) async throws -> ProjectRecord? { state.withLock { $0.projects[id] } }

    public func findProject(name: String, domainID: String) async throws -> ProjectRecord? {
        state.withLock { $0.projects.values.first { $0.name == name && $0.domainID == domainID } }
    }

    public func listProjects(name: String?, domainID: String?) async throws -> [ProjectRecord] {
        state.withLock { state in
            state.projects.values
                .filter { (name == nil || $0.name == name) && (domainID == nil || $0.domainID == domainID) }
                .sorted { ($0.name, $0.id) < ($1.name, $1.id) }
        }
    }

    public func update(_ project: ProjectRecord) async throws -> Bool {
        try state.withLock { state in
            guard state.projects[project.id] != nil else { return false }
            guard !Self.isTaken(project, state) else {
                throw IdentityStorageError.duplicate(kind: "project", name: project.name)
            }
            state.projects[project.id] = project
            return true
        }
    }

    public func deleteProject(id: ProjectID) async throws -> Bool { state.withLock { $0.remove(project: id) } }

    // MARK: Users

    public func insert(_ user: UserRecord) async throws {
        try state.withLock { state in
            guard state.users[user.id] == nil, !Self.isTaken(user, state) else {
                throw IdentityStorageError.duplicate(kind: "user", name: user.name)
            }
            state.users[user.id] = user
        }
    }

    private static func isTaken(_ user: UserRecord, _ state: State) -> Bool {
        state.users.values.contains { $0.name == user.name && $0.domainID == user.domainID && $0.id != user.id }
    }

    public func findUser(id: UserID) async throws -> UserRecord? { state.withLock { $0.users[id] } }

    public func findUser(name: String, domainID: String) async throws -> UserRecord? {
        state.withLock { $0.users.values.first { $0.name == name && $0.domainID == domainID } }
    }

    public func listUsers(name: String?, domainID: String?) async throws -> [UserRecord] {
        state.withLock { state in
            state.users.values
                .filter { (name == nil || $0.name == name) && (domainID == nil || $0.domainID == domainID) }
                .sorted { ($0.name, $0.id) < ($1.name, $1.id) }
        }
    }

    public func update(_ user: UserRecord) async throws -> Bool {
        try state.withLock { state in
            guard state.users[user.id] != nil else { return false }
            guard !Self.isTaken(user, state) else {
                throw IdentityStorageError.duplicate(kind: "user", name: user.name)
            }
            state.users[user.id] = user
            return true
        }
    }

    public func deleteUser(id: UserID) async throws -> Bool { state.withLock { $0.remove(user: id) } }

    // MARK: Roles and assignments

    public func insert(_ role: RoleRecord) async throws {
        try state.withLock { state in
            let isTaken = state.roles[role.id] != nil || state.roles.values.contains { $0.name == role.name }
            guard !isTaken else { throw IdentityStorageError.duplicate(kind: "role", name: role.name) }
            state.roles[role.id] = role
        }
    }

    public func findRole(id: String) async throws -> RoleRecord? { state.withLock { $0.roles[id] } }

    public func listRoles() async throws -> [RoleRecord] {
        state.withLock { $0.roles.values.sorted { ($0.name, $0.id) < ($1.name, $1.id) } }
    }

    public func update(_ role: RoleRecord) async throws -> Bool {
        try state.withLock { state in
            guard state.roles[role.id] != nil else { return false }
            guard !state.roles.values.contains(where: { $0.name == role.name && $0.id != role.id }) else {
                throw IdentityStorageError.duplicate(kind: "role", name: role.name)
            }
            state.roles[role.id] = role
            return true
        }
    }

    public func deleteRole(id: String) async throws -> Bool {
        state.withLock { state in
            state.assignments = state.assignments.filter { $0.roleID != id }
            return state.roles.removeValue(forKey: id) != nil
        }
    }

    public func insert(_ assignment: RoleAssignment) async throws {
        _ = state.withLock { $0.assignments.insert(assignment) }
    }

    public func listAssignments(
        userID: UserID?, scope: IdentityScope?, roleID: String?
    ) async throws -> [RoleAssignment] {
        state.withLock { state in
            state.assignments.filter {
                (userID == nil || $0.userID == userID) && (scope == nil || $0.scope == scope)
                    && (roleID == nil || $0.roleID == roleID)
            }
        }
    }

    public func delete(_ assignment: RoleAssignment) async throws -> Bool {
        state.withLock { $0.assignments.remove(assignment) != nil }
    }

    // MARK: Tokens

    public func insert(_ token: TokenRecord) async throws {
        try state.withLock { state in
            guard state.tokens[token.hash] == nil else {
                throw IdentityStorageError.duplicate(kind: "token", name: token.hash)
            }
            state.tokens[token.hash] = token
        }
    }

    public func findToken(hash: String) async throws -> TokenRecord? { state.withLock { $0.tokens[hash] } }

    public func deleteToken(hash: String) async throws -> Bool {
        state.withLock { $0.tokens.removeValue(forKey: hash) != nil }
    }

    public func deleteTokens(userID: UserID, keeping: String?) async throws -> Int {
        removeTokens { $0.userID == userID && $0.hash != keeping }
    }

    public func deleteTokens(expiredBefore moment: Timestamp) async throws -> Int {
        removeTokens { $0.expiresAt < moment }
    }

    private func removeTokens(where isGone: @Sendable (TokenRecord) -> Bool) -> Int {
        state.withLock { state in
            let before = state.tokens.count
            state.tokens = state.tokens.filter { !isGone($0.value) }
            return before - state.tokens.count
        }
    }
}
