internal import Configuration
internal import Crypto
internal import Database
internal import HTTP
internal import Model
internal import RPC
internal import Telemetry

/// Lets enrolled hosts in: a one-time token is exchanged for credentials in both directions, and a certificate.
struct JoinService: Sendable {
    let credentials: CredentialStore
    let authority: ControlPlaneAuthority
    let agents: AgentDirectory
    /// Whether hosts beyond loopback may be spoken to without TLS.
    let isPlaintextAllowed: Bool
    /// Ends the belief in credentials that were verified a moment ago.
    let forgetVerified: @Sendable () -> Void
    let now: Now
    private let log = Logger("conductor")

    init(
        credentials: CredentialStore, authority: ControlPlaneAuthority, agents: AgentDirectory,
        isPlaintextAllowed: Bool, forgetVerified: @escaping @Sendable () -> Void, now: @escaping Now
    ) {
        (self.credentials, self.authority, self.agents) = (credentials, authority, agents)
        (self.isPlaintextAllowed, self.forgetVerified, self.now) = (isPlaintextAllowed, forgetVerified, now)
    }

    func mount(on router: inout Router) {
        router.on(.get, "/apus/v1/ca") { _ in
            guard let certificate = try await authority.certificate() else {
                return answer(404, "This installation has no certificate authority.")
            }
            return HTTPResponse(
                200, headers: ["Content-Type": "application/x-pem-file"], body: .bytes(Array(certificate.utf8)))
        }
        router.on(.post, "/apus/v1/join", RouteOptions(bodyLimit: 16_384)) { request in
            try await join(request)
        }
    }

    private func join(_ request: HTTPRequest) async throws -> HTTPResponse {
        let body: JSON
        do {
            body = try JSON(parsing: request.bytes)
        } catch {
            return answer(400, "The body is not JSON.")
        }
        guard let name = body["host"]?.text, isHostName(name), let token = body["token"]?.text, token.utf8.count <= 256,
            let address = body["address"]?.text, isHostName(address) || isAddress(address),
            let port = body["port"]?.int, (1...65_535).contains(port)
        else { return answer(400, "host, token, address and port are needed, each in its form.") }
        let request = body["csr"]?.text
        guard request != nil || ListenAddress.isLoopback(address) || isPlaintextAllowed else {
            return answer(
                400, "A host beyond loopback must send a certificate request, or [apus] allow_plaintext be set.")
        }
        let host = HostName(name)
        let secretPart = token.prefix { $0 != "." }
        let hash = digest(.sha256, of: Array(secretPart.utf8))
        guard try await credentials.isTokenValid(hash, host: host, now: now()) else {
            log.warning("a host tried to join with a token that does not open", ["host": host])
            return answer(403, "The token is unknown, used, expired, or made for another host.")
        }
        var certificate: String?
        if let request {
            do {
                certificate = try await authority.sign(requestPEM: request, commonName: name, names: [name, address])
            } catch is CryptoError {
                return answer(400, "The certificate request cannot be read.")
            }
        }
        let (hostSecret, conductorSecret) = (Hex.encode(randomBytes(32)), Hex.encode(randomBytes(32)))
        let shown = address.contains(":") ? "[\(address)]" : address
        let admission = HostAdmission(
            url: "\(certificate == nil ? "http" : "https")://\(shown):\(port)",
            hostSecretHash: digest(.sha256, of: Array(hostSecret.utf8)), conductorSecret: conductorSecret,
            certificateFingerprint: try certificate.map { try certificateFingerprint(pem: $0) })
        guard try await credentials.admit(host, tokenHash: hash, admission, now: now()) else {
            return answer(403, "The token is unknown, used, expired, or made for another host.")
        }
        forgetVerified()
        await agents.forget(host)
        log.notice("a host has joined", ["host": host, "url": admission.url])
        var writer = JSONWriter()
        let authorityCertificate = certificate == nil ? nil : try await authority.certificate()
        writer.object { writer in
            writer.key("secret")
            writer.string(hostSecret)
            writer.key("conductor_secret_hash")
            writer.string(Hex.encode(digest(.sha256, of: Array(conductorSecret.utf8))))
            writer.key("ca")
            if let authorityCertificate { writer.string(authorityCertificate) } else { writer.null() }
            writer.key("certificate")
            if let certificate { writer.string(certificate) } else { writer.null() }
        }
        return .json(200, writer.finish())
    }

    private func answer(_ status: Int, _ message: String) -> HTTPResponse {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("error")
            writer.string(message)
        }
        return .json(status, writer.finish())
    }
}

/// An IPv6 address as text, without brackets or zone.
private func isAddress(_ text: String) -> Bool {
    (2...45).contains(text.utf8.count)
        && text.utf8.allSatisfy { byte in
            switch UnicodeScalar(byte) {
            case "a"..."f", "A"..."F", "0"..."9", ".", ":": true
            default: false
            }
        }
}
