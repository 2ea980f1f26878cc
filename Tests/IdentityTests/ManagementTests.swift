import HTTP
import Identity
import Model
import Testing

@Suite("Management of projects, users and roles")
struct ManagementTests {
    @Test("A project is made, found, changed and removed with what belongs to it")
    func projects() async throws {
        let cloud = try await Cloud()
        let admin = try await cloud.adminToken()
        let made = await cloud.send(
            .post, "/v3/projects", token: admin,
            json: ["project": ["name": "Ünï", "description": "d", "domain_id": "default", "tags": ["a", "a"]]])
        #expect(made.status == 201)
        let id = try made.text("project", "id")
        #expect(id.utf8.count == 32)
        let project = try #require(made.json?["project"])
        #expect(project["parent_id"] == "default")
        #expect(project["is_domain"] == false)
        #expect(project["enabled"] == true)
        #expect(project["tags"] == ["a"])
        #expect(project["options"] == [:])
        #expect(project["links"]?["self"] == .string("http://cloud.example:8774/identity/v3/projects/\(id)"))
        #expect(await cloud.send(.get, "/v3/projects?name=%C3%9Cn%C3%AF", token: admin).names("projects") == ["Ünï"])
        #expect(await cloud.send(.get, "/v3/projects?domain_id=none", token: admin).names("projects").isEmpty)
        let changed = await cloud.send(
            .patch, "/v3/projects/\(id)", token: admin, json: ["project": ["enabled": false, "description": "x"]])
        #expect(changed.status == 200)
        #expect(changed.json?["project"]?["enabled"] == false)
        #expect(await cloud.send(.get, "/v3/projects?enabled=false", token: admin).names("projects") == ["Ünï"])
        #expect(await cloud.send(.delete, "/v3/projects/\(id)", token: admin).status == 204)
        #expect(await cloud.send(.get, "/v3/projects/\(id)", token: admin).status == 404)
        #expect(await cloud.send(.delete, "/v3/projects/\(id)", token: admin).status == 404)
    }

    @Test(
        "Names are unique, and inputs of the wrong type are named",
        arguments: [
            ("/v3/projects", ["project": ["name": "admin"]], 409), ("/v3/users", ["user": ["name": "admin"]], 409),
            ("/v3/roles", ["role": ["name": "member"]], 409), ("/v3/domains", ["domain": ["name": "Default"]], 409),
            ("/v3/projects", ["project": [:]], 400), ("/v3/projects", ["project": ["name": 5]], 400),
            ("/v3/projects", ["project": ["name": " "]], 400), ("/v3/projects", ["project": ["name": nil]], 400),
            ("/v3/projects", ["project": ["name": .string(String(repeating: "x", count: 65))]], 400),
            ("/v3/projects", ["project": ["name": "x", "domain_id": "nowhere"]], 404),
            ("/v3/projects", ["project": ["name": "x", "parent_id": "other"]], 400),
            ("/v3/projects", ["project": ["name": "x", "is_domain": true]], 400),
            ("/v3/projects", ["project": ["name": "x", "tags": "t"]], 400),
            ("/v3/users", ["user": ["name": "x", "enabled": "yes"]], 400),
            ("/v3/users", ["user": ["name": "x", "password": "a\0b"]], 400),
            ("/v3/users", ["user": ["name": .string(String(repeating: "x", count: 256))]], 400), ("/v3/users", [], 400),
        ] as [(String, JSON, Int)])
    func refused(path: String, body: JSON, status: Int) async throws {
        let cloud = try await Cloud()
        let reply = await cloud.send(.post, path, token: try await cloud.adminToken(), json: body)
        #expect(reply.status == status)
        #expect(reply.json?["error"]?["code"] == .integer(Int64(status)))
        #expect(reply.json?["error"]?["message"]?.text?.isEmpty == false)
    }

