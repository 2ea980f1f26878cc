internal import Model

/// A server's certificate and key, both PEM.
public struct ServerTLS: Sendable {
    public var certificatePEM: String
    public var privateKeyPEM: String
    /// Authorities that must have signed the client's certificate; `nil` to ask for none.
    public var trustPEM: String?
    /// Whether a client without such a certificate is turned away. Else its requests say that they are not verified.
    public var requiresClientCertificate: Bool

    public init(
        certificatePEM: String, privateKeyPEM: String, trustPEM: String? = nil,
        requiresClientCertificate: Bool = true
    ) {
        (self.certificatePEM, self.privateKeyPEM, self.trustPEM) = (certificatePEM, privateKeyPEM, trustPEM)
        self.requiresClientCertificate = requiresClientCertificate
    }
}

/// Where a server listens and what it admits.
public struct ServerConfiguration: Sendable {
    /// Metrics label: `api`, `agent`.
    public var name: String
    /// An IPv4 or IPv6 address as text; `::` listens on both families.
    public var address: String
    /// Only what comes in by this network device is answered; `nil` for all of them. Needs root.
    public var device: String?
    /// 0 for any free one.
    public var port: UInt16
    public var tls: ServerTLS?
    /// Event threads; handlers do not run on them.
    public var threads: Int
    public var maxConnections: Int
    /// 0 for no limit.
    public var maxConnectionsPerAddress: Int
    /// Bytes for request line and headers together; also the memory a connection takes.
    public var headerLimit: Int
    /// Bytes of a body, where the route says nothing else.
    public var bodyLimit: Int
    /// How long a connection may be silent.
    public var idleTimeout: Duration
    /// How long receipt of the request and its handler may take, where the route says nothing else.
    public var requestTimeout: Duration
    /// Requests whose handlers run at the same time; beyond it the answer is 503.
    public var maxConcurrentRequests: Int

    public init(
        name: String = "http", address: String = "127.0.0.1", port: UInt16 = 0, tls: ServerTLS? = nil,
        threads: Int = 1, maxConnections: Int = 4096, maxConnectionsPerAddress: Int = 0, headerLimit: Int = 16_384,
        bodyLimit: Int = 1_048_576, idleTimeout: Duration = .seconds(60), requestTimeout: Duration = .seconds(60),
        maxConcurrentRequests: Int = 1024
    ) {
        self.name = name
        self.address = address
        self.port = port
        self.tls = tls
        self.threads = threads
        self.maxConnections = maxConnections
        self.maxConnectionsPerAddress = maxConnectionsPerAddress
        self.headerLimit = headerLimit
        self.bodyLimit = bodyLimit
        self.idleTimeout = idleTimeout
        self.requestTimeout = requestTimeout
        self.maxConcurrentRequests = maxConcurrentRequests
    }

    /// A body that is not wanted is read and thrown away up to this many bytes, because a connection closed with unread
    /// bytes in it takes the answer along.
    static let discardLimit = 64 << 20

    /// How long the rest of an unwanted body, or a busy event thread, may hold up an answer that is there.
    static let answerTime = Duration.seconds(10)
}

/// Why a server does not start.
public enum HTTPServerError: Error, Sendable, Hashable, CustomStringConvertible {
    case portInUse(address: String, port: UInt16)
    case notPermitted(address: String, port: UInt16)
    case badAddress(String)
    case listenFailed(address: String, port: UInt16, reason: String)
    /// libmicrohttpd refused: with TLS, mostly a certificate and a key that do not belong together.
    case refused(address: String, isTLS: Bool)
    case alreadyStarted

    public var description: String {
        switch self {
        case .portInUse(let address, let port): "port \(port) on \(address) is in use by another program"
        case .notPermitted(let address, let port): "not permitted to listen on \(address) port \(port)"
        case .badAddress(let address): "\(address) is no IPv4 or IPv6 address"
        case .listenFailed(let address, let port, let reason): "cannot listen on \(address) port \(port): \(reason)"
        case .refused(let address, let isTLS):
            isTLS
                ? "the TLS server on \(address) does not start: check certificate and key"
                : "the server on \(address) does not start"
        case .alreadyStarted: "the server was started before"
        }
    }
}
