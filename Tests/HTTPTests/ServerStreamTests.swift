import Foundation
import HTTP
import Synchronization
import Testing

@Suite("HTTP server, bodies piece by piece", .timeLimit(.minutes(1)))
struct ServerStreamTests {
    @Test("A streamed body reaches the handler whole and in order, held back while the handler is slow")
    func upload() async throws {
        let size = 3_000_000
        try await withServer {
            $0.on(.put, "/", RouteOptions(bodyLimit: 10_000_000, isStreamed: true)) { request in
                let source = request.body.source
                var (count, isOrdered) = (0, true)
                while let piece = try await source.next() {
                    for byte in piece {
                        isOrdered = isOrdered && byte == UInt8(truncatingIfNeeded: count)
                        count += 1
                    }
                    await Task.yield()
                }
                return .text(200, "\(count) \(isOrdered)")
            }
        } _: { server in
            let body = (0..<size).map { UInt8(truncatingIfNeeded: $0) }
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: \(size)\r\n\r\n")
            try await connection.send(body)
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n\(size) true"))
            // The connection serves on.
            try await connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n0 true"))
        }
    }

    @Test("A handler that refuses before it reads is heard, whether the client waits for a word or not")
    func earlyAnswer() async throws {
        try await withServer {
            $0.on(.put, "/", RouteOptions(bodyLimit: 1 << 30, isStreamed: true)) { _ in .text(401, "no") }
        } _: { server in
            let polite = try await RawConnection.open(port: server.port)
            try await polite.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
            #expect(try await polite.receiveAll().hasPrefix("HTTP/1.1 401"))
            let rash = try await RawConnection.open(port: server.port)
            try await rash.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
            try await rash.send([UInt8](repeating: 1, count: 2_000_000))
            #expect(try await rash.receiveAnswer().hasPrefix("HTTP/1.1 401"))
        }
    }

    @Test("A client that waits for 100 Continue gets it when the handler wants the body")
    func expectContinue() async throws {
        try await withServer {
            $0.on(.put, "/", RouteOptions(isStreamed: true)) { request in
                .text(200, "\(try await request.body.source.next()?.count ?? 0)")
            }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            #expect(try await connection.receive(until: "\r\n\r\n").hasPrefix("HTTP/1.1 100"))
            try await connection.send("abc")
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n3"))
        }
    }

    @Test("A streamed body over the limit, or cut short, is an error for the handler")
    func brokenUploads() async throws {
        let seen = Mutex<[String]>([])
        let cut = Gate()
        try await withServer {
            $0.on(.put, "/", RouteOptions(bodyLimit: 100, isStreamed: true)) { request in
                do {
                    let source = request.body.source
                    while try await source.next() != nil {}
                    return HTTPResponse(204)
                } catch {
                    seen.withLock { $0.append("\(error)") }
                    if error as? RequestBodyError == .disconnected { await cut.open() }
                    throw error
                }
            }
        } _: { server in
            let large = try await RawConnection.open(port: server.port)
            try await large.send(
                "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n"
                    + String(repeating: "x", count: 256) + "\r\n0\r\n\r\n")
            #expect(try await large.receiveAnswer().hasPrefix("HTTP/1.1 413"))
            let short = try await RawConnection.open(port: server.port)
            try await short.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc")
            short.shutDown()
            await cut.pass()
            #expect(seen.withLock { $0 } == ["tooLarge(limit: 100)", "disconnected"])
        }
    }

