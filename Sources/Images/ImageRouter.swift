internal import Crypto
public import HTTP
internal import Model

/// The image service's HTTP surface: version documents at `/`, and the v2 calls that clients need. Mount it at `/image`.
///
/// - Parameters:
///   - authenticate: says who asks; never called for the version documents.
///   - baseURL: the URL under which the client reached this router, without a trailing slash.
public func imageRouter(
    service: ImageService, authenticate: @escaping ImageAuthenticator,
    baseURL: @escaping @Sendable (HTTPRequest) -> String
) -> Router {
    let routes = ImageRoutes(service: service, authenticate: authenticate, baseURL: baseURL)
    var router = Router()
    router.failure = { _, error in imageAnswer(to: error) }
    router.notFound = { _ in imageAnswer(to: ImageError(404, "The resource could not be found.")) }
    router.bodyTooLarge = { _, limit in imageAnswer(to: ImageError(413, "The body is larger than \(limit) bytes.")) }
    routes.addDocuments(to: &router)
    routes.addRecords(to: &router)
    routes.addBytes(to: &router)
    return router
}

/// `GET /{id}` with the header `X-Apus-Ticket`: an image's bytes for a host. Mount it at `/apus/v1/image-data`. No user's
/// token counts here.
public func imageDataRouter(service: ImageService) -> Router {
    var router = Router()
    router.failure = { _, error in imageAnswer(to: error) }
    router.on(.get, "/{id}", RouteOptions(requestTimeout: service.transferTimeout)) { request in
        let found = try await service.download(
            request.parameters["id"] ?? "", ticket: request.headers["X-Apus-Ticket"])
        return imageFile(found.image, found.length, request.headers["Range"], in: service.store)
    }
    let upload = RouteOptions(bodyLimit: .max, isStreamed: true, requestTimeout: service.transferTimeout)
    router.on(.put, "/{id}", upload) { request in
        try await service.upload(
            request.parameters["id"] ?? "", request.body.source,
            length: request.headers["Content-Length"].flatMap(Int64.init), ticket: request.headers["X-Apus-Ticket"])
        return HTTPResponse(204)
    }
    router.on(.delete, "/{id}") { request in
        try await service.delete(request.parameters["id"] ?? "", ticket: request.headers["X-Apus-Ticket"])
        return HTTPResponse(204)
    }
    return router
}

private struct ImageRoutes: Sendable {
    /// Each version's content is served: tags, deactivation, community images, hidden images with their hashes.
    private static let versions = ["v2.7", "v2.5", "v2.3", "v2.2", "v2.1", "v2.0"]
    private static let bodyLimit = 4 * 1_048_576

    let service: ImageService
    let authenticate: ImageAuthenticator
    let baseURL: @Sendable (HTTPRequest) -> String

    func addDocuments(to router: inout Router) {
        router.on(.get, "/") { versionDocument($0, status: 300) }
        router.on(.get, "/versions") { versionDocument($0, status: 200) }
        router.on(.get, "/v2") { versionDocument($0, status: 200) }
        let schemas: [(String, JSON)] = [
            ("image", ImageSchemas.image()), ("images", ImageSchemas.images()), ("member", ImageSchemas.member()),
            ("members", ImageSchemas.members()),
        ]
        for (name, schema) in schemas {
            let bytes = schema.serialized()
            router.on(.get, "/v2/schemas/\(name)") { request in
                _ = try await authenticate(request)
                return .json(200, bytes)
            }
        }
    }

    private func versionDocument(_ request: HTTPRequest, status: Int) -> HTTPResponse {
        let link = baseURL(request) + "/v2/"
        var writer = JSONWriter(capacity: 1_024)
        writer.object {
            $0.array("versions") { writer in
                for (index, version) in Self.versions.enumerated() {
                    writer.object { writer in
                        writer.member("id", version)
                        writer.member("status", index == 0 ? "CURRENT" : "SUPPORTED")
                        writer.array("links") { writer in
                            writer.object {
                                $0.member("rel", "self")
                                $0.member("href", link)
                            }
                        }
                    }
                }
            }
        }
        return .json(status, writer.finish())
    }

