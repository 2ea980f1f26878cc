internal import Crypto
internal import Database
internal import FoundationEssentials
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

    /// Calls a method of the agent of `host`, in the form that the agent knows. Throws what `client(for:)` and
    /// `RPCClient.call` throw, `.unsupportedVersion` for an agent that is too old for it.
    func call<M: RPCMethod>(
        _ method: M.Type, _ params: M.Params, on host: HostName, idempotencyKey: String? = nil,
        timeout: Duration? = nil
    ) async throws -> M.Result {
        let client = try await client(for: host)
        return try await client.call(
            method, params, idempotencyKey: idempotencyKey, timeout: timeout,
            manifest: try await manifest(of: host, for: method))
    }

    /// Read each time: another conductor may have heard of the host's upgrade. `nil` where every release has the same form.
    private func manifest<M: RPCMethod>(of host: HostName, for method: M.Type) async throws -> PeerManifest? {
        guard M.version.minor > 0 else { return nil }
        // Agents of the first release say nothing, and have everything as 1.0.
        return try await manifest(of: host)
            ?? PeerManifest(release: 1, methods: [M.name: RPCVersion(M.version.major, 0)])
    }

    private func manifest(of host: HostName) async throws -> PeerManifest? {
        guard let text = try await credentials.manifest(of: host) else { return nil }
        return try JSONDecoder().decode(PeerManifest.self, from: Data(text.utf8))
    }

    /// Whether the agent of `host` has said that it knows the method. One of the first release says nothing.
    func serves<M: RPCMethod>(_ method: M.Type, _ host: HostName) async throws -> Bool {
        try await manifest(of: host)?.methods[M.name] != nil
    }

    /// Where `destination` finds what `source` has set aside for the migration, with the right to it.
    func moveSource(
        _ source: HostName, migration: MigrationID, instance: InstanceID, destination: HostName
    ) async throws -> MoveSource {
        guard let enrolled = try await credentials.host(source), let url = enrolled.url,
            let secret = try await credentials.secret(toward: source)
        else { throw Failure(.unreachable, "host \(source) is not enrolled, or has not joined", isRetriable: true) }
        let hash = Hex.encode(digest(.sha256, of: Array(secret.utf8)))
        return MoveSource(
            host: source, url: url,
            ticket: MoveTicket.make(
                conductorSecretHash: hash, migration: migration, instance: instance, destination: destination))
    }

    /// Forgets what is cached of `host`: its credentials or its address have changed.
    func forget(_ host: HostName) { clients[host] = nil }
}
