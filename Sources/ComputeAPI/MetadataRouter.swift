internal import Crypto
internal import Database
internal import HTTP
internal import Images
internal import Metadata
internal import Model

/// The metadata of any instance, for a proxy that knows who asks and signs for it: header `X-Instance-ID` with
/// `X-Tenant-ID` and `X-Instance-ID-Signature`, the HMAC-SHA256 of the id by the shared secret, in hexadecimal digits.
///
/// Nobody else is answered; without a secret there is no such service.
struct SignedMetadata: Sendable {
    let database: ControlDatabase
    let images: any ImageStorage
    /// `[neutron] metadata_proxy_shared_secret`.
    let secret: [UInt8]
    let settings: MetadataSettings

    /// `nil` when there is no secret, and so no such service.
    init?(_ database: ControlDatabase, _ images: any ImageStorage, _ settings: APISettings) {
        guard !settings.metadataSecret.isEmpty else { return nil }
        (self.database, self.images) = (database, images)
        secret = Array(settings.metadataSecret.utf8)
        self.settings = MetadataSettings(domain: settings.guestDomain)
    }

    /// Whether a request is for a path at which guests ask.
    static func isFor(_ request: HTTPRequest) -> Bool {
        guard request.method == .get, let first = request.path.split(separator: "/").first else { return false }
        return first == "openstack" || MetadataTree.amazonVersions.contains(String(first))
    }

    func answer(_ request: HTTPRequest) async throws -> HTTPResponse {
        // Of a header that comes twice nobody can say which was signed.
        func only(_ name: String) -> String? {
            let values = request.headers.all(name)
            return values.count == 1 ? values[0] : nil
        }
        guard let id = only("X-Instance-ID"), let signature = only("X-Instance-ID-Signature"),
            let project = only("X-Tenant-ID")
        else { return Self.refusal(400, "X-Instance-ID, X-Tenant-ID and X-Instance-ID-Signature are wanted.") }
        let expected = Hex.encode(hmacSHA256(key: secret, Array(id.utf8)))
        guard constantTimeEquals(Array(signature.lowercased().utf8), Array(expected.utf8)) else {
            return Self.refusal(403, "Invalid proxy request signature.")
        }
        // An id that is none of the project's is as little there as one that nobody has.
        guard isUUID(id), let instance = try await database.instances.find(InstanceID(id.lowercased())),
            instance.projectID.rawValue == project
        else { return Self.refusal(404, "There is no such instance.") }
        var properties = instance.imageProperties
        if properties == nil { properties = try await images.find(instance.imageID)?.properties }
        let content = try MetadataContent(
            MetadataSubject(
                instance: instance, diskBus: properties?["hw_disk_bus"], interfaces: instance.interfaces),
            seed: randomBytes(512), settings: settings)
        guard let found = try MetadataTree(content, keyName: instance.keyName).answer(at: request.path) else {
            return Self.refusal(404, "There is nothing at this path.")
        }
        return HTTPResponse(200, headers: ["Content-Type": found.contentType], body: .bytes(found.bytes))
    }

    private static func refusal(_ status: Int, _ text: String) -> HTTPResponse {
        HTTPResponse(status, headers: ["Content-Type": "text/plain; charset=UTF-8"], body: .bytes(Array(text.utf8)))
    }
}
