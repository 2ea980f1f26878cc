import ComputeAPI
import Crypto
import Database
import HTTP
import Identity
import Images
import Model
import Telemetry
import Testing

@Suite("Metadata for a proxy that signs")
struct SignedMetadataTests {
    private static let secret = "s3cret"

    /// The whole port over a cloud's database.
    private func application(_ cloud: ComputeFixture, _ settings: APISettings) -> Router {
        let now: @Sendable () -> Timestamp = { ComputeFixture.start }
        let executor = BlockingExecutor(name: "metadata", threads: 1)
        let images = ImageService(
            storage: cloud.images, store: ImageStore(path: "/nowhere", sizeLimit: nil, executor: executor),
            tickets: ImageTicketAuthority(secret: Array(repeating: 1, count: 32)), now: now)
        return APIApplication(
            database: cloud.database, identity: IdentityService(storage: cloud.database.identity, now: now),
            images: images, imageStorage: cloud.images, conductor: ComputeFixture.conductor(), settings: settings,
            region: "RegionOne", executor: executor, now: now
        ).router
    }

    private static func settings(_ secret: String) -> APISettings {
        var settings = APISettings()
        settings.metadataSecret = secret
        return settings
    }

    private func ask(
        _ cloud: ComputeFixture, _ id: String, settings: APISettings = Self.settings(Self.secret),
        project: String = "p1", secret: String = Self.secret,
        path: String = "/openstack/latest/meta_data.json", change: (inout HTTPRequest) -> Void = { _ in }
    ) async throws -> Int {
        var request = HTTPRequest(.get, path)
        request.headers["X-Instance-ID"] = id
        request.headers["X-Tenant-ID"] = project
        request.headers["X-Instance-ID-Signature"] = Hex.encode(
            hmacSHA256(key: Array(secret.utf8), Array(id.utf8)))
        change(&request)
        return await application(cloud, settings).handle(request).status
    }

    @Test("Only what is signed with the secret, for the instance's own project, is answered")
    func signed() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        #expect(try await ask(cloud, id) == 200)
        #expect(try await ask(cloud, id, path: "/latest/meta-data/hostname") == 200)
        #expect(try await ask(cloud, id, path: "/openstack/latest/nothing") == 404)
        #expect(try await ask(cloud, id, secret: "other") == 403)
        #expect(try await ask(cloud, id, secret: "x") == 403)
        #expect(try await ask(cloud, id, project: "p2") == 404)
        #expect(try await ask(cloud, "8d3d17a5-8b4f-4a1e-9d0d-8a3d3f0a0b11") == 404)
        #expect(try await ask(cloud, "../etc/passwd") == 404)
        for header in ["X-Instance-ID", "X-Tenant-ID", "X-Instance-ID-Signature"] {
            #expect(try await ask(cloud, id) { $0.headers[header] = nil } == 400)
        }
        #expect(try await ask(cloud, id) { $0.headers["X-Instance-ID-Signature"] = "zz" } == 403)
    }

    @Test("Without a secret there is no such service, however well it is signed")
    func absent() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        #expect(try await ask(cloud, id, settings: Self.settings(""), secret: "x") == 404)
        #expect(try await ask(cloud, id, settings: Self.settings("")) == 404)
    }
}
