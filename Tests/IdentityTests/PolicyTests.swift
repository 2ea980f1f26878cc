import HTTP
import Identity
import Model
import Testing

@Suite("Who may do what")
struct PolicyTests {
    /// What needs no token, and what every token may do.
    private static let open: Set<String> = ["GET /identity", "GET /identity/v3", "POST /identity/v3/auth/tokens"]
    private static let anyToken: Set<String> = [
        "GET /identity/v3/auth/tokens", "HEAD /identity/v3/auth/tokens", "DELETE /identity/v3/auth/tokens",
        "GET /identity/v3/auth/projects", "GET /identity/v3/auth/domains", "GET /identity/v3/auth/system",
        "GET /identity/v3/auth/catalog", "GET /identity/v3/regions", "GET /identity/v3/regions/{id}",
    ]

    @Test(
        "Every route refuses those without a token, and all management those without the role admin",
        arguments: [
            "reader", "member", "manager", "service",
        ])
    func everyRoute(role: String) async throws {
        let cloud = try await Cloud()
        let caller = try await cloud.member("ann", role: role)
        #expect(cloud.router.routes.count > 50)
        for (method, pattern) in cloud.router.routes {
            let name = "\(method) \(pattern)"
            guard !Self.open.contains(name) else { continue }
            let path = pattern.dropFirst("/identity".count).split(separator: "/")
                .map { $0.hasPrefix("{") ? "other" : String($0) }.joined(separator: "/")
            let body: JSON = ["project": [:], "user": [:], "role": [:], "domain": [:]]
            let anonymous = await cloud.send(method, "/" + path, json: body)
            #expect(anonymous.status == 401, "\(name)")
            #expect(await cloud.send(method, "/" + path, token: "forged", json: body).status == 401, "\(name)")
            guard !Self.anyToken.contains(name) else { continue }
            let reply = await cloud.send(method, "/" + path, token: caller.token, json: body)
            #expect(reply.status == 403, "\(name)")
            #expect(reply.json?["error"]?["title"] == "Forbidden")
        }
    }

    @Test("Users see themselves, their project and their projects, and nobody else's")
    func own() async throws {
        let cloud = try await Cloud()
        let ann = try await cloud.member("ann", role: "reader")
        let bob = try await cloud.member("bob")
        #expect(try await cloud.send(.get, "/v3/users/\(ann.user)", token: ann.token).text("user", "name") == "ann")
        #expect(await cloud.send(.get, "/v3/users/\(bob.user)", token: ann.token).status == 403)
        #expect(
            await cloud.send(.get, "/v3/users/\(ann.user)/projects", token: ann.token).names("projects") == ["p-ann"])
        #expect(await cloud.send(.get, "/v3/users/\(bob.user)/projects", token: ann.token).status == 403)
        #expect(await cloud.send(.get, "/v3/auth/projects", token: ann.token).names("projects") == ["p-ann"])
        #expect(await cloud.send(.get, "/v3/projects/\(ann.project)", token: ann.token).status == 200)
        #expect(await cloud.send(.get, "/v3/projects/\(bob.project)", token: ann.token).status == 403)
        #expect(
            await cloud.send(.patch, "/v3/users/\(ann.user)", token: ann.token, json: ["user": ["enabled": true]])
                .status
                == 403)
    }

    @Test(
        "A role includes those below it",
        arguments: [
            ("admin", ["admin", "manager", "member", "reader"]), ("manager", ["manager", "member", "reader"]),
            ("member", ["member", "reader"]), ("reader", ["reader"]), ("service", ["service"]),
            ("auditor", ["auditor"]),
        ])
    func implied(role: String, effective: [String]) {
        #expect(BuiltInRole.expanding([role]) == Set(effective))
    }
}
