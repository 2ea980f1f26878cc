public import Database
public import HTTP
public import Identity
public import Images
public import Model
internal import Placement
public import Telemetry

/// Everything that the public port serves: identity, compute, image, placement, Apus's own calls, and an index.
public struct APIApplication: Sendable {
    public let router: Router

    /// - Parameters:
    ///   - region: the region of the catalog's endpoints.
    ///   - executor: for work that blocks, such as making keys.
    public init(
        database: ControlDatabase, identity: IdentityService, images: ImageService, imageStorage: any ImageStorage,
        conductor: ConductorLink, settings: APISettings, region: String, executor: BlockingExecutor,
        now: @escaping @Sendable () -> Timestamp
    ) {
        let authenticate = Self.authenticator(identity)
        let parts = ComputeParts(
            database: database, images: imageStorage, conductor: conductor, settings: settings,
            authenticate: authenticate, executor: executor, now: now)
        var router = Router()
        router.mount(
            "/identity", identityRouter(identity) { CatalogEntry.standard(base: $0, region: region) })
        router.mount("/compute", computeRouter(parts) { baseURL(of: $0) + "/compute" })
        router.mount(
            "/image",
            imageRouter(service: images, authenticate: Self.imageAuthenticator(authenticate)) {
                baseURL(of: $0) + "/image"
            })
        router.mount(
            "/placement",
            placementRouter(database: database, authenticate: Self.placementAuthenticator(identity), now: now) {
                baseURL(of: $0) + "/placement"
            })
        router.mount("/apus/v1/image-data", imageDataRouter(service: images))
        router.mount(
            "/apus/v1",
            adminRouter(
                database: database, conductor: conductor, serviceDownTime: settings.serviceDownTime,
                availabilityZone: settings.availabilityZone, authenticate: authenticate, now: now))
        router.on(.get, "/") { request in Self.index(baseURL(of: request)) }
        let metadata = SignedMetadata(database, imageStorage, settings)
        router.notFound = { request in
            if let metadata, SignedMetadata.isFor(request) { return try await metadata.answer(request) }
            return APIError.notFound("The resource could not be found.").response
        }
        router.failure = { _, error in computeAnswer(to: error) }
        self.router = router
    }

    /// The small index of the port.
    private static func index(_ base: String) -> HTTPResponse {
        jsonAnswer { writer in
            writer.member("name", "Apus")
            writer.array("services") { writer in
                for (type, path) in [
                    ("identity", "/identity/v3"), ("compute", "/compute/v2.1"), ("image", "/image"),
                    ("placement", "/placement"), ("apus", "/apus/v1"),
                ] {
                    writer.object {
                        $0.member("type", type)
                        $0.member("url", base + path)
                    }
                }
            }
        }
    }

    private static func authenticator(_ identity: IdentityService) -> APIAuthenticator {
        { request in
            guard let token = request.headers["X-Auth-Token"], let context = try await identity.validate(token) else {
                throw APIError(
                    401, "The request you have made requires authentication.",
                    headers: ["WWW-Authenticate": "Keystone uri=\"\(baseURL(of: request))/identity\""])
            }
            // A token without a project belongs to no project's things.
            guard let project = context.projectID else {
                throw APIError.forbidden("A token that is scoped to a project is needed.")
            }
            return APICaller(userID: context.userID, projectID: project, roles: context.roles)
        }
    }

    /// Hosts belong to no project, so a token for the whole system will do as well as one for a project.
    private static func placementAuthenticator(_ identity: IdentityService) -> PlacementAuthenticator {
        { request in
            guard let token = request.headers["X-Auth-Token"], let context = try await identity.validate(token) else {
                throw PlacementError(
                    401, "The request you have made requires authentication.",
                    headers: ["WWW-Authenticate": "Keystone uri=\"\(baseURL(of: request))/identity\""])
            }
            switch context.scope {
            case .project, .system: return context.roles
            case .domain, nil: throw PlacementError(403, "A token for a project or for the system is needed.")
            }
        }
    }

    private static func imageAuthenticator(_ authenticate: @escaping APIAuthenticator) -> ImageAuthenticator {
        { request in
            do {
                let caller = try await authenticate(request)
                return ImageCaller(
                    projectID: caller.projectID, userID: caller.userID, roles: caller.roles, isAdmin: caller.isAdmin)
            } catch let error as APIError {
                throw ImageError(error.status, error.message, headers: error.headers)
            }
        }
    }
}
