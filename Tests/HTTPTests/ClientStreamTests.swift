import Foundation
import HTTP
import Synchronization
import Testing

@Suite("HTTP client, bodies piece by piece", .timeLimit(.minutes(1)))
struct ClientStreamTests {
    private static let size = 3_000_000
    private static let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }

    private func withEcho(_ body: (HTTPServer, HTTPClient) async throws -> Void) async throws {
        try await withServer {
            $0.on(.put, "/", RouteOptions(bodyLimit: 10_000_000, isStreamed: true)) { request in
                let source = request.body.source
                var body: [UInt8] = []
                while let piece = try await source.next() { body += piece }
                return HTTPResponse(200, body: .stream(length: nil, BytesSource(body)))
            }
            $0.on(.put, "/refuse", RouteOptions(bodyLimit: 1 << 40, isStreamed: true)) { _ in .text(403, "no") }
            $0.on(.get, "/") { _ in HTTPResponse(200, body: .stream(length: Int64(Self.size), BytesSource(Self.body))) }
            $0.on(.get, "/error") { _ in .text(404, "gone") }
        } _: { server in
            try await withClient { try await body(server, $0) }
        }
    }

    @Test("A body is streamed there and back", arguments: [Int64(size), nil])
    func echo(length: Int64?) async throws {
        try await withEcho { server, client in
            let received = Mutex<[UInt8]>([])
            let response = try await client.download(
                ClientRequest(
                    method: .put, url: "http://127.0.0.1:\(server.port)/",
                    body: .stream(length: length, BytesSource(Self.body, pieceSize: 10_000)))
            ) { piece in
                received.withLock { $0 += piece }
            }
            #expect(response.status == 200)
            #expect(response.body.isEmpty)
            #expect(received.withLock { $0 == Self.body })
        }
    }

    @Test("A slow sink holds the server back and loses nothing")
    func slowSink() async throws {
        try await withEcho { server, client in
            let received = Mutex<[UInt8]>([])
            let pieces = Atomic<Int>(0)
            _ = try await client.download(ClientRequest(url: "http://127.0.0.1:\(server.port)/")) { piece in
                // Long enough that the buffer fills up in between.
                for _ in 0..<100 { await Task.yield() }
                pieces.add(1, ordering: .relaxed)
                received.withLock { $0 += piece }
            }
            #expect(received.withLock { $0 == Self.body })
            #expect(pieces.load(ordering: .relaxed) > 1)
        }
    }

    @Test("A sink that throws ends the transfer with its own error")
    func failingSink() async throws {
        struct Full: Error, Equatable {}
        try await withEcho { server, client in
            await #expect(throws: Full()) {
                try await client.download(ClientRequest(url: "http://127.0.0.1:\(server.port)/")) { _ in throw Full() }
            }
        }
    }

    @Test("A source that throws ends the transfer")
    func failingSource() async throws {
        struct Gone: Error {}
        try await withEcho { server, client in
            await #expect(throws: HTTPClientError.self) {
                try await client.send(
                    ClientRequest(
                        method: .put, url: "http://127.0.0.1:\(server.port)/",
                        body: .stream(length: nil, ClosureSource { throw Gone() })))
            }
        }
    }

    @Test("An answer that refuses does not wait for a source that has stopped")
    func refusedUpload() async throws {
        try await withEcho { server, client in
            let first = Atomic<Bool>(true)
            let response = try await client.send(
                ClientRequest(
                    method: .put, url: "http://127.0.0.1:\(server.port)/refuse",
                    body: .stream(
                        length: 1 << 39,
                        ClosureSource {
                            if first.exchange(false, ordering: .relaxed) { return [1, 2, 3] }
                            try await Task.sleep(for: .seconds(600))
                            return nil
                        })))
            #expect(response.status == 403)
        }
    }

    @Test("The body of an answer that is no success is collected, not given to the sink")
    func errorBody() async throws {
        try await withEcho { server, client in
            let response = try await client.download(ClientRequest(url: "http://127.0.0.1:\(server.port)/error")) { _ in
                Issue.record("the sink was called")
            }
            #expect(response.status == 404)
            #expect(response.body == Array("gone".utf8))
        }
    }
}
