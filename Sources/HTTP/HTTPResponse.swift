/// What an answer carries.
public enum ResponseBody: Sendable {
    case empty
    case bytes([UInt8])
    /// `length` bytes of the file at `path`, from `offset` on, streamed from disk.
    case file(path: String, offset: Int64 = 0, length: Int64)
    /// Without a length the body is sent in chunks. An error of the source breaks the connection off, so that the client
    /// does not take half for the whole.
    case stream(length: Int64?, any ByteSource)
}

/// An answer. `Content-Length`, `Date` and `Connection` are the server's business.
public struct HTTPResponse: Sendable {
    public var status: Int
    public var headers: HTTPFields
    public var body: ResponseBody

    public init(_ status: Int, headers: HTTPFields = [:], body: ResponseBody = .empty) {
        (self.status, self.headers, self.body) = (status, headers, body)
    }

    /// An answer whose body is JSON already.
    public static func json(_ status: Int, _ bytes: [UInt8], headers: HTTPFields = [:]) -> HTTPResponse {
        var headers = headers
        headers["Content-Type"] = "application/json"
        return HTTPResponse(status, headers: headers, body: .bytes(bytes))
    }

    /// A line of plain text.
    public static func text(_ status: Int, _ text: String, headers: HTTPFields = [:]) -> HTTPResponse {
        var headers = headers
        headers["Content-Type"] = "text/plain; charset=utf-8"
        return HTTPResponse(status, headers: headers, body: .bytes(Array(text.utf8)))
    }

    /// The body when it is in memory; empty for the other kinds.
    public var bytes: [UInt8] {
        guard case .bytes(let bytes) = body else { return [] }
        return bytes
    }
}

/// Answers a request. What it throws becomes an answer by `Router.failure`.
public typealias HTTPHandler = @Sendable (HTTPRequest) async throws -> HTTPResponse
