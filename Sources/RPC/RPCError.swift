internal import Model

/// JSON-RPC 2.0's numbers for failures; `data.kind` is what programs switch on.
extension FailureKind {
    var code: Int {
        switch self {
        case .methodNotFound: -32_601
        case .invalidParameters: -32_602
        case .internalError: -32_603
        case .unsupportedVersion: -32_000
        case .unauthenticated: -32_001
        case .forbidden: -32_002
        case .notFound: -32_003
        case .conflict: -32_004
        case .idempotencyMismatch: -32_005
        case .insufficientResources: -32_006
        case .noValidHost: -32_007
        case .imageUnacceptable: -32_008
        case .networkUnavailable: -32_009
        case .hypervisor: -32_010
        case .storage: -32_011
        case .unreachable: -32_012
        case .timeout: -32_013
        case .cancelled: -32_014
        case .overloaded: -32_015
        }
    }

    /// The HTTP status that carries the failure, for whoever looks only at that.
    var status: Int {
        switch self {
        case .unauthenticated: 401
        case .overloaded: 503
        default: 200
        }
    }
}

enum Answer {
    static func result(_ result: [UInt8], id: [UInt8]) -> [UInt8] {
        Array("{\"jsonrpc\":\"2.0\",\"id\":".utf8) + id + Array(",\"result\":".utf8) + result + [UInt8(ascii: "}")]
    }

    static func failure(_ failure: Failure, id: [UInt8], requestID: RequestID?, code: Int? = nil) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("jsonrpc")
            writer.string("2.0")
            writer.key("id")
            writer.raw(id)
            writer.key("error")
            writer.object { writer in
                writer.key("code")
                writer.integer(Int64(code ?? failure.kind.code))
                writer.key("message")
                writer.string(failure.message)
                writer.key("data")
                writer.object { writer in
                    writer.key("kind")
                    writer.string(failure.kind.rawValue)
                    writer.key("message")
                    writer.string(failure.message)
                    writer.key("retriable")
                    writer.bool(failure.isRetriable)
                    writer.key("requestID")
                    if let requestID { writer.string(requestID.rawValue) } else { writer.null() }
                }
            }
        }
        return writer.finish()
    }
}
