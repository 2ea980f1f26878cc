import Foundation
import HTTP
import Testing

/// A server on a free port for the length of `body`.
func withServer(
    _ configuration: ServerConfiguration = ServerConfiguration(name: "test"), grace: Duration = .seconds(5),
    _ build: (inout Router) -> Void, _ body: (HTTPServer) async throws -> Void
) async throws {
    var router = Router()
    build(&router)
    let server = HTTPServer(configuration, router: router)
    try server.start()
    do {
        try await body(server)
    } catch {
        await server.stop(grace: .zero)
        throw error
    }
    await server.stop(grace: grace)
}

@Suite("HTTP server", .timeLimit(.minutes(1)))
struct ServerTests {
    @Test("A connection serves one request after another, pipelined ones too")
    func keepAlive() async throws {
        try await withServer {
            $0.on(.get, "/hello/{name}") { .text(200, "hello " + ($0.parameters["name"] ?? "")) }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send(
                "GET /hello/a%20b HTTP/1.1\r\nHost: x\r\n\r\nGET /hello/second?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n\r\nhello a b"))
            #expect(try await connection.receiveAnswer().hasSuffix("hello second"))
            try await connection.send("GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(try await connection.receiveAll().hasPrefix("HTTP/1.1 404"))
        }
    }

    @Test("The handler sees method, query, headers, body and the client's address")
    func requestValues() async throws {
        try await withServer {
            $0.on(.post, "/a") { request in
                let text = [
                    request.method.rawValue, request.query["q"] ?? "", request.rawQuery, request.headers["x-one"] ?? "",
                    String(decoding: request.bytes, as: UTF8.self), request.remoteAddress, "\(request.isTLS)",
                ]
                return .text(201, text.joined(separator: "|"), headers: ["X-Two": "2"])
            }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send(
                "POST /a?q=%C3%A9+z HTTP/1.1\r\nHost: x\r\nX-One: one\r\nContent-Length: 4\r\n\r\nbody")
            let answer = try await connection.receiveAnswer()
            #expect(answer.hasPrefix("HTTP/1.1 201"))
            #expect(answer.contains("X-Two: 2\r\n"))
            #expect(answer.hasSuffix("POST|é z|q=%C3%A9+z|one|body|127.0.0.1|false"))
        }
    }

    @Test("A chunked body is put together, and HEAD gets the headers of GET alone")
    func chunkedAndHead() async throws {
        try await withServer {
            $0.on(.put, "/") { .text(200, "\($0.bytes.count)") }
            $0.on(.get, "/") { _ in .text(200, "12345") }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send(
                "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n8"))
            try await connection.send("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            let head = try await connection.receiveAll()
            #expect(head.contains("Content-Length: 5"))
            #expect(head.hasSuffix("\r\n\r\n"))
        }
    }

    @Test("A body over the limit is answered with 413, whether its length is announced or not")
    func bodyLimit() async throws {
        try await withServer {
            $0.on(.post, "/", RouteOptions(bodyLimit: 10)) { .text(200, "\($0.bytes.count)") }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789")
            #expect(try await connection.receiveAnswer().hasPrefix("HTTP/1.1 200"))

            let body = String(repeating: "x", count: 300_000)
            try await connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + body)
            #expect(try await connection.receiveAnswer().hasPrefix("HTTP/1.1 413"))

            let chunked = try await RawConnection.open(port: server.port)
            try await chunked.send(
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n\(body)\r\n0\r\n\r\n")
            #expect(try await chunked.receiveAnswer().hasPrefix("HTTP/1.1 413"))

            let polite = try await RawConnection.open(port: server.port)
            try await polite.send(
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
            #expect(try await polite.receiveAll().hasPrefix("HTTP/1.1 413"))

            let endless = try await RawConnection.open(port: server.port)
            try await endless.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            #expect(try await endless.receiveAll().hasPrefix("HTTP/1.1 413"))
        }
    }

    @Test(
        "A request that could hide another one is refused",
        arguments: [
            "Content-Length: 3\r\nContent-Length: 4", "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Content-Length: -3", "Content-Length: x", "Content-Length: 99999999999999999999",
        ])
    func smuggling(headers: String) async throws {
        try await withServer {
            $0.on(.post, "/") { _ in .text(200, "reached") }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("POST / HTTP/1.1\r\nHost: x\r\n\(headers)\r\n\r\n0\r\n\r\n")
            let answer = try await connection.receiveAll()
            #expect(answer.hasPrefix("HTTP/1.1 4"), "\(answer)")
            #expect(!answer.contains("reached"))
        }
    }

    @Test("Headers over the limit are refused")
    func headerLimit() async throws {
        try await withServer {
            $0.on(.get, "/") { _ in .text(200, "ok") }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send(
                "GET / HTTP/1.1\r\nHost: x\r\nX: " + String(repeating: "y", count: 100_000) + "\r\n\r\n")
            #expect(try await connection.receiveAll().hasPrefix("HTTP/1.1 431"))
        }
    }

    @Test("A response with a header that would smuggle another one becomes a 500")
    func responseSplitting() async throws {
        try await withServer {
            $0.on(.get, "/") { _ in .text(200, "ok", headers: ["Location": "/a\r\nSet-Cookie: x"]) }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            let answer = try await connection.receiveAnswer()
            #expect(answer.hasPrefix("HTTP/1.1 500"))
            #expect(!answer.contains("Set-Cookie"))
        }
    }

    @Test("A port in use is named")
    func portInUse() async throws {
        try await withServer { _ in
        } _: { server in
            let second = HTTPServer(ServerConfiguration(port: server.port), router: Router())
            #expect(throws: HTTPServerError.portInUse(address: "127.0.0.1", port: server.port)) { try second.start() }
            #expect(throws: HTTPServerError.alreadyStarted) { try server.start() }
            let odd = HTTPServer(ServerConfiguration(address: "nowhere.example"), router: Router())
            #expect(throws: HTTPServerError.badAddress("nowhere.example")) { try odd.start() }
        }
    }

    @Test("IPv6 addresses are given as text, and IPv4 clients of an IPv6 socket keep their address")
    func ipv6() async throws {
        try await withServer(ServerConfiguration(address: "::")) {
            $0.on(.get, "/") { .text(200, $0.remoteAddress) }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n127.0.0.1"))
        }
    }
}
