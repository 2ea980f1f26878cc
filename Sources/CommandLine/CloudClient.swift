internal import HTTP
internal import Model

/// Sends one request; the socket, or a test's answer.
typealias Transport = @Sendable (ClientRequest) async throws(HTTPClientError) -> ClientResponse

/// The API refused a request.
struct APIError: Error, Sendable, Hashable, CustomStringConvertible {
    var status: Int
    var message: String
    var requestID: String?

    var description: String { "\(message) (HTTP \(status))\(requestID.map { " [\($0)]" } ?? "")" }
}

/// A person's login to a cloud, and requests to its services with it.
///
/// Logs in at the first request, and once more when the token is refused.
actor CloudClient {
    /// A service of the catalog.
    enum Service: String {
        case compute, image
    }

    /// The microversion that a compute request asks for, unless it needs another.
    static let microversion = "2.37"

    private struct Session {
        var token: String
        var endpoints: [String: String]
    }

    private let settings: CloudSettings
    private let transport: Transport
    private var session: Session?

    init(settings: CloudSettings, transport: @escaping Transport) {
        (self.settings, self.transport) = (settings, transport)
    }

    /// The JSON of a successful answer; an empty answer is `.null`.
    func request(
        _ method: HTTPMethod, _ service: Service, _ path: String, query: [(String, String)] = [], body: JSON? = nil,
        microversion: String = CloudClient.microversion
    ) async throws -> JSON {
        let base = try await endpoint(service)
        return try await json(method, base + path + encoded(query), body: body, microversion)
    }

    /// A call of Apus itself (`/apus/v1`), which lives beside the compute service.
    func apus(_ method: HTTPMethod, _ path: String, query: [(String, String)] = [], body: JSON? = nil) async throws
        -> JSON
    {
        let base = origin(of: try await endpoint(.compute))
        return try await json(method, base + "/apus/v1" + path + encoded(query), body: body)
    }

    /// Sends a file's bytes; `length` is what `source` will give in all.
    func upload(_ service: Service, _ path: String, length: Int64, _ source: any ByteSource) async throws {
        let base = try await endpoint(service)
        var request = ClientRequest(method: .put, url: base + path)
        request.headers["X-Auth-Token"] = try await login().token
        request.headers["Content-Type"] = "application/octet-stream"
        request.body = .stream(length: length, source)
        request.timeout = nil
        _ = try check(try await send(request), url: request.url)
    }

    private func json(
        _ method: HTTPMethod, _ url: String, body: JSON?, _ microversion: String = CloudClient.microversion
    ) async throws -> JSON {
        var isSecondTry = false
        while true {
            var request = ClientRequest(method: method, url: url)
            request.headers["X-Auth-Token"] = try await login().token
            request.headers["Accept"] = "application/json"
            request.headers["OpenStack-API-Version"] = "compute \(microversion)"
            if let body {
                request.headers["Content-Type"] = "application/json"
                request.body = .bytes(body.serialized())
            }
            let response = try await send(request)
            if response.status == 401, !isSecondTry {
                // The token ended since it was issued; the password decides.
                isSecondTry = true
                session = nil
                continue
            }
            return try check(response, url: url)
        }
    }

    private func send(_ request: ClientRequest) async throws(CommandError) -> ClientResponse {
        do { return try await transport(request) } catch { throw .failure(describe(error, settings: settings)) }
    }

    private func endpoint(_ service: Service) async throws -> String {
        let session = try await login()
        guard let url = session.endpoints[service.rawValue] else {
            let region = settings.regionName.map { " in region \($0)" } ?? ""
            throw CommandError.failure("The cloud's catalog has no \(service.rawValue) service\(region).")
        }
        let trimmed = url.hasSuffix("/") ? String(url.dropLast()) : url
        return service == .image && !trimmed.hasSuffix("/v2") ? trimmed + "/v2" : trimmed
    }

    private func login() async throws -> Session {
        if let session { return session }
        var base = settings.authURL
        while base.hasSuffix("/") { base.removeLast() }
        if !base.hasSuffix("/v3") { base += "/v3" }
        var request = ClientRequest(method: .post, url: base + "/auth/tokens")
        request.headers["Content-Type"] = "application/json"
        request.headers["Accept"] = "application/json"
        request.body = .bytes(credentials.serialized())
        let response = try await send(request)
        if response.status == 401 {
            throw CommandError.failure(
                "The cloud at \(settings.authURL) does not accept user '\(settings.username)' for project "
                    + "'\(settings.projectName)' (from \(settings.origin)): \(message(of: response)).")
        }
        let answer = try check(response, url: request.url)
        guard let token = response.headers["X-Subject-Token"], let catalog = answer["token"]?["catalog"]?.list else {
            throw CommandError.failure("\(request.url) is no identity service: its answer holds no token.")
        }
        let made = Session(token: token, endpoints: endpoints(catalog))
        session = made
        return made
    }

    private var credentials: JSON {
        [
            "auth": [
                "identity": [
                    "methods": ["password"],
                    "password": [
                        "user": [
                            "name": .string(settings.username), "password": .string(settings.password),
                            "domain": ["name": .string(settings.userDomainName)],
                        ]
                    ],
                ],
                "scope": [
                    "project": [
                        "name": .string(settings.projectName),
                        "domain": ["name": .string(settings.projectDomainName)],
                    ]
                ],
            ]
        ]
    }

    private func endpoints(_ catalog: [JSON]) -> [String: String] {
        var found: [String: String] = [:]
        for entry in catalog {
            guard let type = entry["type"]?.text, let endpoints = entry["endpoints"]?.list else { continue }
            let match = endpoints.first {
                $0["interface"]?.text == "public"
                    && (settings.regionName == nil || $0["region"]?.text == settings.regionName)
            }
            if let url = match?["url"]?.text { found[type] = url }
        }
        return found
    }

    private func check(_ response: ClientResponse, url: String) throws -> JSON {
        guard (200..<300).contains(response.status) else {
            throw APIError(
                status: response.status, message: message(of: response),
                requestID: response.headers["x-openstack-request-id"])
        }
        if response.body.isEmpty { return .null }
        do { return try JSON(parsing: response.body) } catch {
            throw CommandError.failure("\(url) answered something that is no JSON: \(error).")
        }
    }

    /// The person's sentence in an error body of compute, identity or image.
    private func message(of response: ClientResponse) -> String {
        if let json = try? JSON(parsing: response.body) {
            if let text = json["message"]?.text { return text }
            for inner in (json.members ?? [:]).values {
                if let text = inner["message"]?.text { return text }
            }
        }
        let text = printable(String(decoding: response.body.prefix(300), as: UTF8.self))
        return text.isEmpty ? "The request was refused" : text
    }

    private func origin(of url: String) -> String {
        guard let scheme = url.firstRange(of: "://") else { return url }
        return String(url[..<(url[scheme.upperBound...].firstIndex(of: "/") ?? url.endIndex)])
    }
}

/// `?a=b&c=d`, percent-encoded; nothing for no items.
func encoded(_ query: [(String, String)]) -> String {
    guard !query.isEmpty else { return "" }
    return "?" + query.map { "\(percentEncoded($0.0))=\(percentEncoded($0.1))" }.joined(separator: "&")
}

/// Everything but RFC 3986's unreserved characters becomes `%XX`.
func percentEncoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            result.unicodeScalars.append(Unicode.Scalar(byte))
        default:
            let digits = String(byte, radix: 16, uppercase: true)
            result += "%" + (digits.count == 1 ? "0" : "") + digits
        }
    }
    return result
}
