/// What the identity service refuses, with the status and title of its answer.
public enum IdentityError: Error, Sendable, Hashable, CustomStringConvertible {
    case badRequest(String)
    /// One text for every reason, so that nobody learns which users and projects exist. `retryAfter` in seconds.
    case unauthorized(retryAfter: Int? = nil)
    case forbidden(String)
    case notFound(String)
    case conflict(String)
    /// Too many logins wait for their turn.
    case overloaded

    public var status: Int {
        switch self {
        case .badRequest: 400
        case .unauthorized: 401
        case .forbidden: 403
        case .notFound: 404
        case .conflict: 409
        case .overloaded: 503
        }
    }

    public var title: String {
        switch self {
        case .badRequest: "Bad Request"
        case .unauthorized: "Unauthorized"
        case .forbidden: "Forbidden"
        case .notFound: "Not Found"
        case .conflict: "Conflict"
        case .overloaded: "Service Unavailable"
        }
    }

    public var description: String {
        switch self {
        case .badRequest(let text), .forbidden(let text), .notFound(let text), .conflict(let text): text
        case .unauthorized(nil): "The request you have made requires authentication."
        case .unauthorized(.some(let seconds)):
            "The request you have made requires authentication. After several failures, wait \(seconds) s."
        case .overloaded: "Too many logins at once; try again in a moment."
        }
    }
}
