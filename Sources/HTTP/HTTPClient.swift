/// An HTTP/1.1 client: one thread drives all its transfers (libcurl's multi interface), connections are kept alive.
/// Follows no redirects, uses no proxy, speaks http and https only.
public final class HTTPClient: Sendable {
    private let loop: TransferLoop

    /// - Parameters:
    ///   - maxConnectionsPerHost: further requests to the same host wait for a connection.
    public init(tls: ClientTLS = ClientTLS(), maxConnectionsPerHost: Int = 16) {
        loop = TransferLoop(tls: tls, maxConnectionsPerHost: maxConnectionsPerHost)
    }

    /// Sends a request and collects its answer, whatever the status.
    public func send(_ request: ClientRequest) async throws(HTTPClientError) -> ClientResponse {
        do {
            return try await perform(request, sink: nil)
        } catch let error as HTTPClientError {
            throw error
        } catch {
            throw .aborted(url: request.url, reason: "\(error)")
        }
    }

    /// Sends a request and hands a 2xx answer's body to `sink` piece by piece; the sender is held back while `sink`
    /// works. The body of any other answer is collected, up to the request's `responseLimit`.
    ///
    /// - Throws: `HTTPClientError`, or what `sink` or the request's own source threw.
    public func download(
        _ request: ClientRequest, _ sink: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws -> ClientResponse {
        try await perform(request, sink: sink)
    }

    /// Ends the client; transfers that are under way fail as cancelled.
    public func shutdown() async { await loop.stop() }

    private func perform(
        _ request: ClientRequest, sink: (@Sendable ([UInt8]) async throws -> Void)?
    ) async throws -> ClientResponse {
        let transfer = Transfer(request, isStreaming: sink != nil)
        // A client that is asked once in a while needs no task group: only streams do.
        guard sink != nil || transfer.upload != nil else { return try await loop.run(transfer) }
        return try await withThrowingTaskGroup(of: ClientResponse?.self) { group in
            group.addTask { try await self.loop.run(transfer) }
            if case .stream(_, let source) = request.body, let upload = transfer.upload {
                group.addTask {
                    do {
                        while let piece = try await source.next() {
                            guard await upload.put(piece) else { break }
                            self.loop.resume(transfer)
                        }
                        upload.end()
                    } catch {
                        upload.fail(error)
                        self.loop.resume(transfer)
                        throw error
                    }
                    self.loop.resume(transfer)
                    return nil
                }
            }
            if let sink, let download = transfer.download {
                group.addTask {
                    while let piece = try await download.next() {
                        self.loop.resume(transfer)
                        try await sink(piece)
                    }
                    return nil
                }
            }
            var response: ClientResponse?
            do {
                while let result = try await group.next() {
                    if let result {
                        response = result
                        // The answer is complete; a server need not read all of a body that it refuses.
                        transfer.upload?.close()
                    }
                }
            } catch {
                group.cancelAll()
                transfer.upload?.close()
                transfer.download?.close()
                throw error
            }
            guard let response else { throw HTTPClientError.aborted(url: request.url, reason: "no answer") }
            return response
        }
    }
}
