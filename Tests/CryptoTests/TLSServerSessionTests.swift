import Crypto
import Glibc
import Model
import Testing

@Suite("A TLS server's sessions", .timeLimit(.minutes(1)))
struct TLSServerSessionTests {
    private let now = Timestamp(seconds: 1_790_000_000)

    private func issued() throws -> (trust: String, certificate: String, key: String) {
        let authority = try CertificateAuthority.make(name: "test", now: now)
        let (request, key) = try CertificateRequest.make(commonName: "server")
        let certificate = try authority.issue(
            requestPEM: request, names: ["127.0.0.1"], commonName: "server", validity: .seconds(3_600), now: now)
        return (authority.certificatePEM, certificate, key)
    }

    @Test("Credentials need a key that fits, and an authority to believe")
    func credentials() throws {
        let (one, other) = (try issued(), try issued())
        _ = try TLSServerCredentials(
            certificatePEM: one.certificate, privateKeyPEM: one.key, trustPEM: one.trust)
        for (certificate, key, trust) in [
            (one.certificate, other.key, one.trust), (one.certificate, one.key, ""),
            (one.certificate, one.key, "no PEM"), ("", one.key, one.trust), (one.certificate, "", one.trust),
        ] {
            #expect(throws: CryptoError.self) {
                _ = try TLSServerCredentials(certificatePEM: certificate, privateKeyPEM: key, trustPEM: trust)
            }
        }
    }

    @Test(
        "Who does not speak TLS, says nothing, or goes away is not let in",
        arguments: ["GET / HTTP/1.1\r\n\r\n", "", nil])
    func strangers(says: String?) throws {
        let own = try issued()
        let credentials = try TLSServerCredentials(
            certificatePEM: own.certificate, privateKeyPEM: own.key, trustPEM: own.trust)
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        let (server, client) = (ends[0], ends[1])
        defer { close(server) }
        let session = try TLSServerSession(credentials, socket: server)
        if let says {
            let bytes = Array(says.utf8)
            #expect(write(client, bytes, bytes.count) == bytes.count)
        } else {
            close(client)
        }
        #expect(throws: CryptoError.self) { try session.shakeHands(within: 200) }
        if says != nil { close(client) }
    }
}
