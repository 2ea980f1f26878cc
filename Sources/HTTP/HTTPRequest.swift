/// What a request brought along.
public enum RequestBody: Sendable {
    /// The whole body; empty when there was none.
    case bytes([UInt8])
    /// The body of a route with `RouteOptions.isStreamed`, as it arrives. Throws `RequestBodyError`.
    case stream(any ByteSource)

    /// The body piece by piece, whichever of the two it is.
    public var source: any ByteSource {
        switch self {
        case .bytes(let bytes): BytesSource(bytes)
        case .stream(let source): source
        }
    }
}

/// Why the rest of a streamed request body will not come.
public enum RequestBodyError: Error, Sendable, Hashable {
    /// The client went away, or broke off, before the end that it had announced.
    case disconnected
    /// The client sent more than the route's limit in bytes.
    case tooLarge(limit: Int)
    /// The client did not send the body within the request timeout.
    case timedOut
}

/// A request as handlers see it. Everything in it comes from outside.
public struct HTTPRequest: Sendable {
    public var method: HTTPMethod
    /// Percent-decoded, without the query.
    public var path: String
    /// As it was sent, without the query.
    public var rawPath: String
    public var query: QueryItems
    /// As it was sent, without the question mark.
    public var rawQuery: String
    public var headers: HTTPFields
    /// What the route's pattern captured, decoded.
    public var parameters: [String: String]
    public var body: RequestBody
    /// The peer's IP address as text, without the port.
    public var remoteAddress: String
    public var isTLS: Bool
    /// Whether the peer has shown a certificate of an authority that the server trusts.
    public var isClientVerified: Bool

    /// A request made by hand, for tests and for calls within the process. Without `rawPath` it is made of `path`, without
    /// `query` it is read from `rawQuery`.
    public init(
        method: HTTPMethod = .get, path: String = "/", rawPath: String? = nil, query: QueryItems? = nil,
        rawQuery: String = "", headers: HTTPFields = [:], parameters: [String: String] = [:],
        body: RequestBody = .bytes([]), remoteAddress: String = "127.0.0.1", isTLS: Bool = false,
        isClientVerified: Bool = false
    ) {
        self.method = method
        self.path = path
        self.rawPath = rawPath ?? PercentEncoding.encodePath(path)
        self.query = query ?? QueryItems(parsing: rawQuery)
        self.rawQuery = rawQuery
        self.headers = headers
        self.parameters = parameters
        self.body = body
        self.remoteAddress = remoteAddress
        (self.isTLS, self.isClientVerified) = (isTLS, isClientVerified)
    }

    /// A request to `target`, which is a path with or without a query, percent-encoded as on the wire.
    public init(_ method: HTTPMethod, _ target: String, headers: HTTPFields = [:], body: [UInt8] = []) {
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        self.init(
            method: method, path: PercentEncoding.decode(parts[0]) ?? parts[0], rawPath: parts[0],
            rawQuery: parts.count > 1 ? parts[1] : "", headers: headers, body: .bytes(body))
    }

    /// The buffered body; empty for a streamed one.
    public var bytes: [UInt8] {
        guard case .bytes(let bytes) = body else { return [] }
        return bytes
    }
}
