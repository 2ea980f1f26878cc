import HTTP
import Identity
import Model
import Testing

@Suite("Tokens")
struct TokenTests {
    @Test("A password gives a token for the project, with effective roles and the catalog as the client reaches it")
    func scoped() async throws {
        let cloud = try await Cloud()
        let reply = await cloud.login(Cloud.user("admin", "secret"), scope: Cloud.project("admin"))
        #expect(reply.status == 201)
        #expect(try reply.token().utf8.count == 43)
        #expect(reply.response.headers["Vary"] == "X-Auth-Token")
        #expect(reply.response.headers["x-openstack-request-id"]?.hasPrefix("req-") == true)
        let token = try #require(reply.json?["token"])
        #expect(token["methods"] == ["password"])
        #expect(token["user"]?["domain"] == ["id": "default", "name": "Default"])
        #expect(token["project"]?["name"] == "admin")
        #expect(token["project"]?["domain"]?["name"] == "Default")
        #expect(token["roles"]?.list?.compactMap { $0["name"]?.text } == ["admin", "manager", "member", "reader"])
        #expect(token["expires_at"] == "2026-09-21T15:13:20.000000Z")
        #expect(token["issued_at"] == "2026-09-21T14:13:20.000000Z")
        let catalog = try #require(token["catalog"]?.list)
        #expect(catalog.compactMap { $0["type"]?.text } == ["identity", "compute", "image", "placement"])
        #expect(catalog[1]["endpoints"]?[0]?["url"] == "http://cloud.example:8774/compute/v2.1")
        #expect(catalog[1]["endpoints"]?[0]?["region"] == "RegionOne")
    }

