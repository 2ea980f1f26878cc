internal import Crypto
internal import Database
internal import HTTP
internal import Model
internal import RPC

/// Reaches agents: one RPC client a host, made from the host's enrolment when it is first needed.
actor AgentDirectory {
    private let credentials: CredentialStore
    private let connections: HTTPClient
    private let isPlaintextAllowed: Bool
    private var clients: [HostName: RPCClient] = [:]

    init(credentials: CredentialStore, connections: HTTPClient, isPlaintextAllowed: Bool) {
        (self.credentials, self.connections) = (credentials, connections)
        self.isPlaintextAllowed = isPlaintextAllowed
    }

    /// The client for `host`. Throws `.notFound` for a host that is not enrolled, `.forbidden` for a revoked one.
    func client(for host: HostName) async throws -> RPCClient {
        if let known = clients[host] { return known }
        guard let enrolled = try await credentials.host(host) else {
            throw Failure(.notFound, "host \(host) is not enrolled")
        }
        guard enrolled.revokedAt == nil else { throw Failure(.forbidden, "host \(host) has been revoked") }
        guard let url = enrolled.url, let secret = try await credentials.secret(toward: host) else {
            throw Failure(.unreachable, "host \(host) is enrolled but has not joined", isRetriable: true)
        }
        let made = RPCClient(
            http: connections,
            peers: [
                PeerAddress(url: url, credential: PeerCredential(peer: "service:conductor", secret: secret))
            ], isPlaintextAllowed: isPlaintextAllowed)
        clients[host] = made
        return made
    }

    /// Forgets what is cached of `host`: its credentials or its address have changed.
    func forget(_ host: HostName) { clients[host] = nil }
}
