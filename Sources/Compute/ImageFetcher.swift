internal import HTTP
internal import Model
internal import RPC
internal import Synchronization

/// Downloads images with a ticket from the conductor.
struct ImageFetcher: ImageFetching {
    let host: HostName
    let client: RPCClient
    let http: HTTPClient
    let allowsPlaintext: Bool

    func fetch(
        _ image: ImageReference, for instance: InstanceID,
        _ write: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        let ticket = try await client.call(
            GetImageTicket.self, .init(host: host, instance: instance, image: image.id))
        guard ticket.url.hasPrefix("https://") || allowsPlaintext || isLoopbackURL(ticket.url) else {
            throw Failure(.forbidden, "image \(image.id) is offered in plaintext beyond this machine")
        }
        let received = Mutex<Int64>(0)
        let request = ClientRequest(
            method: .get, url: ticket.url, headers: ["X-Apus-Ticket": ticket.ticket], timeout: nil,
            idleTimeout: .seconds(30))
        let response: ClientResponse
        do {
            response = try await http.download(request) { bytes in
                let total = received.withLock { received in
                    received += Int64(bytes.count)
                    return received
                }
                guard total <= image.sizeBytes else {
                    throw Failure(.imageUnacceptable, "image \(image.id) is longer than its record says")
                }
                try await write(bytes)
            }
        } catch let error as HTTPClientError {
            throw error.failure
        }
        switch response.status {
        case 200:
            let count = received.withLock { $0 }
            guard count == image.sizeBytes else {
                throw Failure(
                    .unreachable, "image \(image.id) broke off after \(count) of \(image.sizeBytes) bytes",
                    isRetriable: true)
            }
        case 404, 410: throw Failure(.imageUnacceptable, "image \(image.id) is gone")
        case 401, 403: throw Failure(.forbidden, "the ticket for image \(image.id) was refused", isRetriable: true)
        default:
            throw Failure(
                .unreachable, "the download of image \(image.id) was answered \(response.status)", isRetriable: true)
        }
    }
}
