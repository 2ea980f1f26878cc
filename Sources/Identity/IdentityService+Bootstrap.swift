internal import Crypto
public import Model
internal import Telemetry

extension IdentityService {
    /// What `bootstrap` made sure of.
    public struct Bootstrap: Sendable, Hashable {
        public let adminUserID: UserID
        public let adminProjectID: ProjectID
        public let serviceProjectID: ProjectID
        /// Whether the admin user was made now, and so has the given password.
        public let isAdminNew: Bool
    }

    /// Makes what a cloud begins with, where it is not there yet: the domain `Default`, the five roles, the projects `admin`
    /// and `service`, the user `admin` with the role admin in `admin` and in the system, and with a `servicePassword` the
    /// user `service` with the roles service and admin in `service`. Users that exist keep their passwords.
    public func bootstrap(adminPassword: String, servicePassword: String? = nil) async throws -> Bootstrap {
        let domain = Self.defaultDomainID
        try await once {
            try await storage.insert(
                DomainRecord(id: domain, name: "Default", description: "The default domain", createdAt: now()))
        }
        for role in BuiltInRole.allCases {
            let known = try await storage.listRoles().contains { $0.name == role.rawValue }
            if known { continue }
            try await once {
                try await storage.insert(
                    RoleRecord(
                        id: Self.makeID(), name: role.rawValue, description: role.summary, createdAt: now()))
            }
        }
        let admin = try await project("admin", "For those who run the cloud")
        let service = try await project("service", "For the cloud's own services")
        let (adminUser, isNew) = try await user("admin", password: adminPassword, project: admin)
        try await assign(.admin, to: adminUser, .project(admin))
        try await assign(.admin, to: adminUser, .system)
        if let servicePassword {
            let (serviceUser, _) = try await user("service", password: servicePassword, project: service)
            try await assign(.service, to: serviceUser, .project(service))
            try await assign(.admin, to: serviceUser, .project(service))
        }
        try await passwords.warmUp()
        cache.forgetAll()
        return Bootstrap(
            adminUserID: adminUser, adminProjectID: admin, serviceProjectID: service, isAdminNew: isNew)
    }

    /// 32 hexadecimal digits, as Keystone's ids are.
    static func makeID() -> String { makeUUID().replacing("-", with: "") }

    /// Another process may bootstrap at the same time: that it was first is as good.
    private func once(_ insert: () async throws -> Void) async throws {
        do {
            try await insert()
        } catch let error as IdentityStorageError {
            log.debug("already there", ["record": LoggedError(error)])
        }
    }

    private func project(_ name: String, _ description: String) async throws -> ProjectID {
        let domain = Self.defaultDomainID
        if let known = try await storage.findProject(name: name, domainID: domain) { return known.id }
        let made = ProjectRecord(
            id: ProjectID(Self.makeID()), domainID: domain, name: name, description: description, createdAt: now())
        try await once { try await storage.insert(made) }
        return try await storage.findProject(name: name, domainID: domain)?.id ?? made.id
    }

    private func user(
        _ name: String, password: String, project: ProjectID
    ) async throws -> (id: UserID, isNew: Bool) {
        let domain = Self.defaultDomainID
        if let known = try await storage.findUser(name: name, domainID: domain) { return (known.id, false) }
        let made = UserRecord(
            id: UserID(Self.makeID()), domainID: domain, name: name,
            passwordHash: try await passwords.hash(password), defaultProjectID: project, createdAt: now())
        try await once { try await storage.insert(made) }
        let id = try await storage.findUser(name: name, domainID: domain)?.id ?? made.id
        return (id, id == made.id)
    }

    private func assign(_ role: BuiltInRole, to user: UserID, _ scope: IdentityScope) async throws {
        guard let role = try await storage.listRoles().first(where: { $0.name == role.rawValue }) else { return }
        try await storage.insert(RoleAssignment(userID: user, scope: scope, roleID: role.id))
    }
}
