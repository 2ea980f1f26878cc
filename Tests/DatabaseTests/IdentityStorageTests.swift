import Database
import Identity
import Model
import Testing

/// Both storages keep the same promises.
@Suite("Identity's records")
struct IdentityStorageTests {
    enum Kind: CaseIterable {
        case memory, sqlite
        #if PostgreSQL
            case postgresql
        #endif
    }

    private func make(_ kind: Kind) async throws -> any IdentityStorage {
        switch kind {
        case .memory: return MemoryIdentityStorage()
        case .sqlite: return try await makeDatabase(.sqlite).identity
        #if PostgreSQL
            case .postgresql: return try await makeDatabase(.postgresql).identity
        #endif
        }
    }

    private func domain(_ id: String, name: String? = nil) -> DomainRecord {
        DomainRecord(id: id, name: name ?? id, createdAt: at(1))
    }
    private func project(_ id: String, domain: String = "d", name: String? = nil) -> ProjectRecord {
        ProjectRecord(id: ProjectID(id), domainID: domain, name: name ?? id, tags: ["t"], createdAt: at(1))
    }
    private func user(_ id: String, domain: String = "d", name: String? = nil) -> UserRecord {
        UserRecord(
            id: UserID(id), domainID: domain, name: name ?? id, passwordHash: "$y$x", email: "a@b", createdAt: at(1))
    }
    private func role(_ id: String, name: String? = nil) -> RoleRecord {
        RoleRecord(id: id, name: name ?? id, createdAt: at(1))
    }
    private func token(_ hash: String, user: String = "u", scope: IdentityScope? = nil, until second: Int64 = 9)
        -> TokenRecord
    {
        TokenRecord(
            hash: hash, userID: UserID(user), scope: scope, methods: ["password"], auditIDs: ["a"], issuedAt: at(1),
            expiresAt: at(second))
    }

    @Test("Records come back whole, by id and by name", arguments: Kind.allCases)
    func roundTrip(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(domain("d", name: "Default"))
        try await storage.insert(project("p", name: "demo"))
        try await storage.insert(user("u", name: "alice"))
        try await storage.insert(role("r", name: "admin"))
        try await storage.insert(token("h", scope: .system))
        #expect(try await storage.findDomain(name: "Default") == storage.findDomain(id: "d"))
        #expect(try await storage.findProject(name: "demo", domainID: "d") == project("p", name: "demo"))
        #expect(try await storage.findProject(name: "demo", domainID: "e") == nil)
        #expect(try await storage.findUser(name: "alice", domainID: "d") == user("u", name: "alice"))
        #expect(try await storage.findRole(id: "r") == role("r", name: "admin"))
        #expect(try await storage.findToken(hash: "h") == token("h", scope: .system))
        #expect(try await storage.findUser(id: UserID("x")) == nil)
    }

