import Foundation
import HTTP
import Images
import Model
import Telemetry

/// A whole image service on a folder of its own, in memory otherwise.
struct ImageFixture: Sendable {
    static let start = Timestamp(seconds: 1_767_225_600)
    static let tickets = ImageTicketAuthority(secret: Array(repeating: 7, count: 32))

    let storage = MemoryImageStorage()
    let folder: String
    let service: ImageService
    let router: Router
    let data: Router

    init(sizeLimit: Int64? = nil) {
        folder = NSTemporaryDirectory() + "images-" + UUID().uuidString
        service = ImageService(
            storage: storage,
            store: ImageStore(
                path: folder, sizeLimit: sizeLimit, executor: BlockingExecutor(name: "images", threads: 2)),
            tickets: Self.tickets, now: { Self.start })
        router = imageRouter(service: service, authenticate: Self.authenticate) { _ in "http://cloud:8774/image" }
        data = imageDataRouter(service: service)
    }

    /// Runs `body` with a service whose folder exists, and removes the folder afterwards.
    static func run(sizeLimit: Int64? = nil, _ body: (ImageFixture) async throws -> Void) async throws {
        let fixture = ImageFixture(sizeLimit: sizeLimit)
        defer { try? FileManager.default.removeItem(atPath: fixture.folder) }
        try await fixture.service.recover()
        try await body(fixture)
    }

    /// The test's token is `project/role`, with the role already the highest of the caller.
    @Sendable private static func authenticate(_ request: HTTPRequest) throws -> ImageCaller {
        guard let parts = request.headers["X-Auth-Token"]?.split(separator: "/"), parts.count == 2 else {
            throw ImageError(401, "no token")
        }
        let roles: Set<String> =
            switch parts[1] {
            case "admin": ["admin", "manager", "member", "reader"]
            case "member": ["member", "reader"]
            default: ["reader"]
            }
        return ImageCaller(
            projectID: ProjectID(String(parts[0])), userID: UserID("u"), roles: roles, isAdmin: parts[1] == "admin")
    }

    func send(
        _ method: HTTPMethod, _ target: String, as token: String? = "p1/member", type: String? = nil,
        length: Int? = nil, body: RequestBody = .bytes([])
    ) async -> HTTPResponse {
        var request = HTTPRequest(method, target)
        request.headers["X-Auth-Token"] = token
        request.headers["Content-Type"] = type
        request.headers["Content-Length"] = length.map(String.init)
        request.body = body
        return await router.handle(request)
    }

    func send(
        _ method: HTTPMethod, _ target: String, as token: String? = "p1/member", json: JSON,
        type: String = "application/json"
    ) async -> HTTPResponse {
        await send(method, target, as: token, type: type, body: .bytes(json.serialized()))
    }

    func patch(_ id: String, as token: String = "p1/member", _ operations: JSON) async -> HTTPResponse {
        await send(
            .patch, "/v2/images/\(id)", as: token, json: operations,
            type: "application/openstack-images-v2.1-json-patch")
    }

    /// Registers an image and answers its id.
    func register(as token: String = "p1/member", _ more: [String: JSON] = [:]) async throws -> String {
        var members: [String: JSON] = ["name": "i", "disk_format": "raw", "container_format": "bare"]
        members.merge(more) { $1 }
        let answer = await send(.post, "/v2/images", as: token, json: .object(members))
        return try JSON(parsing: answer.bytes)["id"]?.text ?? ""
    }

    func upload(
        _ id: String, _ bytes: [UInt8], as token: String = "p1/member", length: Int? = nil
    ) async -> HTTPResponse {
        await send(
            .put, "/v2/images/\(id)/file", as: token, type: "application/octet-stream", length: length ?? bytes.count,
            body: .stream(BytesSource(bytes, pieceSize: 1_000)))
    }

    func show(_ id: String, as token: String = "p1/member") async throws -> JSON {
        try JSON(parsing: await send(.get, "/v2/images/\(id)", as: token).bytes)
    }

    func names(_ query: String, as token: String = "p1/member") async throws -> [String] {
        let document = try JSON(parsing: await send(.get, "/v2/images\(query)", as: token).bytes)
        return document["images"]?.list?.compactMap { $0["name"]?.text } ?? []
    }

    var files: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: folder).sorted() }
    }
}
