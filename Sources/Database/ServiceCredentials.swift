internal import Crypto
public import Model
public import RPC

/// The credentials of control services among themselves. Each process makes its own secrets when it starts and leaves
/// only their hashes in the database, so that none of them is ever on disk.
public struct ServiceCredentials: Sendable {
    private let credentials: CredentialStore
    /// Tells several processes of the same role apart: host and role.
    private let identity: String
    private let now: @Sendable () -> Timestamp

    /// - Parameters:
    ///   - role: `api`, `conductor` or `scheduler`.
    ///   - host: the control host's name; one process of a role a host.
    public init(
        credentials: CredentialStore, role: String, host: String, now: @escaping @Sendable () -> Timestamp
    ) {
        (self.credentials, self.now) = (credentials, now)
        identity = "service:\(role)@\(host)"
    }

    /// A new credential toward every process of `receiver`'s role; an earlier one of this process ends.
    public func mint(toward receiver: String) async throws -> PeerCredential {
        let secret = Hex.encode(randomBytes(32))
        try await credentials.setHash(
            digest(.sha256, of: Array(secret.utf8)), sender: identity, receiver: receiver, now: now())
        return PeerCredential(peer: identity, secret: secret)
    }
}

/// Verifies peers by the hashes in the database.
public struct DatabasePeerVerifier: PeerVerifier {
    private let credentials: CredentialStore
    private let receiver: String

    /// - Parameter receiver: this process's role, `conductor` or `scheduler`.
    public init(credentials: CredentialStore, receiver: String) {
        (self.credentials, self.receiver) = (credentials, receiver)
    }

    public func verify(peer: String, secret: String) async throws -> Peer? {
        let hash = digest(.sha256, of: Array(secret.utf8))
        guard let sender = try await credentials.sender(ofHash: hash, receiver: receiver), sender == peer else {
            return nil
        }
        if sender.hasPrefix("host:") { return .host(HostName(String(sender.dropFirst("host:".count)))) }
        guard sender.hasPrefix("service:") else { return nil }
        return .service(String(sender.dropFirst("service:".count).prefix { $0 != "@" }))
    }
}
