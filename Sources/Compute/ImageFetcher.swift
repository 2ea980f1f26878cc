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
        _ image: ImageReference, for use: ImageUse, from offset: Int64,
        _ write: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        let ticket = try await ticket(for: image.id, use)
        guard ticket.url.hasPrefix("https://") || allowsPlaintext || isLoopbackURL(ticket.url) else {
            throw Failure(.forbidden, "image \(image.id) is offered in plaintext beyond this machine")
        }
        var headers: HTTPFields = ["X-Apus-Ticket": ticket.ticket]
        if offset > 0 { headers["Range"] = "bytes=\(offset)-" }
        let request = ClientRequest(
            method: .get, url: ticket.url, headers: headers, timeout: nil, idleTimeout: .seconds(30))
        // Where in the image the answer has come to; negative before its first byte.
        let received = Mutex<Int64>(-1)
        let response: ClientResponse
        do {
            response = try await http.download(request) { bytes, status in
                let start = received.withLock { received in
                    defer { received += Int64(bytes.count) }
                    // A conductor of another version may not know of ranges, and send all bytes again.
                    if received < 0 { received = status == 206 ? offset : 0 }
                    return received
                }
                guard start + Int64(bytes.count) <= image.sizeBytes else {
                    throw Failure(.imageUnacceptable, "image \(image.id) is longer than its record says")
                }
                let known = Int(clamping: max(0, offset - start))
                if known < bytes.count { try await write(known > 0 ? Array(bytes.dropFirst(known)) : bytes) }
            }
        } catch let error as HTTPClientError {
            throw error.failure
        }
        try check(response, image, upTo: received.withLock { max($0, 0) })
    }

    private func ticket(for image: ImageID, _ use: ImageUse) async throws -> GetImageTicket.Result {
        switch use {
        case .instance(let id):
            try await client.call(GetImageTicket.self, .init(host: host, instance: id, image: image))
        case .cache(let task):
            try await client.call(GetCacheTicket.self, .init(host: host, task: task, image: image))
        }
    }

    private func check(
        _ response: ClientResponse, _ image: ImageReference, upTo end: Int64
    ) throws(Failure) {
        switch response.status {
        case 200, 206:
            guard end == image.sizeBytes else {
                throw Failure(
                    .unreachable, "image \(image.id) broke off after \(end) of \(image.sizeBytes) bytes",
                    isRetriable: true)
            }
        case 404, 410: throw Failure(.imageUnacceptable, "image \(image.id) is gone")
        case 416: throw Failure(.imageUnacceptable, "image \(image.id) is shorter than its record says")
        case 401, 403: throw Failure(.forbidden, "the ticket for image \(image.id) was refused", isRetriable: true)
        default:
            throw Failure(
                .unreachable, "the download of image \(image.id) was answered \(response.status)", isRetriable: true)
        }
    }
}
