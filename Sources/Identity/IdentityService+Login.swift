internal import Crypto
internal import Model
internal import Telemetry

private let logins = Metrics.shared.counter("apus_identity_logins_total", help: "Logins by password, by result.")

extension IdentityService {
    /// Issues a token. Throws `IdentityError.unauthorized` for every reason for which the user or the scope is refused, with
    /// the seconds to wait after several failures; `overloaded` when too many passwords wait to be checked.
    public func authenticate(_ request: AuthenticationRequest, address: String) async throws -> IssuedToken {
        switch request.method {
        case .password(let reference, let password):
            let user = try await verified(reference, password: password, address: address)
            return try await issue(
                to: user, scope: request.scope, methods: ["password"], parentAuditID: nil,
                expiresAt: now() + tokenLifetime)
        case .token(let token):
            guard let old = try await validate(token), let user = try await storage.findUser(id: old.userID) else {
                throw IdentityError.unauthorized()
            }
            let methods = ["token"] + old.methods.filter { $0 != "token" }
            // A chain of tokens must not live longer than its first.
            return try await issue(
                to: user, scope: request.scope, methods: methods, parentAuditID: old.auditIDs.last,
                expiresAt: old.expiresAt)
        }
    }

    /// The user whose password this is.
    private func verified(
        _ reference: AuthenticationRequest.Reference, password: String, address: String
    ) async throws -> UserRecord {
        let user = try await find(reference)
        let isUsable = try await isUsable(user)
        let name =
            switch reference {
            case .id(let id): user?.id.rawValue ?? id
            case .name(let name, .id(let domain)), .name(let name, .name(let domain)):
                user?.id.rawValue ?? "\(domain)/\(name)"
            }
        try await check(password, of: isUsable ? user : nil, limitedAs: name, address: address)
        guard let user else { throw IdentityError.unauthorized() }
        return user
    }

    /// Checks a password against the user's, counting failures per (`name`, `address`). `nil` for the user costs as much.
    func check(_ password: String, of user: UserRecord?, limitedAs name: String, address: String) async throws {
        let key = LoginLimiter.key(user: name, address: address)
        if let seconds = limiter.delay(key, now: now()) { throw locked(seconds) }
        let verdict: PasswordWorkers.Verdict
        do {
            verdict = try await passwords.verify(
                password, against: user?.passwordHash, limiter: limiter, key: key, now: now)
        } catch IdentityError.overloaded {
            logins.increment(labels: [("result", "overloaded")])
            throw IdentityError.overloaded
        }
        switch verdict {
        case .right:
            logins.increment(labels: [("result", "success")])
        case .wrong(let seconds):
            logins.increment(labels: [("result", "failure")])
            if let seconds {
                // The name is left out: people type passwords into the field for it.
                log.notice(
                    "login refused, further attempts wait",
                    [
                        "user": user?.id, "address": address, "seconds": seconds,
                    ])
            }
            throw IdentityError.unauthorized(retryAfter: seconds)
        case .locked(let seconds): throw locked(seconds)
        }
    }

    private func locked(_ seconds: Int) -> IdentityError {
        logins.increment(labels: [("result", "locked")])
        return .unauthorized(retryAfter: seconds)
    }

    private func isUsable(_ user: UserRecord?) async throws -> Bool {
        guard let user, user.isEnabled, let domain = try await storage.findDomain(id: user.domainID) else {
            return false
        }
        return domain.isEnabled
    }

    private func find(_ reference: AuthenticationRequest.Reference) async throws -> UserRecord? {
        switch reference {
        case .id(let id): return try await storage.findUser(id: UserID(id))
        case .name(let name, let domain):
            guard let domain = try await find(domain) else { return nil }
            return try await storage.findUser(name: name, domainID: domain.id)
        }
    }

    private func find(_ reference: AuthenticationRequest.DomainReference) async throws -> DomainRecord? {
        switch reference {
        case .id(let id): try await storage.findDomain(id: id)
        case .name(let name): try await storage.findDomain(name: name)
        }
    }

    /// Stores a new token for the scope, in which the user must have a role.
    private func issue(
        to user: UserRecord, scope: AuthenticationRequest.Scope, methods: [String], parentAuditID: String?,
        expiresAt: Timestamp
    ) async throws -> IssuedToken {
        let token = Self.makeToken()
        let record = TokenRecord(
            hash: Self.hash(token), userID: user.id, scope: try await resolve(scope, user), methods: methods,
            auditIDs: [Base64.encodeURL(randomBytes(16))] + (parentAuditID.map { [$0] } ?? []), issuedAt: now(),
            expiresAt: expiresAt)
        guard let context = try await context(of: record, token: token) else { throw IdentityError.unauthorized() }
        try await storage.insert(record)
        return IssuedToken(token: token, context: context)
    }

    private func resolve(
        _ scope: AuthenticationRequest.Scope, _ user: UserRecord
    ) async throws -> IdentityScope? {
        switch scope {
        case .unscoped: return nil
        case .system: return .system
        case .unspecified:
            guard let id = user.defaultProjectID, let project = try await storage.findProject(id: id),
                project.isEnabled, try await !effectiveRoles(user.id, .project(id)).isEmpty
            else { return nil }
            return .project(id)
        case .project(.id(let id)): return .project(ProjectID(id))
        case .project(.name(let name, let domain)):
            guard let domain = try await find(domain),
                let project = try await storage.findProject(name: name, domainID: domain.id)
            else { throw IdentityError.unauthorized() }
            return .project(project.id)
        case .domain(let reference):
            guard let domain = try await find(reference) else { throw IdentityError.unauthorized() }
            return .domain(domain.id)
        }
    }
}