    @Test("A user's password is never answered, and changing it ends the user's tokens")
    func users() async throws {
        let cloud = try await Cloud()
        let admin = try await cloud.adminToken()
        let ann = try await cloud.member("ann")
        let shown = await cloud.send(.get, "/v3/users/\(ann.user)", token: admin)
        #expect(shown.json?["user"]?["password"] == nil)
        #expect(shown.json?["user"]?["password_expires_at"] == .null)
        let changed = await cloud.send(
            .patch, "/v3/users/\(ann.user)", token: admin, json: ["user": ["password": "new", "email": "a@b"]])
        #expect(changed.json?["user"]?["email"] == "a@b")
        #expect(try await cloud.service.validate(ann.token) == nil)
        #expect(await cloud.login(Cloud.user("ann", "pw")).status == 401)
        #expect(await cloud.login(Cloud.user("ann", "new")).status == 201)
    }

    @Test(
        "Disabling a user, the project, or taking the role away is seen at once",
        arguments: ["user", "project", "role"])
    func revocation(what: String) async throws {
        let cloud = try await Cloud()
        let admin = try await cloud.adminToken()
        let ann = try await cloud.member("ann")
        #expect(try await cloud.service.validate(ann.token) != nil)
        switch what {
        case "user":
            _ = await cloud.send(.patch, "/v3/users/\(ann.user)", token: admin, json: ["user": ["enabled": false]])
        case "project":
            _ = await cloud.send(
                .patch, "/v3/projects/\(ann.project)", token: admin, json: ["project": ["enabled": false]])
        default:
            let role = try #require(try await cloud.storage.listRoles().first { $0.name == "member" }).id
            let path = "/v3/projects/\(ann.project)/users/\(ann.user)/roles/\(role)"
            #expect(await cloud.send(.delete, path, token: admin).status == 204)
            #expect(await cloud.send(.delete, path, token: admin).status == 404)
        }
        #expect(try await cloud.service.validate(ann.token) == nil)
        #expect(await cloud.login(Cloud.user("ann", "pw"), scope: Cloud.project("p-ann")).status == 401)
    }

    @Test("Users change their own password by showing the old one, and keep the token in use")
    func ownPassword() async throws {
        let cloud = try await Cloud()
        let ann = try await cloud.member("ann")
        let other = try await cloud.login(Cloud.user("ann", "pw"), scope: "unscoped").token()
        let path = "/v3/users/\(ann.user)/password"
        let wrong: JSON = ["user": ["password": "new", "original_password": "nope"]]
        #expect(await cloud.send(.post, path, token: ann.token, json: wrong).status == 401)
        let right: JSON = ["user": ["password": "new", "original_password": "pw"]]
        let admin = try await cloud.adminToken()
        #expect(await cloud.send(.post, path, token: admin, json: right).status == 403)
        #expect(await cloud.send(.post, path, token: ann.token, json: right).status == 204)
        #expect(try await cloud.service.validate(ann.token) != nil)
        #expect(try await cloud.service.validate(other) == nil)
        #expect(await cloud.login(Cloud.user("ann", "new")).status == 201)
    }