    @Test(
        "A proxy's scheme and host are used; a host that could break out of a link is not",
        arguments: [
            (
                HTTPFields(["Host": "a:1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "b.example, c"]),
                "https://b.example"
            ),
            (HTTPFields(["Host": "a:1", "X-Forwarded-Proto": "gopher"]), "http://a:1"),
            (HTTPFields(["Host": "a\"/<script>"]), "http://127.0.0.1"),
            (HTTPFields(["Host": "[::1]:8774"]), "http://[::1]:8774"),
            (HTTPFields(), "http://127.0.0.1"),
        ])
    func base(headers: HTTPFields, expected: String) {
        #expect(baseURL(of: HTTPRequest(headers: headers)) == expected)
    }

    @Test("Without a scope the default project is taken; unscoped on request, then without roles and catalog")
    func defaults() async throws {
        let cloud = try await Cloud()
        let admin = await cloud.login(Cloud.user("admin", "secret"))
        #expect(try admin.text("token", "project", "name") == "admin")
        let unscoped = await cloud.login(Cloud.user("admin", "secret"), scope: "unscoped")
        #expect(unscoped.status == 201)
        #expect(unscoped.json?["token"]?["project"] == nil)
        #expect(unscoped.json?["token"]?["roles"] == nil)
        #expect(unscoped.json?["token"]?["catalog"] == nil)
    }

    @Test("An id beside a name wins, for user, project and domain")
    func idsWin() async throws {
        let cloud = try await Cloud()
        let user: JSON = [
            "id": .string(cloud.ids.adminUserID.rawValue), "name": "wrong", "password": "secret",
            "domain": ["name": "wrong"],
        ]
        let scope: JSON = [
            "project": ["id": .string(cloud.ids.adminProjectID.rawValue), "name": "wrong", "domain": ["id": "wrong"]]
        ]
        #expect(await cloud.login(user, scope: scope).status == 201)
        let byDomainName: JSON = ["name": "admin", "password": "secret", "domain": ["name": "Default"]]
        #expect(await cloud.login(byDomainName).status == 201)
    }

    @Test(
        "Every wrong login gives the same 401",
        arguments: [
            (Cloud.user("admin", "wrong"), nil), (Cloud.user("nobody", "secret"), nil),
            (["name": "admin", "password": "secret", "domain": ["id": "nowhere"]], nil),
            (["id": "nobody", "password": "secret"], nil), (Cloud.user("admin", "secret"), Cloud.project("nowhere")),
            (Cloud.user("admin", "secret"), Cloud.project("service")),
            (Cloud.user("admin", "secret"), .some(["domain": ["id": "default"]])),
            (Cloud.user("admin", ""), nil),
        ] as [(JSON, JSON?)])
    func refused(user: JSON, scope: JSON?) async throws {
        let cloud = try await Cloud()
        let reply = await cloud.login(user, scope: scope)
        #expect(reply.status == 401)
        #expect(reply.response.headers["WWW-Authenticate"] == "Keystone uri=\"http://cloud.example:8774/identity\"")
        #expect(
            reply.json?["error"] == [
                "code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication.",
            ])
    }

    @Test(
        "A wrong shape is 400 and names what is missing",
        arguments: [
            "{}", "nonsense", #"{"auth":[]}"#, #"{"auth":{"identity":{}}}"#, #"{"auth":{"identity":{"methods":[]}}}"#,
            #"{"auth":{"identity":{"methods":["password"]}}}"#,
            #"{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"a","password":"b"}}}}}"#,
            #"{"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"a","password":5}}}}}"#,
            #"{"auth":{"identity":{"methods":["token"],"token":{}}}}"#,
            #"{"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"a","password":"b"}}},"scope":{"moon":{}}}}"#,
            #"{"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"a","password":"b"}}},"scope":{"project":{"name":"x"}}}}"#,
        ])
    func malformed(body: String) async throws {
        let cloud = try await Cloud()
        let reply = await cloud.router.handle(HTTPRequest(.post, "/identity/v3/auth/tokens", body: Array(body.utf8)))
        #expect(reply.status == 400)
        #expect(Reply(response: reply).json?["error"]?["title"] == "Bad Request")
    }

    @Test("A token is rescoped by token, keeps its end and names its ancestor")
    func rescope() async throws {
        let cloud = try await Cloud()
        let first = await cloud.login(Cloud.user("admin", "secret"), scope: "unscoped")
        cloud.clock.advance(by: .seconds(60))
        let body: JSON = [
            "auth": [
                "identity": ["methods": ["token"], "token": ["id": .string(try first.token())]],
                "scope": ["system": ["all": true]],
            ]
        ]
        let second = await cloud.send(.post, "/v3/auth/tokens", json: body)
        #expect(second.status == 201)
        #expect(try second.token() != first.token())
        #expect(second.json?["token"]?["system"] == ["all": true])
        #expect(second.json?["token"]?["methods"] == ["token", "password"])
        #expect(try second.text("token", "expires_at") == first.text("token", "expires_at"))
        #expect(second.json?["token"]?["audit_ids"]?[1] == first.json?["token"]?["audit_ids"]?[0])
    }

    @Test("A token is validated, checked and revoked by its user and by an admin, by nobody else")
    func subjects() async throws {
        let cloud = try await Cloud()
        let admin = try await cloud.adminToken()
        let ann = try await cloud.member("ann")
        let bob = try await cloud.member("bob", role: "manager")
        for token in [admin, ann.token] {
            let reply = await cloud.send(.get, "/v3/auth/tokens", token: token, subject: ann.token)
            #expect(reply.status == 200)
            #expect(try reply.text("token", "user", "name") == "ann")
            let head = await cloud.send(.head, "/v3/auth/tokens", token: token, subject: ann.token)
            #expect(head.status == 200)
            #expect(head.response.bytes.isEmpty)
        }
        for method in [HTTPMethod.get, .head, .delete] {
            #expect(await cloud.send(method, "/v3/auth/tokens", token: bob.token, subject: ann.token).status == 403)
            #expect(await cloud.send(method, "/v3/auth/tokens", token: bob.token, subject: "unknown").status == 403)
            #expect(await cloud.send(method, "/v3/auth/tokens", token: admin, subject: "unknown").status == 404)
            #expect(await cloud.send(method, "/v3/auth/tokens", subject: ann.token).status == 401)
        }
        #expect(await cloud.send(.get, "/v3/auth/tokens", token: admin).status == 400)
        #expect(await cloud.send(.delete, "/v3/auth/tokens", token: ann.token, subject: ann.token).status == 204)
        #expect(await cloud.send(.get, "/v3/auth/tokens", token: ann.token, subject: ann.token).status == 401)
        #expect(await cloud.send(.get, "/v3/auth/tokens", token: admin, subject: ann.token).status == 404)
    }

    @Test("A token ends with its time, and expired ones are removed")
    func expiry() async throws {
        let cloud = try await Cloud()
        let token = try await cloud.adminToken()
        cloud.clock.advance(by: .seconds(3_599))
        #expect(try await cloud.service.validate(token)?.userName == "admin")
        cloud.clock.advance(by: .seconds(1))
        #expect(try await cloud.service.validate(token) == nil)
        #expect(try await cloud.service.trimExpiredTokens() == 0)
        cloud.clock.advance(by: .seconds(1))
        #expect(try await cloud.service.trimExpiredTokens() == 1)
    }

    @Test("A token is stored as a hash only")
    func storedHashed() async throws {
        let cloud = try await Cloud()
        let token = try await cloud.adminToken()
        #expect(try await cloud.storage.findToken(hash: token) == nil)
        #expect(try await cloud.service.validate(token) != nil)
    }

    @Test("A bootstrap run again changes nothing")
    func bootstrap() async throws {
        let cloud = try await Cloud()
        let again = try await cloud.service.bootstrap(adminPassword: "other")
        #expect(!again.isAdminNew)
        #expect(cloud.ids.isAdminNew)
        #expect(again.adminUserID == cloud.ids.adminUserID)
        #expect(await cloud.login(Cloud.user("admin", "secret")).status == 201)
        #expect(try await cloud.storage.listRoles().map(\.name) == ["admin", "manager", "member", "reader", "service"])
        _ = try await cloud.service.bootstrap(adminPassword: "other", servicePassword: "svc")
        let service = await cloud.login(Cloud.user("service", "svc"), scope: Cloud.project("service"))
        #expect(service.json?["token"]?["roles"]?.list?.contains { $0["name"] == "service" } == true)
    }

    @Test("Version documents need no token")
    func versions() async throws {
        let cloud = try await Cloud()
        let root = await cloud.send(.get, "/")
        #expect(root.status == 300)
        #expect(root.response.headers["Location"] == "http://cloud.example:8774/identity/v3/")
        #expect(root.json?["versions"]?["values"]?[0]?["id"] == "v3.14")
        for path in ["/v3", "/v3/"] {
            #expect(try await cloud.send(.get, path).text("version", "status") == "stable")
        }
        #expect(await cloud.send(.get, "/v4").status == 404)
        let wrong = await cloud.send(.put, "/v3/auth/tokens")
        #expect(wrong.status == 405)
        #expect(wrong.json?["error"]?["code"] == 405)
    }
}
