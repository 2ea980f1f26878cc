import Crypto
import HTTP
import Model
import RPC
import Synchronization
import Telemetry
import Testing

@testable import Compute

/// A conductor that gives tickets, and an image server that breaks off and may know of ranges or not.
private final class BreakingServer: Sendable {
    let bytes: [UInt8]
    private let knowsRanges: Bool
    private let breaksAfter: Int?
    private let ranges = Mutex<[String?]>([])
    private let server = Mutex<HTTPServer?>(nil)
    private let http = HTTPClient()

    struct Broken: Error {}

    /// One piece, then nothing more, or an error.
    private final class Source: ByteSource {
        private let pieces: Mutex<[[UInt8]]>
        private let breaks: Bool

        init(_ bytes: [UInt8], breaks: Bool) {
            pieces = Mutex([bytes])
            self.breaks = breaks
        }

        func next() async throws -> [UInt8]? {
            let piece = pieces.withLock { $0.popLast() }
            if piece == nil, breaks { throw Broken() }
            return piece
        }
    }

    private struct Anybody: PeerVerifier {
        func verify(peer: String, secret: String) async throws -> Peer? { .host(HostName("host1")) }
    }

    init(_ bytes: [UInt8], knowsRanges: Bool, breaksAfter: Int?) throws {
        (self.bytes, self.knowsRanges, self.breaksAfter) = (bytes, knowsRanges, breaksAfter)
        let rpc = RPCServer(
            name: "conductor", verifier: Anybody(), idempotency: MemoryIdempotencyStore(), now: WallClock.now)
        rpc.register(GetImageTicket.self, allowed: [.host]) { params, _ in
            GetImageTicket.Result(
                url: self.url + "/images/\(params.image)", ticket: "ticket", expiresAt: WallClock.now() + .seconds(60))
        }
        var router = Router()
        rpc.mount(on: &router)
        router.on(.get, "/images/{id}") { self.answer($0) }
        let http = HTTPServer(ServerConfiguration(port: 0), router: router)
        try http.start()
        server.withLock { $0 = http }
    }

    private var url: String { "http://127.0.0.1:\(server.withLock { $0?.port } ?? 0)" }
    var asked: [String?] { ranges.withLock { $0 } }

    private func answer(_ request: HTTPRequest) -> HTTPResponse {
        let range = request.headers["Range"]
        ranges.withLock { $0.append(range) }
        let start = knowsRanges ? range.flatMap { Int($0.dropFirst("bytes=".count).dropLast()) } ?? 0 : 0
        let rest = Array(bytes[start...])
        let piece = Array(rest.prefix(breaksAfter ?? rest.count))
        return HTTPResponse(
            start > 0 ? 206 : 200,
            body: .stream(length: Int64(rest.count), Source(piece, breaks: piece.count < rest.count)))
    }

    /// What a fetch from `offset` gives, and how it ends.
    func fetch(from offset: Int64) async -> (bytes: [UInt8], failure: Failure?) {
        let peer = PeerAddress(url: url, credential: PeerCredential(peer: "host:host1", secret: "s"))
        let fetcher = ImageFetcher(
            host: HostName("host1"), client: RPCClient(http: http, peers: [peer]), http: http, allowsPlaintext: false)
        let image = ImageReference(
            id: ImageID("i"), format: .raw, sizeBytes: Int64(bytes.count), virtualSizeBytes: Int64(bytes.count),
            sha512: "")
        let received = Mutex<[UInt8]>([])
        do {
            try await fetcher.fetch(image, for: .instance(InstanceID("a")), from: offset) { bytes in
                received.withLock { $0 += bytes }
            }
            return (received.withLock { $0 }, nil)
        } catch {
            return (received.withLock { $0 }, error as? Failure)
        }
    }

    func stop() async {
        await http.shutdown()
        await server.withLock { $0 }?.stop(grace: .zero)
    }
}

@Suite("Fetching images over HTTP", .timeLimit(.minutes(1)))
struct ImageFetcherTests {
    private let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 2) }

    @Test("Broken off, the next fetch asks for the rest alone, and all pieces make the whole")
    func resume() async throws {
        let server = try BreakingServer(bytes, knowsRanges: true, breaksAfter: 120_000)
        var all: [UInt8] = []
        for round in 0..<3 {
            let (piece, failure) = await server.fetch(from: Int64(all.count))
            all += piece
            #expect((failure == nil) == (round == 2), "\(String(describing: failure))")
            #expect(failure?.isRetriable ?? true)
        }
        #expect(all == bytes)
        #expect(server.asked == [nil, "bytes=120000-", "bytes=240000-"])
        await server.stop()
    }

    @Test("A server that knows of no ranges sends all again; what is there already is left out")
    func withoutRanges() async throws {
        let server = try BreakingServer(bytes, knowsRanges: false, breaksAfter: nil)
        let (rest, failure) = await server.fetch(from: 123_456)
        #expect(failure == nil)
        #expect(rest == Array(bytes[123_456...]))
        await server.stop()
    }
}
