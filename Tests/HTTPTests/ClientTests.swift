import Crypto
import Foundation
import HTTP
import Model
import Synchronization
import Testing

/// A client for the length of `body`.
func withClient(_ tls: ClientTLS = ClientTLS(), _ body: (HTTPClient) async throws -> Void) async throws {
    let client = HTTPClient(tls: tls)
    do {
        try await body(client)
    } catch {
        await client.shutdown()
        throw error
    }
    await client.shutdown()
}

extension HTTPClient {
    /// Why the request fails; `nil` when it does not.
    func failure(of request: ClientRequest) async -> HTTPClientError? {
        do {
            _ = try await send(request)
            return nil
        } catch {
            return error
        }
    }
}

@Suite("HTTP client", .timeLimit(.minutes(1)))
struct ClientTests {
    @Test("A request arrives as it was made, and the answer comes back whole")
    func roundTrip() async throws {
        try await withServer {
            $0.on(.patch, "/a/{b}") { request in
                let seen = [
                    request.method.rawValue, request.parameters["b"] ?? "", request.query["q"] ?? "",
                    request.headers["X-One"] ?? "", request.headers["X-Empty"].map { "<\($0)>" } ?? "none",
                    request.headers["Expect"] ?? "-", request.headers["Accept"] ?? "-",
                    String(decoding: request.bytes, as: UTF8.self),
                ]
                return .text(418, seen.joined(separator: "|"), headers: ["X-Two": " two "])
            }
        } _: { server in
            try await withClient { client in
                let response = try await client.send(
                    ClientRequest(
                        method: .patch, url: "http://127.0.0.1:\(server.port)/a/x%20y?q=%26",
                        headers: ["X-One": "one", "X-Empty": ""], body: .bytes(Array("body".utf8))))
                #expect(response.status == 418)
                #expect(response.headers["x-two"] == "two")
                #expect(String(decoding: response.body, as: UTF8.self) == "PATCH|x y|&|one|<>|-|-|body")
            }
        }
    }

    @Test(
        "Every method works with a body and without",
        arguments: [HTTPMethod.get, .post, .put, .patch, .delete, .options], [0, 3, 100_000])
    func methods(method: HTTPMethod, size: Int) async throws {
        try await withServer {
            $0.on(method, "/") { .text(200, "\($0.bytes.count)") }
        } _: { server in
            try await withClient { client in
                let body = ClientBody.bytes([UInt8](repeating: 7, count: size))
                for body in size == 0 ? [body, .none] : [body] {
                    let response = try await client.send(
                        ClientRequest(method: method, url: "http://127.0.0.1:\(server.port)/", body: body))
                    #expect(String(decoding: response.body, as: UTF8.self) == "\(size)")
                }
            }
        }
    }

    @Test("HEAD, an empty answer and a redirect are taken as they are")
    func plainAnswers() async throws {
        try await withServer {
            $0.on(.get, "/") { _ in .text(200, "12345") }
            $0.on(.delete, "/") { _ in HTTPResponse(204) }
            $0.on(.get, "/moved") { _ in HTTPResponse(302, headers: ["Location": "/"]) }
        } _: { server in
            try await withClient { client in
                let base = "http://127.0.0.1:\(server.port)"
                let head = try await client.send(ClientRequest(method: .head, url: base + "/"))
                #expect(head.body.isEmpty)
                #expect(head.headers["Content-Length"] == "5")
                #expect(try await client.send(ClientRequest(method: .delete, url: base + "/")).status == 204)
                #expect(try await client.send(ClientRequest(url: base + "/moved")).status == 302)
            }
        }
    }

    @Test("Requests at the same time share few connections, one after another even one")
    func keepAlive() async throws {
        let ports = Mutex<Set<String>>([])
        try await withServer {
            $0.on(.get, "/") { request in
                _ = ports.withLock { $0.insert(request.headers["X-N"] ?? "") }
                return HTTPResponse(200)
            }
        } _: { server in
            let client = HTTPClient(maxConnectionsPerHost: 2)
            try await withThrowingTaskGroup { group in
                for number in 0..<50 {
                    group.addTask {
                        let response = try await client.send(
                            ClientRequest(url: "http://127.0.0.1:\(server.port)/", headers: ["X-N": "\(number)"]))
                        #expect(response.status == 200)
                    }
                }
                try await group.waitForAll()
            }
            #expect(ports.withLock { $0.count } == 50)
            await client.shutdown()
        }
    }

