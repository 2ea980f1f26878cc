internal import Crypto
internal import HTTP
internal import Model
internal import RPC

/// Uploads copies of disks with a ticket from the conductor.
struct ImageUploader: ImageUploading {
    private static let pieceSize = 1_048_576

    let host: HostName
    let client: RPCClient
    let http: HTTPClient
    let allowsPlaintext: Bool

    func upload(
        _ image: ImageID, of instance: InstanceID, length: Int64,
        read: @escaping @Sendable (Int64, Int) async throws -> [UInt8],
        progress: @escaping @Sendable (Int64) async -> Void
    ) async throws {
        let ticket = try await client.call(
            GetImageTicket.self, .init(host: host, instance: instance, image: image, isUpload: true))
        if let stored = ticket.stored {
            guard try await isSame(stored, length, read) else {
                throw Failure(.conflict, "image \(image) has other bytes already")
            }
            return
        }
        guard ticket.url.hasPrefix("https://") || allowsPlaintext || isLoopbackURL(ticket.url) else {
            throw Failure(.forbidden, "image \(image) is asked for in plaintext beyond this machine")
        }
        let source = PieceSource(length: length, pieceSize: Self.pieceSize, read: read, progress: progress)
        let request = ClientRequest(
            method: .put, url: ticket.url,
            headers: ["X-Apus-Ticket": ticket.ticket, "Content-Type": "application/octet-stream"],
            body: .stream(length: length, source), timeout: nil, idleTimeout: .seconds(60))
        let response: ClientResponse
        do {
            response = try await http.send(request)
        } catch {
            // What the disk said is more than that the exchange broke.
            if let failure = await source.failure { throw failure }
            throw error.failure
        }
        try check(response, image)
    }

    private func check(_ response: ClientResponse, _ image: ImageID) throws(Failure) {
        let said = String(decoding: response.body.prefix(300), as: UTF8.self)
        switch response.status {
        case 200..<300: return
        case 404, 410: throw Failure(.notFound, "image \(image) is gone")
        case 400, 413, 415: throw Failure(.imageUnacceptable, "image \(image) was refused: \(said)")
        case 401, 403: throw Failure(.forbidden, "the ticket for image \(image) was refused", isRetriable: true)
        // An attempt before this one may still be on its way, or its end not have been noticed.
        case 409: throw Failure(.conflict, "image \(image) takes no bytes: \(said)", isRetriable: true)
        default:
            throw Failure(
                .unreachable, "the upload of image \(image) was answered \(response.status): \(said)",
                isRetriable: true)
        }
    }

    private func isSame(
        _ stored: GetImageTicket.StoredBytes, _ length: Int64,
        _ read: @Sendable (Int64, Int) async throws -> [UInt8]
    ) async throws -> Bool {
        guard stored.sizeBytes == length else { return false }
        var digest = Digest(.sha512)
        var offset: Int64 = 0
        while offset < length {
            let bytes = try await read(offset, Self.pieceSize)
            guard !bytes.isEmpty else { return false }
            digest.update(bytes)
            offset += Int64(bytes.count)
        }
        return Hex.encode(digest.finish()) == stored.sha512
    }
}

/// A file's bytes, read piece by piece as they are sent.
private actor PieceSource: ByteSource {
    private let length: Int64
    private let pieceSize: Int
    private let read: @Sendable (Int64, Int) async throws -> [UInt8]
    private let progress: @Sendable (Int64) async -> Void
    private var offset: Int64 = 0
    /// What the reading failed with.
    private(set) var failure: Failure?

    init(
        length: Int64, pieceSize: Int, read: @escaping @Sendable (Int64, Int) async throws -> [UInt8],
        progress: @escaping @Sendable (Int64) async -> Void
    ) {
        (self.length, self.pieceSize, self.read, self.progress) = (length, pieceSize, read, progress)
    }

    func next() async throws -> [UInt8]? {
        guard offset < length else { return nil }
        do {
            let bytes = try await read(offset, Int(min(Int64(pieceSize), length - offset)))
            guard !bytes.isEmpty else {
                throw Failure(.storage, "the copy ended after \(offset) of \(length) bytes", isRetriable: true)
            }
            offset += Int64(bytes.count)
            await progress(offset)
            return bytes
        } catch let failure as Failure {
            self.failure = failure
            throw failure
        }
    }
}
