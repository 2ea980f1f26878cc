internal import Crypto
internal import Model
public import Telemetry

/// A token as it is given to its user, once.
public struct IssuedToken: Sendable {
    /// The secret; only its hash is stored.
    public let token: String
    public let context: AuthenticatedContext
}

/// Users, roles and tokens: the part of Keystone v3 that clients need. A value over shared state, cheap to copy.
public struct IdentityService: Sendable {
    public let storage: any IdentityStorage
    let cache: TokenCache
    let limiter: LoginLimiter
    let passwords = PasswordWorkers()
    let tokenLifetime: Duration
    let now: Now
    let log = Logger("identity")

    /// The id of the domain that is always there.
    public static let defaultDomainID = "default"

    public init(
        storage: any IdentityStorage, tokenLifetime: Duration = .seconds(3_600), cache: TokenCache = TokenCache(),
        now: @escaping Now = WallClock.now
    ) {
        self.init(storage: storage, tokenLifetime: tokenLifetime, cache: cache, limiter: LoginLimiter(), now: now)
    }

    init(
        storage: any IdentityStorage, tokenLifetime: Duration, cache: TokenCache, limiter: LoginLimiter,
        now: @escaping Now
    ) {
        (self.storage, self.tokenLifetime, self.cache) = (storage, tokenLifetime, cache)
        (self.limiter, self.now) = (limiter, now)
    }

    /// Who the token belongs to; `nil` when it is unknown, revoked or expired, or when its user, project or domain is gone,
    /// disabled or without a role.
    public func validate(_ token: String) async throws -> AuthenticatedContext? {
        guard Self.isPlausible(token) else { return nil }
        let moment = now()
        if let known = cache.find(token, now: moment) { return known }
        let generation = cache.generation
        guard let record = try await storage.findToken(hash: Self.hash(token)), record.expiresAt > moment,
            let context = try await context(of: record, token: token)
        else { return nil }
        cache.keep(context, generation: generation, now: moment)
        return context
    }

    /// Makes the token worthless at once. `false` when there was none.
    public func revoke(_ token: String) async throws -> Bool {
        guard Self.isPlausible(token) else { return false }
        defer { cache.forget(token) }
        return try await storage.deleteToken(hash: Self.hash(token))
    }

    /// Removes tokens whose time is over; for a periodic task. Returns how many there were.
    public func trimExpiredTokens() async throws -> Int {
        try await storage.deleteTokens(expiredBefore: now())
    }

    /// 32 random bytes, base64url.
    static func makeToken() -> String { Base64.encodeURL(randomBytes(32)) }

    static func hash(_ token: String) -> String { Hex.encode(digest(.sha256, of: Array(token.utf8))) }

    private static func isPlausible(_ token: String) -> Bool { token.utf8.count == 43 }

    /// What the token means at present.
    func context(of record: TokenRecord, token: String) async throws -> AuthenticatedContext? {
        guard let user = try await storage.findUser(id: record.userID), user.isEnabled,
            let userDomain = try await storage.findDomain(id: user.domainID), userDomain.isEnabled
        else { return nil }
        var project: ProjectRecord?
        var scopeDomain: DomainRecord?
        switch record.scope {
        case .project(let id):
            guard let found = try await storage.findProject(id: id), found.isEnabled else { return nil }
            project = found
            scopeDomain = try await storage.findDomain(id: found.domainID)
            guard scopeDomain?.isEnabled == true else { return nil }
        case .domain(let id):
            scopeDomain = try await storage.findDomain(id: id)
            guard scopeDomain?.isEnabled == true else { return nil }
        case .system, nil: break
        }
        var roles: [NamedReference] = []
        if let scope = record.scope {
            roles = try await effectiveRoles(user.id, scope)
            guard !roles.isEmpty else { return nil }
        }
        return AuthenticatedContext(
            userID: user.id, userName: user.name, userDomain: .init(id: userDomain.id, name: userDomain.name),
            projectID: project?.id, projectName: project?.name, scope: record.scope,
            scopeDomain: scopeDomain.map { .init(id: $0.id, name: $0.name) }, roleReferences: roles,
            methods: record.methods, auditIDs: record.auditIDs, issuedAt: record.issuedAt,
            expiresAt: record.expiresAt, token: token)
    }

    /// The roles of a user in a scope with those they include, sorted by name.
    func effectiveRoles(_ user: UserID, _ scope: IdentityScope) async throws -> [NamedReference] {
        let assigned = Set(
            try await storage.listAssignments(userID: user, scope: scope, roleID: nil).map(\.roleID))
        guard !assigned.isEmpty else { return [] }
        let all = try await storage.listRoles()
        let names = BuiltInRole.expanding(Set(all.filter { assigned.contains($0.id) }.map(\.name)))
        return all.filter { names.contains($0.name) }.map { NamedReference(id: $0.id, name: $0.name) }
    }
}