    @Test("Ids and names are unique; project and user names within their domain", arguments: Kind.allCases)
    func duplicates(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(domain("d"))
        try await storage.insert(project("p", name: "n"))
        try await storage.insert(user("u", name: "n"))
        try await storage.insert(role("r", name: "n"))
        await #expect(throws: IdentityStorageError.duplicate(kind: "domain", name: "d")) {
            try await storage.insert(domain("x", name: "d"))
        }
        await #expect(throws: IdentityStorageError.duplicate(kind: "project", name: "n")) {
            try await storage.insert(project("x", name: "n"))
        }
        await #expect(throws: IdentityStorageError.duplicate(kind: "user", name: "m")) {
            try await storage.insert(user("u", name: "m"))
        }
        await #expect(throws: IdentityStorageError.duplicate(kind: "role", name: "n")) {
            try await storage.insert(role("x", name: "n"))
        }
        try await storage.insert(project("x", domain: "e", name: "n"))
        try await storage.insert(user("x", domain: "e", name: "n"))
        try await storage.insert(role("s"))
        await #expect(throws: IdentityStorageError.duplicate(kind: "role", name: "n")) {
            _ = try await storage.update(role("s", name: "n"))
        }
    }

    @Test("Updates say whether there was something to update", arguments: Kind.allCases)
    func updates(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(user("u"))
        var changed = user("u", name: "new")
        changed.passwordHash = nil
        #expect(try await storage.update(changed))
        #expect(try await storage.findUser(name: "new", domainID: "d") == changed)
        #expect(try await storage.findUser(name: "u", domainID: "d") == nil)
        #expect(try await !storage.update(user("x")))
        #expect(try await !storage.update(domain("x")))
        #expect(try await !storage.deleteRole(id: "x"))
    }

    @Test("Lists are sorted by name and filtered", arguments: Kind.allCases)
    func lists(kind: Kind) async throws {
        let storage = try await make(kind)
        for (id, domain, name) in [("1", "d", "b"), ("2", "d", "a"), ("3", "e", "a")] {
            try await storage.insert(project(id, domain: domain, name: name))
        }
        func ids(_ name: String?, _ domain: String?) async throws -> [String] {
            try await storage.listProjects(name: name, domainID: domain).map(\.id.rawValue)
        }
        #expect(try await ids(nil, nil) == ["2", "3", "1"])
        #expect(try await ids("a", nil) == ["2", "3"])
        #expect(try await ids(nil, "d") == ["2", "1"])
        #expect(try await ids("a", "e") == ["3"])
        #expect(try await storage.listUsers(name: nil, domainID: nil).isEmpty)
    }

    @Test("Assignments are a set, searched by each of their parts", arguments: Kind.allCases)
    func assignments(kind: Kind) async throws {
        let storage = try await make(kind)
        let first = RoleAssignment(userID: UserID("u"), scope: .project(ProjectID("p")), roleID: "r")
        let second = RoleAssignment(userID: UserID("u"), scope: .system, roleID: "r")
        let third = RoleAssignment(userID: UserID("v"), scope: .domain("d"), roleID: "s")
        for assignment in [first, first, second, third] { try await storage.insert(assignment) }
        func found(_ user: String?, _ scope: IdentityScope?, _ role: String?) async throws -> Set<RoleAssignment> {
            let list = try await storage.listAssignments(userID: user.map { UserID($0) }, scope: scope, roleID: role)
            #expect(Set(list).count == list.count)
            return Set(list)
        }
        #expect(try await found(nil, nil, nil) == [first, second, third])
        #expect(try await found("u", nil, nil) == [first, second])
        #expect(try await found(nil, .system, nil) == [second])
        #expect(try await found("v", .domain("d"), "s") == [third])
        #expect(try await found("v", nil, "r") == [])
        #expect(try await storage.delete(first))
        #expect(try await !storage.delete(first))
        #expect(try await storage.deleteRole(id: "s") == false)
        #expect(try await found(nil, nil, nil) == [second])
    }

    @Test("Domains and roles are listed, each once, and as they are after a change", arguments: Kind.allCases)
    func domainsAndRoles(kind: Kind) async throws {
        let storage = try await make(kind)
        for id in ["d", "e"] { try await storage.insert(domain(id)) }
        for id in ["r", "s"] { try await storage.insert(role(id)) }
        var (changed, renamed) = (domain("e"), role("s"))
        (changed.name, renamed.name) = ("other", "operator")
        #expect(try await storage.update(changed))
        #expect(try await storage.update(renamed))
        #expect(try await storage.listDomains().sorted { $0.id < $1.id } == [domain("d"), changed])
        #expect(try await storage.listRoles().sorted { $0.id < $1.id } == [role("r"), renamed])
        #expect(try await storage.update(domain("x")) == false)
    }

    @Test(
        "With a project go its assignments and tokens; with a user his; with a domain all of these",
        arguments: Kind.allCases)
    func cascades(kind: Kind) async throws {
        let storage = try await make(kind)
        func fill() async throws {
            try await storage.insert(domain("d"))
            try await storage.insert(project("p"))
            try await storage.insert(user("u"))
            try await storage.insert(
                RoleAssignment(userID: UserID("u"), scope: .project(ProjectID("p")), roleID: "r"))
            try await storage.insert(RoleAssignment(userID: UserID("v"), scope: .domain("d"), roleID: "r"))
            try await storage.insert(token("1", user: "v", scope: .project(ProjectID("p"))))
            try await storage.insert(token("2", user: "u"))
            try await storage.insert(token("3", user: "v", scope: .domain("d")))
        }
        func left() async throws -> String {
            var text = ""
            for hash in ["1", "2", "3"] where try await storage.findToken(hash: hash) != nil { text += hash }
            return try await text + " \(storage.listAssignments(userID: nil, scope: nil, roleID: nil).count)"
        }
        try await fill()
        #expect(try await storage.deleteProject(id: ProjectID("p")))
        #expect(try await left() == "23 1")
        #expect(try await storage.deleteUser(id: UserID("u")))
        #expect(try await left() == "3 1")
        #expect(try await storage.deleteDomain(id: "d"))
        #expect(try await left() == " 0")
        try await fill()
        #expect(try await storage.deleteDomain(id: "d"))
        #expect(try await left() == " 0")
        #expect(try await storage.findProject(id: ProjectID("p")) == nil)
        #expect(try await storage.findUser(id: UserID("u")) == nil)
        #expect(try await !storage.deleteDomain(id: "d"))
    }

    @Test("Tokens go one by one, by user, and by time", arguments: Kind.allCases)
    func tokens(kind: Kind) async throws {
        let storage = try await make(kind)
        for (hash, user, second) in [("1", "u", 5), ("2", "u", 9), ("3", "u", 9), ("4", "v", 9)]
            as [(String, String, Int64)]
        {
            try await storage.insert(token(hash, user: user, until: second))
        }
        await #expect(throws: IdentityStorageError.duplicate(kind: "token", name: "1")) {
            try await storage.insert(token("1"))
        }
        #expect(try await storage.deleteTokens(expiredBefore: at(5)) == 0)
        #expect(try await storage.deleteTokens(expiredBefore: at(6)) == 1)
        #expect(try await storage.deleteTokens(userID: UserID("u"), keeping: "2") == 1)
        #expect(try await storage.findToken(hash: "2") != nil)
        #expect(try await storage.deleteTokens(userID: UserID("u"), keeping: nil) == 1)
        #expect(try await storage.deleteToken(hash: "4"))
        #expect(try await !storage.deleteToken(hash: "4"))
    }
}
