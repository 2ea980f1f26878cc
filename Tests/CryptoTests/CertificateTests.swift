import Crypto
import Model
import Testing

@Suite("Certificates")
struct CertificateTests {
    private let now = Timestamp(seconds: 1_790_000_000)

    @Test("An authority issues for a request, and a saved one goes on")
    func issue() throws {
        let made = try CertificateAuthority.make(name: "test", now: now)
        let authority = try CertificateAuthority(
            certificatePEM: made.certificatePEM, privateKeyPEM: made.privateKeyPEM)
        #expect(authority.fingerprint == made.fingerprint)
        #expect(try certificateFingerprint(pem: made.certificatePEM) == made.fingerprint)
        let request = try CertificateRequest.make(commonName: "mallory")
        let pem = try authority.issue(
            requestPEM: request.requestPEM, names: ["h1.example", "127.0.0.1", "::1"], commonName: "host:h1",
            validity: .seconds(86_400), now: now)
        #expect(pem.hasPrefix("-----BEGIN CERTIFICATE-----"))
        #expect(request.privateKeyPEM.contains("BEGIN PRIVATE KEY"))
        #expect(try certificateExpiry(pem: pem) == now + .seconds(86_400))
        #expect(try certificateFingerprint(pem: pem) != made.fingerprint)
    }

    @Test("No certificate outlives its authority")
    func expiry() throws {
        let authority = try CertificateAuthority.make(name: "test", validity: .seconds(3_600), now: now)
        let request = try CertificateRequest.make(commonName: "h1").requestPEM
        let pem = try authority.issue(
            requestPEM: request, names: [], commonName: "h1", validity: .seconds(86_400), now: now)
        #expect(try certificateExpiry(pem: pem) == now + .seconds(3_600))
        #expect(throws: CryptoError.self) {
            try authority.issue(
                requestPEM: request, names: [], commonName: "h1", validity: .seconds(60), now: now + .seconds(3_601))
        }
    }

    @Test(
        "Names that are no names are refused",
        arguments: ["", "a b", "x\0y", "ümlaut", String(repeating: "a", count: 254)])
    func names(name: String) throws {
        let authority = try CertificateAuthority.make(name: "test", now: now)
        let request = try CertificateRequest.make(commonName: "h1").requestPEM
        #expect(throws: CryptoError.self) {
            try authority.issue(requestPEM: request, names: [name], commonName: "h1", validity: .seconds(60), now: now)
        }
    }

    @Test("A request that was tampered with, and texts that are none, are refused")
    func tampered() throws {
        let authority = try CertificateAuthority.make(name: "test", now: now)
        let request = try CertificateRequest.make(commonName: "h1").requestPEM
        var lines = request.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        let index = lines.count - 3
        lines[index] = String(lines[index].reversed())
        for text in [
            lines.joined(separator: "\n"), "", "-----BEGIN CERTIFICATE REQUEST-----", authority.certificatePEM,
        ] {
            #expect(throws: CryptoError.self) {
                try authority.issue(requestPEM: text, names: [], commonName: "h1", validity: .seconds(60), now: now)
            }
        }
    }

    @Test("A certificate with another's key, or one of no authority, makes no authority")
    func mismatched() throws {
        let first = try CertificateAuthority.make(name: "a", now: now)
        let second = try CertificateAuthority.make(name: "b", now: now)
        #expect(throws: CryptoError.self) {
            try CertificateAuthority(certificatePEM: first.certificatePEM, privateKeyPEM: second.privateKeyPEM)
        }
        let request = try CertificateRequest.make(commonName: "h1")
        let leaf = try first.issue(
            requestPEM: request.requestPEM, names: [], commonName: "h1", validity: .seconds(60), now: now)
        #expect(throws: CryptoError.self) {
            try CertificateAuthority(certificatePEM: leaf, privateKeyPEM: request.privateKeyPEM)
        }
    }
}
