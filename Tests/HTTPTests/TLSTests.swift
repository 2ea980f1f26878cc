import Crypto
import Foundation
import HTTP
import Model
import Testing

@Suite("TLS", .timeLimit(.minutes(1)))
struct TLSTests {
    private let authority: CertificateAuthority
    private let server: ServerTLS

    init() throws {
        authority = try CertificateAuthority.make(name: "Apus test")
        let (request, key) = try CertificateRequest.make(commonName: "server")
        let certificate = try authority.issue(
            requestPEM: request, names: ["127.0.0.1", "localhost"], commonName: "server", validity: .seconds(3_600),
            now: Timestamp(microseconds: Int64(Date.now.timeIntervalSince1970 * 1e6)))
        server = ServerTLS(certificatePEM: certificate, privateKeyPEM: key)
    }

    private func withTLSServer(_ tls: ServerTLS, _ body: (HTTPServer) async throws -> Void) async throws {
        try await withServer(ServerConfiguration(tls: tls)) {
            $0.on(.post, "/") { .text(200, "\($0.isTLS) \($0.bytes.count)") }
        } _: {
            try await body($0)
        }
    }

    private func expectTLSFailure(_ tls: ClientTLS, _ url: String) async throws {
        try await withClient(tls) { client in
            let error = await client.failure(of: ClientRequest(method: .post, url: url))
            guard case .tls = error else { throw try #require(error) }
            #expect(error?.failure.isRetriable == false)
        }
    }

    @Test("A client that knows the authority gets through, on a kept connection too")
    func trusted() async throws {
        try await withTLSServer(server) { server in
            try await withClient(ClientTLS(caPEM: authority.certificatePEM)) { client in
                for size in [0, 50_000] {
                    let response = try await client.send(
                        ClientRequest(
                            method: .post, url: "https://127.0.0.1:\(server.port)/",
                            body: .bytes([UInt8](repeating: 1, count: size))))
                    #expect(String(decoding: response.body, as: UTF8.self) == "true \(size)")
                }
            }
        }
    }

    @Test("A client that does not know the authority, or knows another, sends nothing")
    func untrusted() async throws {
        let other = try CertificateAuthority.make(name: "Other")
        try await withTLSServer(server) { server in
            try await expectTLSFailure(ClientTLS(), "https://127.0.0.1:\(server.port)/")
            try await expectTLSFailure(
                ClientTLS(caPEM: other.certificatePEM), "https://127.0.0.1:\(server.port)/")
            try await expectTLSFailure(ClientTLS(caPEM: "rubbish"), "https://127.0.0.1:\(server.port)/")
        }
    }

    @Test("A certificate for another name is refused")
    func wrongName() async throws {
        let (request, key) = try CertificateRequest.make(commonName: "elsewhere")
        let certificate = try authority.issue(
            requestPEM: request, names: ["elsewhere.example"], commonName: "elsewhere", validity: .seconds(3_600),
            now: Timestamp(microseconds: Int64(Date.now.timeIntervalSince1970 * 1e6)))
        try await withTLSServer(ServerTLS(certificatePEM: certificate, privateKeyPEM: key)) { server in
            try await expectTLSFailure(
                ClientTLS(caPEM: authority.certificatePEM), "https://127.0.0.1:\(server.port)/")
        }
    }

    @Test("A server that asks for client certificates serves only those who show one of its authority")
    func clientCertificates() async throws {
        var tls = server
        tls.trustPEM = authority.certificatePEM
        let now = Timestamp(microseconds: Int64(Date.now.timeIntervalSince1970 * 1e6))
        func identity(_ authority: CertificateAuthority) throws -> (String, String) {
            let (request, key) = try CertificateRequest.make(commonName: "client")
            let certificate = try authority.issue(
                requestPEM: request, names: ["client"], commonName: "client", validity: .seconds(3_600), now: now)
            return (certificate, key)
        }
        let (certificate, key) = try identity(authority)
        let (foreignCertificate, foreignKey) = try identity(try CertificateAuthority.make(name: "Other"))
        try await withTLSServer(tls) { server in
            let request = ClientRequest(method: .post, url: "https://127.0.0.1:\(server.port)/")
            let ca = authority.certificatePEM
            try await withClient(ClientTLS(caPEM: ca, clientCertificatePEM: certificate, clientKeyPEM: key)) {
                let response = try await $0.send(request)
                #expect(response.status == 200)
            }
            try await withClient(ClientTLS(caPEM: ca)) { client in
                await #expect(throws: HTTPClientError.self) { try await client.send(request) }
            }
            let foreign = ClientTLS(caPEM: ca, clientCertificatePEM: foreignCertificate, clientKeyPEM: foreignKey)
            try await withClient(foreign) { client in
                await #expect(throws: HTTPClientError.self) { try await client.send(request) }
            }
        }
    }

    @Test("A key that does not belong to the certificate stops the server from starting")
    func wrongKey() throws {
        var tls = server
        tls.privateKeyPEM = "rubbish"
        let server = HTTPServer(ServerConfiguration(tls: tls), router: Router())
        #expect(throws: HTTPServerError.refused(address: "127.0.0.1", isTLS: true)) { try server.start() }
    }

    @Test("Plain HTTP to a TLS port is an error, not an answer")
    func plaintext() async throws {
        try await withTLSServer(server) { server in
            try await withClient { client in
                await #expect(throws: HTTPClientError.self) {
                    try await client.send(ClientRequest(url: "http://127.0.0.1:\(server.port)/"))
                }
            }
        }
    }
}
