import Crypto
import Database
import Foundation
import HTTP
import Model
import RPC
import Synchronization
import Telemetry
import Testing

@testable import Conductor

@Suite("Notifications reach their sinks", .timeLimit(.minutes(2)))
struct NotificationTests {
    private static func notification(_ position: Int64, _ body: String = "{}") -> WaitingNotification {
        WaitingNotification(position: position, subject: "s", body: body)
    }

    @Test("A file gets whole lines, and what a crash has cut off is cut away")
    func file() async throws {
        let path = NSTemporaryDirectory() + "apus-notifications-" + makeUUID()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let sink = FileSink(path: path, files: BlockingExecutor(name: "test", threads: 1))
        #expect(try await sink.deliver([Self.notification(1, #"{"a":1}"#), Self.notification(2, #"{"a":2}"#)]) == 2)
        let handle = try #require(FileHandle(forWritingAtPath: path))
        try handle.seekToEnd()
        try handle.write(contentsOf: Data(#"{"a":"#.utf8))
        try handle.close()
        #expect(try await sink.deliver([Self.notification(3, #"{"a":3}"#)]) == 1)
        #expect(try String(contentsOfFile: path, encoding: .utf8) == #"{"a":1}\#n{"a":2}\#n{"a":3}\#n"#)
        let absent = FileSink(path: "/nowhere/at/all", files: BlockingExecutor(name: "test", threads: 1))
        await #expect(throws: Failure.self) { try await absent.deliver([Self.notification(1)]) }
    }

    /// A server that answers as it is told and keeps what it was sent.
    private final class Hook: Sendable {
        struct Post: Sendable {
            var body: String
            var signature: String?
        }
        let posts = Mutex<[Post]>([])
        let statuses: Mutex<[Int]>
        private let server = Mutex<HTTPServer?>(nil)

        init(_ statuses: [Int]) throws {
            self.statuses = Mutex(statuses)
            var router = Router()
            router.on(.post, "/hook") { request in
                self.posts.withLock {
                    $0.append(
                        Post(
                            body: String(decoding: request.bytes, as: UTF8.self),
                            signature: request.headers["X-Apus-Signature"]))
                }
                return HTTPResponse(self.statuses.withLock { $0.isEmpty ? 204 : $0.removeFirst() })
            }
            let made = HTTPServer(ServerConfiguration(port: 0), router: router)
            try made.start()
            server.withLock { $0 = made }
        }

        var url: String { "http://127.0.0.1:\(server.withLock { $0?.port } ?? 0)/hook" }
        func stop() async { await server.withLock { $0 }?.stop(grace: .zero) }
    }

    @Test("A webhook gets each with its signature, in order, and no further one before it has taken one")
    func webhook() async throws {
        let (hook, http) = (try Hook([200, 500]), HTTPClient())
        let secret = Array("0123456789abcdef".utf8)
        let sink = WebhookSink(url: hook.url, secret: secret, http: http)
        let waiting = (1...3).map { Self.notification($0, #"{"n":\#($0)}"#) }
        #expect(try await sink.deliver(waiting) == 1)
        #expect(hook.posts.withLock { $0.map(\.body) } == [#"{"n":1}"#, #"{"n":2}"#])
        #expect(try await sink.deliver(Array(waiting[1...])) == 2)
        let last = try #require(hook.posts.withLock { $0.last })
        #expect(last.body == #"{"n":3}"#)
        #expect(last.signature == "sha256=" + Hex.encode(hmacSHA256(key: secret, Array(last.body.utf8))))
        hook.statuses.withLock { $0 = [503] }
        await #expect(throws: Failure.self) { try await sink.deliver(waiting) }
        await http.shutdown()
        await hook.stop()
    }

    @Test("A conductor tells what its servers go through, in order, also what failed to be told at first")
    func conductor() async throws {
        let hook = try Hook([500, 503])
        let path = NSTemporaryDirectory() + "apus-notifications-" + makeUUID()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try await ControlPlane.with(settings: [
            "notifications.file": path, "notifications.webhook_url": hook.url,
        ]) { plane in
            let host = try await plane.addHost("one")
            let server = try await plane.running()
            _ = try await plane.delete(server.id)
            let wanted = [
                "instance.create.start", "instance.create.end", "instance.delete.start", "instance.delete.end",
            ]
            // The services that are new are told as well, whenever they are first heard of.
            func types(_ bodies: [String]) throws -> [String] {
                try bodies.map { try JSON(parsing: Array($0.utf8))["event_type"]?.text ?? "" }
                    .filter { $0.hasPrefix("instance.") }
            }
            _ = try await eventually("the webhook to have all") {
                let bodies = hook.posts.withLock { $0.map(\.body) }
                return try types(bodies).last == wanted.last ? true : nil
            }
            // The first was refused twice, and came again before any other.
            let bodies = hook.posts.withLock { $0.map(\.body) }
            #expect(bodies[0] == bodies[1] && bodies[1] == bodies[2])
            #expect(try types(Array(bodies[2...])) == wanted)
            let lines = try await eventually("the file to have all") {
                let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
                return try types(lines).last == wanted.last ? lines : nil
            }
            #expect(lines == Array(bodies[2...]))
            await host.stop()
        }
        await hook.stop()
    }
}
