public import Model

/// How a client proves itself and whom it believes.
public struct ClientTLS: Sendable, Hashable {
    /// Certificates (PEM) that are believed, in place of the system's.
    public var caPEM: String?
    /// A file of such certificates; used when `caPEM` is `nil`.
    public var caPath: String?
    public var clientCertificatePEM: String?
    public var clientKeyPEM: String?
    /// `false` only where nothing confidential is sent and the answer is checked by other means.
    public var verifyPeer: Bool

    public init(
        caPEM: String? = nil, caPath: String? = nil, clientCertificatePEM: String? = nil, clientKeyPEM: String? = nil,
        verifyPeer: Bool = true
    ) {
        (self.caPEM, self.caPath) = (caPEM, caPath)
        (self.clientCertificatePEM, self.clientKeyPEM) = (clientCertificatePEM, clientKeyPEM)
        self.verifyPeer = verifyPeer
    }
}

/// What a request sends along.
public enum ClientBody: Sendable {
    case none
    case bytes([UInt8])
    /// Sent piece by piece; chunked where the length is not known.
    case stream(length: Int64?, any ByteSource)
}

/// One request of a client.
public struct ClientRequest: Sendable {
    public var method: HTTPMethod
    /// `http://…` or `https://…`, percent-encoded.
    public var url: String
    public var headers: HTTPFields
    public var body: ClientBody
    public var connectTimeout: Duration
    /// For the whole exchange; `nil` for none.
    public var timeout: Duration?
    /// How long no byte may come or go; whole seconds, at least one.
    public var idleTimeout: Duration
    /// Bytes of the answer's body that are kept at most.
    public var responseLimit: Int

    public init(
        method: HTTPMethod = .get, url: String, headers: HTTPFields = [:], body: ClientBody = .none,
        connectTimeout: Duration = .seconds(5), timeout: Duration? = .seconds(60),
        idleTimeout: Duration = .seconds(30), responseLimit: Int = 16 * 1_024 * 1_024
    ) {
        (self.method, self.url, self.headers, self.body) = (method, url, headers, body)
        (self.connectTimeout, self.timeout, self.idleTimeout) = (connectTimeout, timeout, idleTimeout)
        self.responseLimit = responseLimit
    }
}

/// One answer.
public struct ClientResponse: Sendable {
    public var status: Int
    public var headers: HTTPFields
    public var body: [UInt8]

    public init(status: Int, headers: HTTPFields, body: [UInt8]) {
        (self.status, self.headers, self.body) = (status, headers, body)
    }
}

/// Why there is no answer.
public enum HTTPClientError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Nothing of the request was sent.
    case connectFailed(url: String, reason: String)
    /// The request was sent, at least in part; whether it took effect is not known.
    case timedOut(url: String)
    case tls(url: String, reason: String)
    case tooLarge(url: String, limit: Int)
    /// The connection broke after the request was sent, at least in part.
    case aborted(url: String, reason: String)
    case cancelled(url: String)
    case badURL(String)

    public var description: String {
        switch self {
        case .connectFailed(let url, let reason): "cannot connect to \(url): \(reason)"
        case .timedOut(let url): "no answer from \(url) in time"
        case .tls(let url, let reason): "TLS with \(url) failed: \(reason)"
        case .tooLarge(let url, let limit): "the answer of \(url) is larger than \(limit) bytes"
        case .aborted(let url, let reason): "the exchange with \(url) broke: \(reason)"
        case .cancelled(let url): "the request to \(url) was cancelled"
        case .badURL(let url): "\(url) is not a URL that can be asked"
        }
    }

    /// The error as it crosses process borders.
    public var failure: Failure {
        switch self {
        case .connectFailed, .aborted: Failure(.unreachable, description, isRetriable: true)
        case .timedOut: Failure(.timeout, description, isRetriable: true)
        case .cancelled: Failure(.cancelled, description, isRetriable: true)
        case .tls: Failure(.unreachable, description)
        case .tooLarge, .badURL: Failure(.invalidParameters, description)
        }
    }
}
