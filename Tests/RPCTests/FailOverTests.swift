import Foundation
import HTTP
import Model
import Telemetry
import Testing

@testable import RPC

@Suite("Fail-over between equal peers", .timeLimit(.minutes(1)))
struct FailOverTests {
    private static let bound = Duration.seconds(2)

    /// A port of loopback behind which nobody answers.
    private final class Mute {
        let port: UInt16
        private let socket: Int32
        private var visitors: [Int32] = []

        /// - Parameter accepts: whether connections come about; else they hang, as those to a machine that is gone.
        init(accepts: Bool) throws {
            socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let fd = socket
            let isBound = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(fd, $0, length) == 0 && listen(fd, accepts ? 64 : 0) == 0 && getsockname(fd, $0, &length) == 0
                }
            }
            guard isBound else { throw CocoaError(.fileReadUnknown) }
            port = UInt16(bigEndian: address.sin_port)
            guard !accepts else { return }
            // The queue of those that wait to be accepted is filled, and nobody accepts.
            for _ in 0..<4 {
                let visitor = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
                withUnsafePointer(to: address) { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = connect(visitor, $0, length) }
                }
                visitors.append(visitor)
            }
        }

        var url: String { "http://127.0.0.1:\(port)" }

        func end() {
            for descriptor in [socket] + visitors { close(descriptor) }
        }
    }

    private func serve(_ rig: Rig) throws -> HTTPServer {
        let server = HTTPServer(ServerConfiguration(), router: rig.router)
        try server.start()
        return server
    }

    private func client(_ http: HTTPClient, _ urls: [String]) -> RPCClient {
        RPCClient(http: http, peers: urls.map { PeerAddress(url: $0, credential: Rig.api) }, isSpread: false)
    }

    @Test("When a peer has stopped a call succeeds on the other within two seconds")
    func stopped() async throws {
        let rigs = [Rig(), Rig()]
        let servers = [try serve(rigs[0]), try serve(rigs[1])]
        let http = HTTPClient()
        let client = client(http, servers.map { "http://127.0.0.1:\($0.port)" })
        #expect(try await client.call(Double.self, .init(value: 1)).value == 2)
        #expect(rigs.map(\.deeds.recorded.count) == [1, 0])
        await servers[0].stop(grace: .zero)
        for value in 2...4 {
            let start = ContinuousClock.now
            #expect(try await client.call(Double.self, .init(value: value)).value == value * 2)
            #expect(ContinuousClock.now - start < Self.bound)
        }
        #expect(rigs.map(\.deeds.recorded.count) == [1, 3])
        await http.shutdown()
        await servers[1].stop(grace: .zero)
    }

    @Test("When connections to a peer hang, for its machine is gone, a call succeeds on the other within two seconds")
    func unreachable() async throws {
        let (mute, rig) = (try Mute(accepts: false), Rig())
        defer { mute.end() }
        let server = try serve(rig)
        let http = HTTPClient()
        let client = client(http, [mute.url, "http://127.0.0.1:\(server.port)"])
        var start = ContinuousClock.now
        #expect(try await client.call(Double.self, .init(value: 1)).value == 2)
        let first = ContinuousClock.now - start
        #expect(first < Self.bound)
        #expect(first > .milliseconds(500), "the connection hung")
        // The next does not try it again so soon.
        start = .now
        #expect(try await client.call(Double.self, .init(value: 2)).value == 4)
        #expect(ContinuousClock.now - start < first / 2)
        await http.shutdown()
        await server.stop(grace: .zero)
    }

    @Test("Of a peer that takes calls and never answers one call learns by its time-out, and no other waits for it")
    func silent() async throws {
        let (mute, rig) = (try Mute(accepts: true), Rig())
        defer { mute.end() }
        let server = try serve(rig)
        let http = HTTPClient()
        let client = client(http, [mute.url, "http://127.0.0.1:\(server.port)"])
        // What was sent may have been done: it is not sent to another.
        let failure = await #expect(throws: Failure.self) {
            _ = try await client.call(Record.self, .init(text: "once"), timeout: .milliseconds(300))
        }
        #expect(failure?.kind == .timeout && rig.deeds.recorded.isEmpty)
        let start = ContinuousClock.now
        #expect(try await client.call(Double.self, .init(value: 1)).value == 2)
        #expect(ContinuousClock.now - start < Self.bound)
        await http.shutdown()
        await server.stop(grace: .zero)
    }

    @Test("A thousand clients that lose a peer at one moment come back to it spread over the whole of their pauses")
    func noStorm() {
        var generator = Seeded()
        let start = ContinuousClock.now
        for failures in 1...4 {
            let pause = PeerChoice.rest.initialBackoff * (1 << (failures - 1))
            var returns: [Int: Int] = [:]
            for _ in 0..<1_000 {
                var choice = PeerChoice(count: 2, isSpread: false, using: &generator)
                for _ in 0..<failures { choice.failed(0, at: start, using: &generator) }
                // In twentieths of the longest pause: between half of it and all of it are ten.
                let moment = (0...20).first { step in
                    choice.order(at: start + pause * step / 20).first == 0
                }
                returns[moment ?? -1, default: 0] += 1
            }
            #expect(returns[-1] == nil && returns.keys.allSatisfy { (10...20).contains($0) })
            #expect(returns.values.max() ?? 0 < 150, "after \(failures) failures: \(returns)")
        }
    }

    private struct Seeded: RandomNumberGenerator {
        var state: UInt64 = 42
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
    }
}