    func addRecords(to router: inout Router) {
        router.on(.get, "/v2/images") { try await list($0) }
        router.on(.post, "/v2/images", RouteOptions(bodyLimit: Self.bodyLimit)) { request in
            let caller = try await authenticate(request)
            let document: JSON
            do { document = try JSON(parsing: request.bytes) } catch {
                throw ImageError.invalid("The body is not JSON: \(error).")
            }
            let image = try await service.create(document, by: caller)
            return .json(
                201, image.json(), headers: ["Location": "\(baseURL(request))/v2/images/\(image.id)"])
        }
        router.on(.get, "/v2/images/{id}") { request in
            let caller = try await authenticate(request)
            return .json(200, try await service.image(identifier(request), for: caller).json())
        }
        router.on(.patch, "/v2/images/{id}", RouteOptions(bodyLimit: Self.bodyLimit)) { request in
            let caller = try await authenticate(request)
            let patch = try ImagePatch(request.bytes, mediaType: request.headers["Content-Type"])
            return .json(200, try await service.patch(identifier(request), patch, by: caller).json())
        }
        router.on(.delete, "/v2/images/{id}") { request in
            let caller = try await authenticate(request)
            try await service.delete(identifier(request), by: caller)
            return HTTPResponse(204)
        }
        for (method, isPresent) in [(HTTPMethod.put, true), (.delete, false)] {
            router.on(method, "/v2/images/{id}/tags/{tag}") { request in
                let caller = try await authenticate(request)
                try await service.setTag(
                    request.parameters["tag"] ?? "", on: identifier(request), present: isPresent, by: caller)
                return HTTPResponse(204)
            }
        }
        for (name, isActive) in [("deactivate", false), ("reactivate", true)] {
            router.on(.post, "/v2/images/{id}/actions/\(name)") { request in
                let caller = try await authenticate(request)
                try await service.setActive(isActive, identifier(request), by: caller)
                return HTTPResponse(204)
            }
        }
        // Nothing is imported or copied in the background, so an image never has tasks.
        router.on(.get, "/v2/images/{id}/tasks") { try await emptyList($0, "tasks", schema: nil) }
        router.on(.get, "/v2/images/{id}/members") { try await emptyList($0, "members", schema: "/v2/schemas/members") }
        router.on(.post, "/v2/images/{id}/members") { request in
            let caller = try await authenticate(request)
            _ = try await service.image(identifier(request), for: caller)
            throw ImageError(501, "Sharing an image with single projects is not available yet.")
        }
    }

    func addBytes(to router: inout Router) {
        let transfer = RouteOptions(bodyLimit: .max, isStreamed: true, requestTimeout: service.transferTimeout)
        router.on(.put, "/v2/images/{id}/file", transfer) { request in
            let caller = try await authenticate(request)
            let type = request.headers["Content-Type"]?.split(separator: ";").first.map { String($0).trimmingSpaces() }
            guard type?.lowercased() == "application/octet-stream" else {
                throw ImageError(415, "An image's bytes are sent as application/octet-stream.")
            }
            try await service.upload(
                identifier(request), request.body.source, length: request.headers["Content-Length"].flatMap(Int64.init),
                by: caller)
            return HTTPResponse(204)
        }
        router.on(.get, "/v2/images/{id}/file", RouteOptions(requestTimeout: service.transferTimeout)) { request in
            let caller = try await authenticate(request)
            guard let found = try await service.download(identifier(request), for: caller) else {
                return HTTPResponse(204)
            }
            return imageFile(found.image, found.length, request.headers["Range"], in: service.store)
        }
    }

    private func identifier(_ request: HTTPRequest) -> String { request.parameters["id"] ?? "" }

    private func list(_ request: HTTPRequest) async throws -> HTTPResponse {
        let caller = try await authenticate(request)
        let page = try await service.list(request.query, for: caller)
        let kept = request.query.items.filter { $0.name != "marker" }
        var writer = JSONWriter(capacity: 256 + page.images.count * 1_024)
        writer.object { writer in
            writer.array("images") { writer in
                for image in page.images { image.write(to: &writer) }
            }
            writer.member("first", link(kept))
            if page.hasMore, let last = page.images.last {
                writer.member("next", link(kept + [(name: "marker", value: last.id.rawValue)]))
            }
            writer.member("schema", "/v2/schemas/images")
        }
        return .json(200, writer.finish())
    }

    private func link(_ items: [(name: String, value: String)]) -> String {
        guard !items.isEmpty else { return "/v2/images" }
        let query = items.map { PercentEncoding.encode($0.name) + "=" + PercentEncoding.encode($0.value) }
        return "/v2/images?" + query.joined(separator: "&")
    }

    private func emptyList(_ request: HTTPRequest, _ name: String, schema: String?) async throws -> HTTPResponse {
        let caller = try await authenticate(request)
        _ = try await service.image(identifier(request), for: caller)
        var writer = JSONWriter()
        writer.object { writer in
            writer.array(name) { _ in }
            if let schema { writer.member("schema", schema) }
        }
        return .json(200, writer.finish())
    }
}

/// All bytes of an image, or the part that was asked for.
private func imageFile(
    _ image: ImageRecord, _ length: Int64, _ range: String?, in store: ImageStore
) -> HTTPResponse {
    let path = store.filePath(image.id)
    var headers: HTTPFields = ["Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"]
    switch ByteRange(range, of: length) {
    case .whole:
        headers["Content-MD5"] = image.checksum
        return HTTPResponse(200, headers: headers, body: .file(path: path, length: length))
    case .part(let part):
        headers["Content-Range"] = "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(length)"
        return HTTPResponse(
            206, headers: headers, body: .file(path: path, offset: part.lowerBound, length: Int64(part.count)))
    case .outside:
        return HTTPResponse(416, headers: ["Content-Range": "bytes */\(length)"])
    }
}