    @Test("A response body from a source arrives whole, with its length or in chunks")
    func download() async throws {
        let size = 2_000_000
        let body = (0..<size).map { UInt8(ascii: "a") + UInt8($0 % 26) }
        try await withServer {
            $0.on(.get, "/known") { _ in
                HTTPResponse(200, body: .stream(length: Int64(size), BytesSource(body, pieceSize: 70_000)))
            }
            $0.on(.get, "/unknown") { _ in
                HTTPResponse(200, body: .stream(length: nil, BytesSource(body, pieceSize: 1_000)))
            }
        } _: { server in
            let known = try await RawConnection.open(port: server.port)
            try await known.send("GET /known HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await known.receiveAnswer().hasSuffix("\r\n\r\n" + String(decoding: body, as: UTF8.self)))
            try await known.send("HEAD /known HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await known.receive(until: "\r\n\r\n").contains("Content-Length: \(size)"))
            try await known.send("GET /unknown HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            let answer = try await known.receiveAll()
            #expect(answer.contains("Transfer-Encoding: chunked"))
            #expect(answer.utf8.count > size)
            #expect(answer.hasSuffix("0\r\n\r\n"))
        }
    }

    @Test("A source that fails breaks the connection off, so that half is not taken for the whole")
    func brokenDownload() async throws {
        struct Gone: Error {}
        try await withServer {
            $0.on(.get, "/") { _ in
                let first = Atomic<Bool>(true)
                return HTTPResponse(
                    200,
                    body: .stream(
                        length: nil,
                        ClosureSource {
                            if first.exchange(false, ordering: .relaxed) { return Array("begin".utf8) }
                            throw Gone()
                        }))
            }
            $0.on(.get, "/short") { _ in HTTPResponse(200, body: .stream(length: 10, BytesSource([1, 2, 3]))) }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            let answer = try await connection.receiveAll()
            #expect(answer.contains("begin"))
            #expect(!answer.hasSuffix("0\r\n\r\n"))
            let short = try await RawConnection.open(port: server.port)
            try await short.send("GET /short HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await short.receiveAll().hasSuffix("\r\n\r\n\u{1}\u{2}\u{3}"))
        }
    }

    @Test("A client that leaves in the middle of a download stops the source")
    func abandonedDownload() async throws {
        let stopped = Gate()
        try await withServer {
            $0.on(.get, "/") { _ in
                let first = Atomic<Bool>(true)
                return HTTPResponse(
                    200,
                    body: .stream(
                        length: nil,
                        ClosureSource {
                            if first.exchange(false, ordering: .relaxed) { return [1] }
                            do {
                                try await Task.sleep(for: .seconds(60))
                                return [1]
                            } catch {
                                await stopped.open()
                                throw error
                            }
                        }))
            }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            // With the first piece here the source has been asked for the second.
            _ = try await connection.receive(until: "\u{1}\r\n")
            connection.shutDown()
            await stopped.pass()
        }
    }

    @Test("A file is sent from disk; one that is not there is a 500")
    func file() async throws {
        let path = NSTemporaryDirectory() + "/apus-http-\(UUID().uuidString)"
        let text = String(repeating: "0123456789", count: 50_000)
        try Data(text.utf8).write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        try await withServer {
            $0.on(.get, "/all") { _ in HTTPResponse(200, body: .file(path: path, length: 500_000)) }
            $0.on(.get, "/part") { _ in HTTPResponse(200, body: .file(path: path, length: 7)) }
            $0.on(.get, "/middle") { _ in HTTPResponse(206, body: .file(path: path, offset: 13, length: 4)) }
            $0.on(.get, "/beyond") { _ in HTTPResponse(206, body: .file(path: path, offset: 499_999, length: 2)) }
            $0.on(.get, "/long") { _ in HTTPResponse(200, body: .file(path: path, length: 500_001)) }
            $0.on(.get, "/none") { _ in HTTPResponse(200, body: .file(path: path + "x", length: 1)) }
            $0.on(.get, "/folder") { _ in HTTPResponse(200, body: .file(path: "/", length: 0)) }
        } _: { server in
            let connection = try await RawConnection.open(port: server.port)
            try await connection.send("GET /all HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n\r\n" + text))
            try await connection.send("GET /part HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n\r\n0123456"))
            try await connection.send("GET /middle HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await connection.receiveAnswer().hasSuffix("\r\n\r\n3456"))
            for path in ["/long", "/beyond", "/none", "/folder"] {
                try await connection.send("GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n")
                #expect(try await connection.receiveAnswer().hasPrefix("HTTP/1.1 500"))
            }
        }
    }
}
