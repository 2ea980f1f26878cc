internal import CMicroHTTPD

/// What request line and headers say.
struct RequestOpening {
    let request: HTTPRequest
    /// The announced length; `nil` for a chunked body, 0 for none.
    let bodyLength: Int?
    let expectsContinue: Bool
    let isAmbiguous: Bool
    /// The answer to a request that is refused for its headers alone.
    let refusal: HTTPResponse?

    /// `nil` when the connection is to be closed without an answer.
    init?(_ exchange: Exchange, _ connection: OpaquePointer, method: String) {
        let core = exchange.core
        let tls = core.configuration.tls
        let isVerified = tls?.trustPEM != nil && apus_mhd_client_is_verified(connection) != 0
        if let tls, tls.trustPEM != nil, tls.requiresClientCertificate, !isVerified { return nil }

        var headers = HTTPFields()
        withUnsafeMutablePointer(to: &headers) { apus_mhd_headers(connection, collectHeader, $0) }
        let (rawPath, rawQuery) = splitTarget(exchange.target)
        request = HTTPRequest(
            method: HTTPMethod(method), path: PercentEncoding.decode(rawPath) ?? rawPath, rawPath: rawPath,
            rawQuery: rawQuery, headers: headers, remoteAddress: exchange.connection.remoteAddress, isTLS: tls != nil,
            isClientVerified: isVerified)

        let lengths = headers.all("Content-Length")
        let isChunked = headers["Transfer-Encoding"] != nil
        let length = lengths.first.flatMap(Int.init)
        expectsContinue = headers["Expect"] != nil
        bodyLength = isChunked ? nil : length ?? 0
        // Two lengths, or a length beside chunks, are how a second request is hidden from a proxy.
        isAmbiguous = lengths.count > 1 || (isChunked && !lengths.isEmpty) || (lengths.count == 1 && (length ?? -1) < 0)
        if isAmbiguous {
            refusal = Router.plain(400, "the length of the body is ambiguous")
        } else if core.isStopping {
            refusal = Router.plain(503, "the service is stopping", ["Retry-After": "5"])
        } else {
            refusal = nil
        }
    }
}

/// Path and query of a request target, which is a path or (towards a proxy) a whole URL.
private func splitTarget(_ target: String) -> (path: String, query: String) {
    var rest = Substring(target)
    if !rest.hasPrefix("/"), let scheme = rest.range(of: "://") {
        rest = rest[scheme.upperBound...]
        rest = rest.firstIndex { $0 == "/" || $0 == "?" }.map { rest[$0...] } ?? "/"
    }
    guard let mark = rest.utf8.firstIndex(of: UInt8(ascii: "?")) else { return (String(rest), "") }
    return (String(rest[..<mark]), String(rest[rest.utf8.index(after: mark)...]))
}

extension Substring {
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}

private func collectHeader(
    _ context: UnsafeMutableRawPointer?, _: MHD_ValueKind, _ key: UnsafePointer<CChar>?, _ keySize: Int,
    _ value: UnsafePointer<CChar>?, _ valueSize: Int
) -> MHD_Result {
    guard let context, let key else { return apus_MHD_YES }
    let headers = context.assumingMemoryBound(to: HTTPFields.self)
    headers.pointee.add(text(key, keySize), value.map { text($0, valueSize) } ?? "")
    return apus_MHD_YES
}

private func text(_ start: UnsafePointer<CChar>, _ count: Int) -> String {
    String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
}
