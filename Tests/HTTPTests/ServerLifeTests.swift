import Foundation
import HTTP
import Testing

@Suite("HTTP server under load and at its end", .timeLimit(.minutes(1)))
struct ServerLifeTests {
    @Test("A client that goes away cancels the handler")
    func clientGone() async throws {
        let (started, cancelled) = (Gate(), Gate())
        try await withServer {
            $0.on(.get, "/") { _ in
                await started.open()
                try? await Task.sleep(for: .seconds(60))
                if Task.isCancelled { await cancelled.open() }
                return HTTPResponse(204)
            }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await started.pass()
            connection.shutDown()
            await cancelled.pass()
        }
    }

    @Test("Requests beyond the limit are answered with 503 and Retry-After while others run")
    func concurrency() async throws {
        let (started, release) = (Gate(), Gate())
        try await withServer(ServerConfiguration(maxConcurrentRequests: 1)) {
            $0.on(.get, "/") { _ in
                await started.open()
                await release.pass()
                return .text(200, "done")
            }
        } _: { server in
            let first = try await RawConnection.open(port: server.port)
            try await first.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await started.pass()
            let second = try await RawConnection.open(port: server.port)
            try await second.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            let refusal = try await second.receiveAnswer()
            #expect(refusal.hasPrefix("HTTP/1.1 503"))
            #expect(refusal.contains("Retry-After: 1"))
            await release.open()
            #expect(try await first.receiveAnswer().hasSuffix("done"))
        }
    }

    @Test("A handler that takes too long is cancelled and answered with 503")
    func handlerDeadline() async throws {
        let cancelled = Gate()
        try await withServer(ServerConfiguration(requestTimeout: .milliseconds(200))) {
            $0.on(.get, "/") { _ in
                try? await Task.sleep(for: .seconds(60))
                if Task.isCancelled { await cancelled.open() }
                return HTTPResponse(204)
            }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasPrefix("HTTP/1.1 503"))
            await cancelled.pass()
        }
    }

    @Test(
        "A request that is not delivered in time loses its connection",
        arguments: [
            "", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
        ])
    func slowClient(start: String) async throws {
        let configuration = ServerConfiguration(idleTimeout: .milliseconds(200), requestTimeout: .milliseconds(200))
        try await withServer(configuration) {
            $0.on(.post, "/") { .text(200, "\($0.bytes.count)") }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send(start)
            #expect(try await connection.receiveAll() == "")
        }
    }

    @Test("Stopping lets a running request end and closes what is idle")
    func gracefulStop() async throws {
        let (started, release) = (Gate(), Gate())
        var router = Router()
        router.on(.get, "/") { _ in
            await started.open()
            await release.pass()
            return .text(200, "finished")
        }
        let server = HTTPServer(ServerConfiguration(), router: router)
        try server.start()
        let idle = try await RawConnection.open(port: server.port)
        let connection = try await RawConnection.open(port: server.port)
        try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.pass()
        async let stopped: Void = server.stop(grace: .seconds(20))
        await release.open()
        let answer = try await connection.receiveAll()
        #expect(answer.hasPrefix("HTTP/1.1 200"))
        #expect(answer.hasSuffix("finished"))
        await stopped
        #expect(try await idle.receiveAll() == "")
    }

    @Test("Stopping without grace cancels handlers and breaks connections off")
    func hardStop() async throws {
        let (started, cancelled) = (Gate(), Gate())
        var router = Router()
        router.on(.get, "/") { _ in
            await started.open()
            try? await Task.sleep(for: .seconds(60))
            await cancelled.open()
            return HTTPResponse(204)
        }
        router.on(.put, "/", RouteOptions(isStreamed: true)) { request in
            while try await request.body.source.next() != nil {}
            return HTTPResponse(204)
        }
        let server = HTTPServer(ServerConfiguration(threads: 2), router: router)
        try server.start()
        let connection = try await RawConnection.open(port: server.port)
        let upload = try await RawConnection.open(port: server.port)
        try await upload.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
        try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.pass()
        await server.stop(grace: .zero)
        await cancelled.pass()
        #expect(try await connection.receiveAll() == "")
        #expect(try await upload.receiveAll() == "")
    }

    @Test("A server that is let go of without being stopped ends its threads")
    func letGo() async throws {
        let connection: RawConnection
        do {
            let server = HTTPServer(ServerConfiguration(), router: Router())
            try server.start()
            connection = try await RawConnection.open(port: server.port)
            try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasPrefix("HTTP/1.1 404"))
        }
        #expect(try await connection.receiveAll() == "")
    }

    @Test("Many connections at once are all answered, by several event threads")
    func many() async throws {
        try await withServer(ServerConfiguration(threads: 2)) {
            $0.on(.post, "/{n}") { .text(200, "\($0.parameters["n"] ?? "") \($0.bytes.count)") }
        } _: { server in
            try await withThrowingTaskGroup { group in
                for number in 0..<40 {
                    group.addTask {
                        let connection = try await RawConnection.open(port: server.port)
                        for round in 0..<5 {
                            let body = String(repeating: "x", count: number * 100 + round)
                            try await connection.send(
                                "POST /\(number) HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.count)\r\n\r\n\(body)")
                            let answer = try await connection.receiveAnswer()
                            #expect(answer.hasSuffix("\r\n\(number) \(body.count)"))
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }
}
