internal import Database
internal import HTTP
internal import Images
internal import Model
internal import Tasks
internal import Telemetry

/// What tasks do with the images that are made of servers.
struct ServerImages: Sendable {
    /// How often a record that others change is tried again.
    private static let writeAttempts = 16

    let storage: any ImageStorage
    let tickets: ImageTicketAuthority
    let http: HTTPClient
    let imageURL: String
    let now: Now
    private let log = Logger("conductor")

    init(
        storage: any ImageStorage, tickets: ImageTicketAuthority, http: HTTPClient, imageURL: String,
        now: @escaping Now
    ) {
        (self.storage, self.tickets, self.http) = (storage, tickets, http)
        (self.imageURL, self.now) = (imageURL, now)
    }

    /// Removes an image that has not become active; the upload under way, if there is one, then comes to nothing.
    func discard(_ id: ImageID) async throws {
        for _ in 0..<Self.writeAttempts {
            guard let image = try await storage.find(id), image.status == .queued || image.status == .saving else {
                return
            }
            guard try await storage.remove(id, revision: image.revision) else { continue }
            log.info("an image that was not filled is removed", ["image": id])
            return
        }
        throw Failure(.conflict, "image \(id) is being changed by others", isRetriable: true)
    }

    /// Deletes an image with its bytes, through the image service; nothing when it is gone. At most 30 s.
    func delete(_ id: ImageID) async throws {
        let ticket = tickets.issue(
            host: HostName("conductor"), image: id, access: .delete, expiresAt: now() + .seconds(60))
        let request = ClientRequest(
            method: .delete, url: "\(imageURL)/apus/v1/image-data/\(id)", headers: ["X-Apus-Ticket": ticket],
            timeout: .seconds(30))
        let response: ClientResponse
        do {
            response = try await http.send(request)
        } catch {
            throw error.failure
        }
        switch response.status {
        case 200..<300, 404: return
        default:
            let said = String(decoding: response.body.prefix(300), as: UTF8.self)
            throw Failure(
                .unreachable, "deleting image \(id) was answered \(response.status): \(said)",
                isRetriable: response.status != 403)
        }
    }

    /// The oldest backups of the kind beyond those that are kept. Protected ones are neither counted nor deleted.
    func surplus(of instance: Instance, _ rotation: BackupRotation) async throws -> [ImageID] {
        let backups = try await storage.list(visibleTo: instance.projectID).filter { image in
            image.owner == instance.projectID && !image.isProtected && image.status == .active
                && image.properties["image_type"] == "backup"
                && image.properties["backup_type"] == rotation.type
                && image.properties["instance_uuid"] == instance.id.rawValue
        }
        let newestFirst = backups.sorted { ($0.createdAt, $0.id.rawValue) > ($1.createdAt, $1.id.rawValue) }
        return newestFirst.dropFirst(rotation.keep).reversed().map(\.id)
    }
}
