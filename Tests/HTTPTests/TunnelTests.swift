import Crypto
import Foundation
import Glibc
import HTTP
import Model
import Telemetry
import Testing

/// Two sockets, each of which gets what is written into the other.
private struct SocketPair {
    let near: Int32
    let far: Int32

    init() throws {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        (near, far) = (ends[0], ends[1])
    }
}

private func writeAll(_ bytes: [UInt8], to socket: Int32) -> Bool {
    var position = 0
    while position < bytes.count {
        let (start, length) = (position, min(65_536, bytes.count - position))
        let count = bytes.withUnsafeBytes { write(socket, $0.baseAddress.map { $0 + start }, length) }
        guard count > 0 else { return false }
        position += count
    }
    return true
}

private func readAll(from socket: Int32, _ each: ([UInt8]) -> Bool = { _ in true }) -> [UInt8] {
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
        let count = read(socket, &buffer, buffer.count)
        guard count > 0, each(Array(buffer.prefix(count))) else { return all }
        all += buffer.prefix(count)
    }
}

@Suite("Tunnels", .timeLimit(.minutes(1)))
struct TunnelTests {
    private let authority: CertificateAuthority
    private let server: ServerTLS
    private let client: ClientTLS

    init() throws {
        authority = try CertificateAuthority.make(name: "Apus test")
        let now = Timestamp(microseconds: Int64(Date.now.timeIntervalSince1970 * 1e6))
        func issue(_ authority: CertificateAuthority, _ name: String) throws -> (String, String) {
            let (request, key) = try CertificateRequest.make(commonName: name)
            let certificate = try authority.issue(
                requestPEM: request, names: ["127.0.0.1"], commonName: name, validity: .seconds(3_600), now: now)
            return (certificate, key)
        }
        let (certificate, key) = try issue(authority, "server")
        server = ServerTLS(certificatePEM: certificate, privateKeyPEM: key, trustPEM: authority.certificatePEM)
        let (own, ownKey) = try issue(authority, "client")
        client = ClientTLS(caPEM: authority.certificatePEM, clientCertificatePEM: own, clientKeyPEM: ownKey)
    }

    /// A server that gives back what it gets when it is asked for `echo`, until its client has ended.
    private func withEcho(
        isTLS: Bool, as tls: ClientTLS? = nil,
        _ body: (TunnelServer, HTTPClient, String, BlockingExecutor) async throws -> Void
    ) async throws {
        let executor = BlockingExecutor(name: "echo", threads: 8)
        defer { executor.shutdown() }
        let tunnels = try TunnelServer(address: "127.0.0.1", ports: 20_000...29_999, tls: isTLS ? server : nil)
        async let served: Void = tunnels.run { line in
            guard line == "echo" else { throw Failure(.forbidden, "there is no \(line)") }
            let pair = try SocketPair()
            Task {
                await executor.run {
                    _ = readAll(from: pair.far) { writeAll($0, to: pair.far) }
                    close(pair.far)
                }
            }
            return pair.near
        }
        try await withClient(tls ?? client) { client in
            try await body(tunnels, client, "\(isTLS ? "https" : "http")://127.0.0.1:\(tunnels.port)", executor)
        }
        tunnels.end()
        await served
    }

    private func open(_ client: HTTPClient, _ url: String) async throws -> ByteTunnel {
        guard case .open(let tunnel) = try await client.tunnel(to: url, "echo") else {
            throw Failure(.conflict, "it was refused")
        }
        return tunnel
    }

    @Test("Bytes go both ways at once, whole and in order, and one side may end first", arguments: [false, true])
    func echo(isTLS: Bool) async throws {
        try await withEcho(isTLS: isTLS) { _, client, url, executor in
            let tunnel = try await open(client, url)
            let pair = try SocketPair()
            var generator = SystemRandomNumberGenerator()
            let block = (0..<131_072).flatMap { _ in withUnsafeBytes(of: generator.next() as UInt64) { Array($0) } }
            let bytes = block + block + block + [1, 2, 3]
            async let carried: Void = executor.run { () throws(TunnelError) in
                defer { close(pair.near) }
                try tunnel.carry(pair.near)
            }
            async let written = executor.run {
                defer { shutdown(pair.far, Int32(SHUT_WR)) }
                return writeAll(bytes, to: pair.far)
            }
            let came = await executor.run { readAll(from: pair.far) }
            close(pair.far)
            #expect(await written)
            try await carried
            #expect(came == bytes)
            #expect(tunnel.bytesCarried.sent == bytes.count && tunnel.bytesCarried.received == bytes.count)
        }
    }

    @Test("What is not there is refused with the reason", arguments: [false, true])
    func refused(isTLS: Bool) async throws {
        try await withEcho(isTLS: isTLS) { _, client, url, _ in
            guard case .refused(let reason) = try await client.tunnel(to: url, "cellar") else {
                Issue.record("it was opened")
                return
            }
            #expect(reason.contains("there is no cellar"))
        }
    }

    @Test("Who shows no certificate of the authority is not let in")
    func strangers() async throws {
        for stranger in [ClientTLS(caPEM: authority.certificatePEM)] {
            try await withEcho(isTLS: true, as: stranger) { _, client, url, _ in
                await #expect(throws: HTTPClientError.self) { _ = try await client.tunnel(to: url, "echo") }
            }
        }
    }

    @Test("A tunnel that is broken off at either end ends at both", arguments: [false, true], [false, true])
    func brokenOff(isTLS: Bool, byServer: Bool) async throws {
        try await withEcho(isTLS: isTLS) { server, client, url, executor in
            let tunnel = try await open(client, url)
            let pair = try SocketPair()
            async let failure: TunnelError? = executor.run {
                defer { close(pair.near) }
                do throws(TunnelError) { try tunnel.carry(pair.near) } catch { return error }
                return nil
            }
            #expect(writeAll([7], to: pair.far))
            let (count, byte) = await executor.run {
                var byte: UInt8 = 0
                return (read(pair.far, &byte, 1), byte)
            }
            #expect(count == 1 && byte == 7)
            if byServer { server.end() } else { tunnel.breakOff() }
            #expect(await failure != nil)
            #expect(await executor.run { readAll(from: pair.far) }.isEmpty)
            close(pair.far)
        }
    }

    @Test("A port that is taken is passed over; where all are, that is said")
    func ports() throws {
        let first = try TunnelServer(address: "127.0.0.1", ports: 30_000...39_999, tls: nil)
        let second = try TunnelServer(address: "127.0.0.1", ports: first.port...39_999, tls: nil)
        #expect(second.port > first.port)
        #expect(throws: HTTPServerError.self) {
            try TunnelServer(address: "127.0.0.1", ports: first.port...first.port, tls: nil)
        }
    }
}