    @Test("Roles are granted, checked, listed and expanded")
    func assignments() async throws {
        let cloud = try await Cloud()
        let admin = try await cloud.adminToken()
        let ann = try await cloud.member("ann")
        let roles = try await cloud.storage.listRoles()
        let manager = try #require(roles.first { $0.name == "manager" }).id
        let base = "/v3/projects/\(ann.project)/users/\(ann.user)/roles"
        #expect(await cloud.send(.head, "\(base)/\(manager)", token: admin).status == 404)
        #expect(await cloud.send(.put, "\(base)/\(manager)", token: admin).status == 204)
        #expect(await cloud.send(.put, "\(base)/\(manager)", token: admin).status == 204)
        #expect(await cloud.send(.head, "\(base)/\(manager)", token: admin).status == 204)
        #expect(await cloud.send(.get, base, token: admin).names("roles") == ["manager", "member"])
        #expect(await cloud.send(.put, "\(base)/nothing", token: admin).status == 404)
        #expect(await cloud.send(.put, "/v3/projects/x/users/\(ann.user)/roles/\(manager)", token: admin).status == 404)
        #expect(
            await cloud.send(.put, "/v3/domains/default/users/\(ann.user)/roles/\(manager)", token: admin).status == 204
        )
        #expect(await cloud.send(.put, "/v3/system/users/\(ann.user)/roles/\(manager)", token: admin).status == 204)
        let query = "/v3/role_assignments?user.id=\(ann.user)&scope.project.id=\(ann.project)"
        let plain = await cloud.send(.get, query + "&include_names=True", token: admin)
        let items = try #require(plain.json?["role_assignments"]?.list)
        #expect(Set(items.compactMap { $0["role"]?["name"]?.text }) == ["manager", "member"])
        #expect(items[0]["user"]?["name"] == "ann")
        #expect(items[0]["scope"]?["project"]?["domain"]?["name"] == "Default")
        let effective = await cloud.send(.get, query + "&effective", token: admin)
        #expect(effective.json?["role_assignments"]?.list?.count == 3)
        let all = await cloud.send(.get, "/v3/role_assignments?user.id=\(ann.user)&include_names", token: admin)
        #expect(all.json?["role_assignments"]?.list?.count == 4)
    }

    @Test("Roles with a meaning and the default domain stay")
    func kept() async throws {
        let cloud = try await Cloud()
        let admin = try await cloud.adminToken()
        let role = try #require(try await cloud.storage.listRoles().first { $0.name == "reader" }).id
        #expect(await cloud.send(.delete, "/v3/roles/\(role)", token: admin).status == 403)
        #expect(
            await cloud.send(.patch, "/v3/roles/\(role)", token: admin, json: ["role": ["name": "x"]]).status == 403)
        #expect(await cloud.send(.delete, "/v3/domains/default", token: admin).status == 403)
        let disable: JSON = ["domain": ["enabled": false]]
        #expect(await cloud.send(.patch, "/v3/domains/default", token: admin, json: disable).status == 403)
        let made = await cloud.send(.post, "/v3/roles", token: admin, json: ["role": ["name": "auditor"]])
        #expect(made.status == 201)
        #expect(await cloud.send(.delete, "/v3/roles/\(try made.text("role", "id"))", token: admin).status == 204)
    }

    @Test("A domain has names of its own, and goes with everything in it")
    func domains() async throws {
        let cloud = try await Cloud()
        let admin = try await cloud.adminToken()
        #expect(await cloud.send(.get, "/v3/domains?name=Default", token: admin).names("domains") == ["Default"])
        let domain = try await cloud.send(.post, "/v3/domains", token: admin, json: ["domain": ["name": "D"]])
            .text("domain", "id")
        let user = await cloud.send(
            .post, "/v3/users", token: admin,
            json: ["user": ["name": "admin", "domain_id": .string(domain), "password": "pw"]])
        #expect(user.status == 201)
        let login: JSON = ["name": "admin", "password": "pw", "domain": ["name": "D"]]
        let token = try await cloud.login(login).token()
        _ = await cloud.send(.patch, "/v3/domains/\(domain)", token: admin, json: ["domain": ["enabled": false]])
        #expect(try await cloud.service.validate(token) == nil)
        #expect(await cloud.login(login).status == 401)
        #expect(await cloud.send(.delete, "/v3/domains/\(domain)", token: admin).status == 204)
        #expect(await cloud.send(.get, "/v3/users/\(try user.text("user", "id"))", token: admin).status == 404)
    }

    @Test("Services, endpoints and regions follow from the catalog")
    func catalog() async throws {
        let cloud = try await Cloud()
        let admin = try await cloud.adminToken()
        #expect(
            await cloud.send(.get, "/v3/services", token: admin).names("services")
                == ["keystone", "nova", "glance", "placement"])
        let service = await cloud.send(.get, "/v3/services?type=compute", token: admin)
        let id = try #require(service.json?["services"]?[0]?["id"]?.text)
        #expect(try await cloud.send(.get, "/v3/services/\(id)", token: admin).text("service", "name") == "nova")
        let endpoints = await cloud.send(.get, "/v3/endpoints?service_id=\(id)&interface=public", token: admin)
        #expect(endpoints.json?["endpoints"]?.list?.count == 1)
        #expect(endpoints.json?["endpoints"]?[0]?["url"] == "http://cloud.example:8774/compute/v2.1")
        let regions = await cloud.send(.get, "/v3/regions", token: admin)
        #expect(regions.json?["regions"]?[0]?["id"] == "RegionOne")
        #expect(await cloud.send(.get, "/v3/regions/Nowhere", token: admin).status == 404)
        #expect(await cloud.send(.get, "/v3/auth/catalog", token: admin).json?["catalog"]?.list?.count == 4)
    }
}
