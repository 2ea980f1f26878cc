public import Model

/// Who speaks, once its credential has been verified.
public enum Peer: Hashable, Sendable, CustomStringConvertible {
    case host(HostName)
    /// A control service by its role: `api`, `conductor`, `scheduler`.
    case service(String)

    public var role: PeerRole? {
        switch self {
        case .host: .host
        case .service(let name): PeerRole(rawValue: name)
        }
    }

    public var description: String {
        switch self {
        case .host(let name): "host:\(name)"
        case .service(let name): "service:\(name)"
        }
    }
}

/// The kinds of peers that a method may be opened to.
public enum PeerRole: String, Sendable, Hashable, CaseIterable {
    case host, api, conductor, scheduler
}

/// What a peer shows: its name and a secret that is valid toward one receiver only.
public struct PeerCredential: Sendable, Hashable {
    /// `host:NAME`, `service:ROLE` or `service:ROLE@HOST`.
    public let peer: String
    public let secret: String

    public init(peer: String, secret: String) { (self.peer, self.secret) = (peer, secret) }
}

/// Decides whether a peer is who it says it is. Called once in a while for each peer; answers may be kept for
/// `RPCServer.verificationLifetime`.
public protocol PeerVerifier: Sendable {
    /// `nil` for an unknown peer or a wrong secret; throws when it cannot tell.
    func verify(peer: String, secret: String) async throws -> Peer?
}

/// What a handler knows of the call besides its parameters.
public struct RPCCall: Sendable, Hashable {
    public let peer: Peer
    public let requestID: RequestID
    public let idempotencyKey: String?
    /// That in which the caller knows the method; `nil` where it did not say.
    public let version: RPCVersion?

    public init(peer: Peer, requestID: RequestID, idempotencyKey: String?, version: RPCVersion? = nil) {
        (self.peer, self.requestID, self.idempotencyKey) = (peer, requestID, idempotencyKey)
        self.version = version
    }
}
