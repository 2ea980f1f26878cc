public import HTTP
internal import Model

/// An answer of the Placement API other than success.
public struct PlacementError: Error, Sendable {
    /// What clients from 1.23 on can tell errors of one status apart by.
    public enum Code: String, Sendable, Hashable {
        case undefined = "placement.undefined_code"
        case badQueryValue = "placement.query.bad_value"
        case duplicateQueryKey = "placement.query.duplicate_key"
        case missingQueryValue = "placement.query.missing_value"
        case unknownProvider = "placement.resource_provider.not_found"
    }

    public let status: Int
    /// A sentence for the person who asked.
    public let detail: String
    public let code: Code
    public let headers: HTTPFields
    /// The versions to choose from, where that is what the error is about.
    let versions: (minimum: String, maximum: String)?

    public init(_ status: Int, _ detail: String, code: Code = .undefined, headers: HTTPFields = [:]) {
        self.init(status, detail, code: code, headers: headers, versions: nil)
    }

    init(
        _ status: Int, _ detail: String, code: Code, headers: HTTPFields,
        versions: (minimum: String, maximum: String)?
    ) {
        (self.status, self.detail, self.code, self.headers) = (status, detail, code, headers)
        self.versions = versions
    }

    static func badQuery(_ detail: String) -> PlacementError { PlacementError(400, detail, code: .badQueryValue) }

    static func notFound(_ detail: String) -> PlacementError { PlacementError(404, detail) }

    static func unknownProvider(_ uuid: String) -> PlacementError {
        PlacementError(404, "No resource provider with uuid \(uuid) found", code: .unknownProvider)
    }

    private var title: String {
        switch status {
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 406: "Not Acceptable"
        case 413: "Request Entity Too Large"
        case 503: "Service Unavailable"
        default: "Internal Server Error"
        }
    }

    /// `{"errors": [{"status": N, "title": …, "detail": …, "request_id": …, "code": …}]}`; clients index the first entry.
    func response(requestID: String, hasCode: Bool) -> HTTPResponse {
        var writer = JSONWriter()
        writer.object { writer in
            writer.array("errors") { writer in
                writer.object { writer in
                    writer.member("status", status)
                    writer.member("title", title)
                    writer.member("detail", detail)
                    writer.member("request_id", requestID)
                    if hasCode { writer.member("code", code.rawValue) }
                    if let versions {
                        writer.member("min_version", versions.minimum)
                        writer.member("max_version", versions.maximum)
                    }
                }
            }
        }
        return .json(status, writer.finish(), headers: headers)
    }
}
