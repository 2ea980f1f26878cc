import ComputeAPI
import Database
import Foundation
import HTTP
import Identity
import Images
import Model
import Telemetry
import Testing

@Suite("The whole port")
struct ApplicationTests {
    /// Everything but the network: real identity, images on disk, the compute API, one router.
    private func run(_ body: (Router) async throws -> Void) async throws {
        let folder = NSTemporaryDirectory() + "application-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let now: @Sendable () -> Timestamp = { ComputeFixture.start }
        let database = try await ControlDatabase.open(path: nil, now: now)
        let identity = IdentityService(storage: database.identity, now: now)
        _ = try await identity.bootstrap(adminPassword: "secret")
        let executor = BlockingExecutor(name: "application", threads: 1)
        let images = ImageService(
            storage: database.images, store: ImageStore(path: folder, sizeLimit: nil, executor: executor),
            tickets: ImageTicketAuthority(secret: Array(repeating: 1, count: 32)), now: now)
        try await images.recover()
        let application = APIApplication(
            database: database, identity: identity, images: images, imageStorage: database.images,
            conductor: ComputeFixture.conductor(), settings: APISettings(), region: "RegionOne", executor: executor,
            now: now)
        try await body(application.router)
    }

    private func send(
        _ router: Router, _ method: HTTPMethod, _ path: String, token: String? = nil, _ body: JSON? = nil,
        type: String = "application/json", bytes: [UInt8]? = nil
    ) async -> (response: HTTPResponse, json: JSON) {
        var request = HTTPRequest(
            method, path, headers: ["Host": "cloud.example:8774", "Content-Type": type],
            body: bytes ?? body?.serialized() ?? [])
        request.headers["X-Auth-Token"] = token
        let response = await router.handle(request)
        return (response, (try? JSON(parsing: response.bytes)) ?? .null)
    }

    private func login(_ router: Router, scope: JSON?) async -> (token: String?, json: JSON) {
        let user: JSON = ["name": "admin", "password": "secret", "domain": ["id": "default"]]
        var auth: [String: JSON] = ["identity": ["methods": ["password"], "password": ["user": user]]]
        auth["scope"] = scope
        let reply = await send(router, .post, "/identity/v3/auth/tokens", ["auth": .object(auth)])
        return (reply.response.headers["X-Subject-Token"], reply.json)
    }

    @Test("From login through the catalog to an image and a server, by the URLs that the answers name")
    func wayThrough() async throws {
        try await run { router in
            let project: JSON = ["project": ["name": "admin", "domain": ["id": "default"]]]
            let (found, session) = await login(router, scope: project)
            let token = try #require(found)
            let urls = session["token"]?["catalog"]?.list?.compactMap { $0["endpoints"]?[0]?["url"]?.text } ?? []
            let root = "http://cloud.example:8774"
            #expect(Set(urls).isSuperset(of: ["identity/v3", "compute/v2.1", "image"].map { "\(root)/\($0)" }))
            let made = await send(
                router, .post, "/image/v2/images", token: token,
                ["name": "i", "disk_format": "raw", "container_format": "bare"])
            let image = try #require(made.json["id"])
            let uploaded = await send(
                router, .put, "/image/v2/images/\(image.text ?? "")/file", token: token,
                type: "application/octet-stream", bytes: [1, 2, 3])
            #expect(uploaded.response.status == 204)
            let server = await send(
                router, .post, "/compute/v2.1/servers", token: token,
                ["server": ["name": "s", "imageRef": image, "flavorRef": "42"]])
            #expect(server.response.status == 202)
            let link = server.json["server"]?["links"]?[0]?["href"]?.text ?? ""
            #expect(link.hasPrefix(root + "/compute/v2.1/servers/"))
            let shown = await send(router, .get, String(link.dropFirst(root.count)), token: token)
            #expect(shown.json["server"]?["status"] == "BUILD" && shown.json["server"]?["image"]?["id"] == image)
            #expect(await send(router, .get, "/apus/v1/tasks", token: token).json["tasks"]?.list?.count == 1)
        }
    }

    @Test(
        "Each prefix answers its own documents and its own form of 401",
        arguments: [
            ("/compute/v2.1/servers", "error"), ("/image/v2/images", "error"), ("/apus/v1/tasks", "error"),
            ("/identity/v3/projects", "error"),
        ])
    func prefixes(path: String, member: String) async throws {
        try await run { router in
            for token in [nil, "forged", String(repeating: "x", count: 43)] {
                let reply = await send(router, .get, path, token: token)
                #expect(reply.response.status == 401)
                #expect(reply.json[member]?["message"] != nil)
            }
            #expect(await send(router, .get, "/").json["services"]?.list?.count == 5)
            #expect(await send(router, .get, "/compute").json["versions"] != nil)
            #expect(await send(router, .get, "/image").response.status == 300)
            #expect(await send(router, .get, "/elsewhere").response.status == 404)
        }
    }

    @Test("Placement is on the same port, for administrators of a project or of the system")
    func placement() async throws {
        try await run { router in
            let project: JSON = ["project": ["name": "admin", "domain": ["id": "default"]]]
            for scope in [project, ["system": ["all": true]]] {
                let (token, _) = await login(router, scope: scope)
                let reply = await send(router, .get, "/placement/resource_providers", token: token)
                #expect(reply.response.status == 200 && reply.json["resource_providers"] == [])
            }
            let anonymous = await send(router, .get, "/placement/resource_providers")
            #expect(anonymous.response.status == 401 && anonymous.json["errors"]?[0]?["status"] == 401)
            #expect(
                anonymous.response.headers["WWW-Authenticate"]
                    == "Keystone uri=\"http://cloud.example:8774/identity\"")
            let versions = await send(router, .get, "/placement/")
            #expect(versions.json["versions"]?[0]?["max_version"] == "1.39")
        }
    }

    @Test("A 401 of compute names the identity service; a token without a project is 403")
    func tokens() async throws {
        try await run { router in
            let reply = await send(router, .get, "/compute/v2.1/servers")
            #expect(
                reply.response.headers["WWW-Authenticate"] == "Keystone uri=\"http://cloud.example:8774/identity\"")
            let (token, _) = await login(router, scope: ["system": ["all": true]])
            #expect(token != nil)
            #expect(await send(router, .get, "/compute/v2.1/servers", token: token).response.status == 403)
        }
    }
}
