import HTTP
import Identity
import Model
import Synchronization

/// A clock that tests move.
final class TestClock: Sendable {
    private let moment = Mutex(Timestamp(seconds: 1_790_000_000))
    var now: Timestamp { moment.withLock { $0 } }
    func advance(by duration: Duration) { moment.withLock { $0 = $0 + duration } }
}

/// A bootstrapped identity service in memory behind its router.
struct Cloud {
    let clock = TestClock()
    let storage = MemoryIdentityStorage()
    let service: IdentityService
    let router: Router
    let ids: IdentityService.Bootstrap

    init() async throws {
        let clock = clock
        service = IdentityService(storage: storage) { clock.now }
        ids = try await service.bootstrap(adminPassword: "secret")
        var router = Router()
        router.mount("/identity", identityRouter(service) { CatalogEntry.standard(base: $0, region: "RegionOne") })
        self.router = router
    }

    func send(
        _ method: HTTPMethod, _ target: String, token: String? = nil, subject: String? = nil, json: JSON? = nil,
        headers: HTTPFields = ["Host": "cloud.example:8774"], address: String = "198.51.100.1"
    ) async -> Reply {
        var request = HTTPRequest(method, "/identity" + target, headers: headers, body: json?.serialized() ?? [])
        request.remoteAddress = address
        request.headers["X-Auth-Token"] = token
        request.headers["X-Subject-Token"] = subject
        return Reply(response: await router.handle(request))
    }

    /// Logs in and returns the whole reply.
    func login(
        _ user: JSON, scope: JSON? = nil, address: String = "198.51.100.1"
    ) async -> Reply {
        var auth: [String: JSON] = ["identity": ["methods": ["password"], "password": ["user": user]]]
        auth["scope"] = scope
        return await send(.post, "/v3/auth/tokens", json: ["auth": .object(auth)], address: address)
    }

    static func user(_ name: String, _ password: String) -> JSON {
        ["name": .string(name), "password": .string(password), "domain": ["id": "default"]]
    }

    static func project(_ name: String) -> JSON { ["project": ["name": .string(name), "domain": ["id": "default"]]] }

    func adminToken() async throws -> String {
        try await login(Self.user("admin", "secret"), scope: Self.project("admin")).token()
    }

    /// Makes a project and in it a user (password `pw`) with a role, and logs the user in.
    func member(_ name: String, role: String = "member") async throws -> (user: String, project: String, token: String)
    {
        let admin = try await adminToken()
        let project = try await send(
            .post, "/v3/projects", token: admin, json: ["project": ["name": .string("p-\(name)")]]
        )
        .text("project", "id")
        let user = try await send(
            .post, "/v3/users", token: admin, json: ["user": ["name": .string(name), "password": "pw"]]
        ).text("user", "id")
        let roles = try await storage.listRoles()
        let id = roles.first { $0.name == role }?.id ?? ""
        _ = await send(.put, "/v3/projects/\(project)/users/\(user)/roles/\(id)", token: admin)
        let token = try await login(Self.user(name, "pw"), scope: Self.project("p-\(name)")).token()
        return (user, project, token)
    }
}

struct Reply {
    struct Missing: Error { let what: String }

    let response: HTTPResponse

    var status: Int { response.status }
    var json: JSON? { try? JSON(parsing: response.bytes) }

    func token() throws -> String {
        guard let token = response.headers["X-Subject-Token"] else { throw Missing(what: "token, but \(status)") }
        return token
    }

    func text(_ path: String...) throws -> String {
        var value = json
        for key in path { value = value?[key] }
        guard let text = value?.text else { throw Missing(what: path.joined(separator: ".") + ", but \(status)") }
        return text
    }

    func names(_ key: String) -> [String] { json?[key]?.list?.compactMap { $0["name"]?.text } ?? [] }
}
