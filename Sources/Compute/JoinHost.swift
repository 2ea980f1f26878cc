internal import Crypto
internal import HTTP
public import Model

/// A one-time token as the administrator hands it out: 48 hex digits, and where the control plane is beyond this machine
/// the fingerprint of its certificate authority behind a dot.
public struct JoinToken: Sendable {
    /// What is shown to the control plane: the whole text.
    let text: String
    let fingerprint: String?

    /// Throws `Failure(.invalidParameters)` for anything else.
    public init(_ text: String) throws(Failure) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        func isHex(_ part: Substring, _ count: Int) -> Bool {
            part.utf8.count == count
                && part.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        }
        guard parts.count <= 2, isHex(parts[0], 48), parts.count == 1 || isHex(parts[1], 64) else {
            throw Failure(.invalidParameters, "this is not a join token: 48 hex digits, or those with a fingerprint")
        }
        self.text = text
        fingerprint = parts.count == 2 ? String(parts[1]) : nil
    }
}

extension JoinToken {
    /// The token's text in a file, which others than its owner must not be able to read.
    public static func read(from path: String) throws(Failure) -> String {
        guard let text = try readPrivately(path) else { throw Failure(.notFound, "\(path) is not there") }
        return text
    }
}

/// Exchanges a one-time token for this host's credentials, and saves them below `statePath`.
///
/// `url` is a conductor's; `address` and `port` are where conductors will reach this host. Over https the token must
/// carry the authority's fingerprint; over http nothing but this machine is spoken to, unless `allowPlaintext`.
/// Takes at most about a minute. Throws `Failure`: `.unauthenticated` for a token that is used up, expired or another
/// host's.
@discardableResult
public func joinHost(
    url: String, token: String, host: HostName, address: String, port: UInt16, statePath: String,
    allowPlaintext: Bool = false
) async throws(Failure) -> AgentIdentity {
    let token = try JoinToken(token)
    guard !["0.0.0.0", "::", ""].contains(address) else {
        throw Failure(.invalidParameters, "conductors cannot reach \"\(address)\": name this host's address")
    }
    var base = url[...]
    while base.hasSuffix("/") { base = base.dropLast() }
    let isTLS = base.hasPrefix("https://")
    guard isTLS || base.hasPrefix("http://") else {
        throw Failure(.invalidParameters, "\(url) is not an http:// or https:// URL")
    }
    guard isTLS || allowPlaintext || isLoopbackURL(String(base)) else {
        throw Failure(.forbidden, "\(url) is beyond this machine: a token is only sent there over https")
    }
    var authority: String?
    if isTLS {
        guard let fingerprint = token.fingerprint else {
            throw Failure(
                .invalidParameters, "joining over https needs the token with the authority's fingerprint behind the dot"
            )
        }
        authority = try await fetchAuthority("\(base)/apus/v1/ca", fingerprint: fingerprint)
    }
    var key: String?
    var request: String?
    if isTLS {
        do {
            let made = try CertificateRequest.make(commonName: host.rawValue)
            (request, key) = (made.requestPEM, made.privateKeyPEM)
        } catch {
            throw Failure(.internalError, "no certificate request could be made: \(error)")
        }
    }
    let body = JSON.object([
        "host": .string(host.rawValue), "token": .string(token.text), "csr": request.map(JSON.string) ?? .null,
        "address": .string(address), "port": .integer(Int64(port)),
    ])
    let answer = try await exchange(
        ClientRequest(
            method: .post, url: "\(base)/apus/v1/join", headers: ["Content-Type": "application/json"],
            body: .bytes(body.serialized())),
        ClientTLS(caPEM: authority))
    let identity = try readAnswer(answer, host: host, url: String(base), authority: authority, key: key)
    try identity.save(statePath: statePath)
    return identity
}

/// Gets the authority's certificate from a peer that is not verified yet: no secret is sent, and only the certificate
/// that the token names is accepted.
private func fetchAuthority(_ url: String, fingerprint: String) async throws(Failure) -> String {
    let answer = try await exchange(ClientRequest(method: .get, url: url), ClientTLS(verifyPeer: false))
    let pem = String(decoding: answer, as: UTF8.self)
    let found: String
    do {
        found = try certificateFingerprint(pem: pem)
    } catch {
        throw Failure(.unauthenticated, "\(url) did not answer with a certificate: \(error)")
    }
    guard constantTimeEquals(Array(found.utf8), Array(fingerprint.utf8)) else {
        throw Failure(.unauthenticated, "the authority at \(url) is not the one that the token names")
    }
    return pem
}

private func exchange(_ request: ClientRequest, _ tls: ClientTLS) async throws(Failure) -> [UInt8] {
    var request = request
    request.responseLimit = 262_144
    let client = HTTPClient(tls: tls)
    let response: ClientResponse
    do {
        response = try await client.send(request)
    } catch {
        await client.shutdown()
        throw error.failure
    }
    await client.shutdown()
    guard response.status == 200 else {
        let said = (try? JSON(parsing: response.body))?["error"]?.text
        let text = "\(request.url) answered \(response.status)" + (said.map { ": \($0.prefix(512))" } ?? "")
        throw Failure([401, 403].contains(response.status) ? .unauthenticated : .unreachable, text)
    }
    return response.body
}

private func readAnswer(
    _ body: [UInt8], host: HostName, url: String, authority: String?, key: String?
) throws(Failure) -> AgentIdentity {
    let answer: JSON
    do { answer = try JSON(parsing: body) } catch {
        throw Failure(.unreachable, "the conductor's answer is not JSON")
    }
    guard let secret = answer["secret"]?.text, !secret.isEmpty, let hash = answer["conductor_secret_hash"]?.text,
        Hex.decode(hash)?.count == 32
    else { throw Failure(.unreachable, "the conductor's answer lacks the credentials") }
    let certificate = answer["certificate"]?.text
    guard key == nil || certificate != nil else {
        throw Failure(.unreachable, "the conductor's answer lacks the certificate")
    }
    return AgentIdentity(
        host: host, secret: secret, conductorSecretHash: hash.lowercased(), conductors: [url],
        authorityPEM: authority ?? answer["ca"]?.text, certificatePEM: key == nil ? nil : certificate,
        privateKeyPEM: key)
}
