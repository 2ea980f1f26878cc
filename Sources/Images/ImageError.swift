public import HTTP

/// An answer other than success: its status and a sentence for a person.
///
/// The authentication closure throws it too, with status 401.
public struct ImageError: Error, Sendable {
    public let status: Int
    public let message: String
    public let headers: HTTPFields

    public init(_ status: Int, _ message: String, headers: HTTPFields = [:]) {
        (self.status, self.message, self.headers) = (status, message, headers)
    }

    static func invalid(_ message: String) -> ImageError { ImageError(400, message) }
    static func forbidden(_ message: String) -> ImageError { ImageError(403, message) }
    static func notFound(_ id: String) -> ImageError { ImageError(404, "No image found with ID \(id)") }
    static func conflict(_ message: String) -> ImageError { ImageError(409, message) }
}
