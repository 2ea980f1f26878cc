public import HTTP
internal import Model

/// An answer other than success, in the compute API's form.
///
/// The authentication closure throws it too, with status 401.
public struct APIError: Error, Sendable {
    public let status: Int
    /// A sentence for the person who asked.
    public let message: String
    public let headers: HTTPFields

    public init(_ status: Int, _ message: String, headers: HTTPFields = [:]) {
        (self.status, self.message, self.headers) = (status, message, headers)
    }

    static func badRequest(_ message: String) -> APIError { APIError(400, message) }
    static func forbidden(_ message: String) -> APIError { APIError(403, message) }
    static func notFound(_ message: String) -> APIError { APIError(404, message) }
    static func conflict(_ message: String) -> APIError { APIError(409, message) }

    /// What is named is part of the API and not built yet.
    static func notAvailable(_ what: String) -> APIError { APIError(501, "\(what) is not available yet.") }

    static func server(_ id: String) -> APIError { .notFound("Instance \(id) could not be found.") }

    /// Nova's name for the status: the one member of the error's body.
    static func kind(of status: Int) -> String {
        switch status {
        case 400: "badRequest"
        case 401: "unauthorized"
        case 403: "forbidden"
        case 404: "itemNotFound"
        case 405: "badMethod"
        case 409: "conflictingRequest"
        case 413, 429: "overLimit"
        case 415: "badMediaType"
        case 501: "notImplemented"
        default: "computeFault"
        }
    }

    /// `{"<kind>": {"code": N, "message": "…"}}`; a 401 has the form of the identity service.
    var response: HTTPResponse {
        var writer = JSONWriter()
        writer.object { writer in
            writer.object(status == 401 ? "error" : Self.kind(of: status)) { writer in
                writer.member("code", status)
                if status == 401 { writer.member("title", "Unauthorized") }
                writer.member("message", message)
            }
        }
        return .json(status, writer.finish(), headers: headers)
    }
}