    @Test("A body over the response limit is refused")
    func responseLimit() async throws {
        try await withServer {
            $0.on(.get, "/") { _ in HTTPResponse(200, body: .bytes([UInt8](repeating: 1, count: 2_000))) }
        } _: { server in
            try await withClient { client in
                let url = "http://127.0.0.1:\(server.port)/"
                let response = try await client.send(ClientRequest(url: url, responseLimit: 2_000))
                #expect(response.body.count == 2_000)
                await #expect(throws: HTTPClientError.tooLarge(url: url, limit: 1_999)) {
                    try await client.send(ClientRequest(url: url, responseLimit: 1_999))
                }
            }
        }
    }

    @Test("Nobody listening is a failure to connect, which may be tried again")
    func refused() async throws {
        try await withClient { client in
            let error = await client.failure(of: ClientRequest(url: "http://127.0.0.1:1/"))
            guard case .connectFailed = error else { throw try #require(error) }
            #expect(error?.failure.kind == .unreachable)
            #expect(error?.failure.isRetriable == true)
        }
    }

    @Test(
        "What is no URL of http or https is refused before anything is sent",
        arguments: [
            "", "/path", "ftp://127.0.0.1/", "file:///etc/passwd", "http://a b/", "http://x/\r\nHost: y", "gopher://x",
        ])
    func badURL(url: String) async throws {
        try await withClient { client in
            #expect(await client.failure(of: ClientRequest(url: url)) == .badURL(url))
        }
    }

    @Test("A header that would smuggle another one is refused")
    func headerInjection() async throws {
        try await withClient { client in
            for headers in [HTTPFields(["X": "a\r\nY: b"]), ["X: y\r\nZ": "b"], ["": "x"]] {
                await #expect(throws: HTTPClientError.self) {
                    try await client.send(ClientRequest(url: "http://127.0.0.1:1/", headers: headers))
                }
            }
        }
    }

    @Test("An answer that does not come in time is a timeout")
    func timeout() async throws {
        try await withServer {
            $0.on(.get, "/") { _ in
                try? await Task.sleep(for: .seconds(60))
                return HTTPResponse(200)
            }
        } _: { server in
            try await withClient { client in
                let url = "http://127.0.0.1:\(server.port)/"
                await #expect(throws: HTTPClientError.timedOut(url: url)) {
                    try await client.send(ClientRequest(url: url, timeout: .milliseconds(100)))
                }
                await #expect(throws: HTTPClientError.timedOut(url: url)) {
                    try await client.send(ClientRequest(url: url, timeout: nil, idleTimeout: .milliseconds(100)))
                }
            }
        }
    }

    @Test("Cancelling the task ends the request, and the server hears of it")
    func cancellation() async throws {
        let (started, cancelled) = (Gate(), Gate())
        try await withServer {
            $0.on(.get, "/") { _ in
                await started.open()
                try? await Task.sleep(for: .seconds(60))
                await cancelled.open()
                return HTTPResponse(200)
            }
        } _: { server in
            try await withClient { client in
                let url = "http://127.0.0.1:\(server.port)/"
                let task = Task { try await client.send(ClientRequest(url: url)) }
                await started.pass()
                task.cancel()
                await #expect(throws: HTTPClientError.cancelled(url: url)) { try await task.value }
                await cancelled.pass()
            }
        }
    }

    @Test("A server that breaks off in the middle of an answer is an error")
    func brokenAnswer() async throws {
        try await withServer {
            $0.on(.get, "/") { _ in HTTPResponse(200, body: .stream(length: 10, BytesSource([1, 2, 3]))) }
        } _: { server in
            try await withClient { client in
                let error = await client.failure(of: ClientRequest(url: "http://127.0.0.1:\(server.port)/"))
                guard case .aborted = error else { throw try #require(error) }
            }
        }
    }

    @Test("After its shutdown a client refuses; letting go of one ends its thread")
    func shutdown() async throws {
        let client = HTTPClient()
        await client.shutdown()
        await client.shutdown()
        await #expect(throws: HTTPClientError.cancelled(url: "http://127.0.0.1:1/")) {
            try await client.send(ClientRequest(url: "http://127.0.0.1:1/"))
        }
    }
}
