internal import HTTP
internal import Model
internal import Telemetry

/// The answer to whatever a handler threw. The body is JSON with the message; faults of ours are logged, not shown.
func imageAnswer(to error: any Error) -> HTTPResponse {
    switch error {
    case let error as ImageError: return body(error.status, error.message, error.headers)
    case let failure as Failure where failure.kind != .internalError:
        return body(failure.status, failure.message, failure.retryHeaders)
    case is CancellationError: return body(503, "The request was cut off.", [:])
    case let error as any FailureConvertible where error.failure.retryAfter != nil:
        Logger("images").warning("image request not served now", ["error": String(describing: error)])
        return body(error.failure.status, "\(error.failure.message); try again.", error.failure.retryHeaders)
    default:
        Logger("images").error("image request failed", ["error": String(describing: error)])
        return body(500, "The image service failed; its log says more.", [:])
    }
}

private func body(_ status: Int, _ message: String, _ headers: HTTPFields) -> HTTPResponse {
    var writer = JSONWriter()
    writer.object { writer in
        writer.object("error") { writer in
            writer.member("code", status)
            writer.member("message", message)
        }
    }
    return .json(status, writer.finish(), headers: headers)
}
