internal import CCurl
internal import Model
internal import Synchronization

/// One exchange on libcurl's thread.
///
/// Sendable: what is mutable belongs to the loop's thread between `TransferLoop.begin` and the continuation's resume;
/// the two buffers have locks of their own.
final class Transfer: @unchecked Sendable {
    let request: ClientRequest
    /// The answer's body on its way to a sink.
    let download: PieceBuffer?
    /// The request's body on its way from a source.
    let upload: PieceBuffer?

    var handle: UnsafeMutableRawPointer?
    var headerList: UnsafeMutablePointer<curl_slist>?
    var continuation: CheckedContinuation<ClientResponse, any Error>?
    private(set) var headers = HTTPFields()
    private(set) var body: [UInt8] = []
    private(set) var isTooLarge = false
    var isPaused = false
    /// Set by any thread; a transfer that has not begun yet does not begin then.
    let isCancelled = Atomic(false)

    init(_ request: ClientRequest, isStreaming: Bool) {
        self.request = request
        download = isStreaming ? PieceBuffer(limit: 1_048_576) : nil
        if case .stream = request.body { upload = PieceBuffer(limit: 1_048_576) } else { upload = nil }
    }

    /// One line of the answer's head. A status line begins a new head: an interim answer's is forgotten.
    fileprivate func takeHeader(_ line: UnsafeBufferPointer<UInt8>) {
        let text = String(decoding: line, as: UTF8.self)
        if text.hasPrefix("HTTP/") {
            headers = HTTPFields()
            return
        }
        guard let colon = text.firstIndex(of: ":") else { return }
        headers.add(
            String(text[..<colon]),
            String(text[text.index(after: colon)...].drop { $0 == " " || $0 == "\t" }.prefix { !$0.isNewline }))
    }

    /// A piece of the answer's body; gives what libcurl expects as the count taken.
    fileprivate func takeBody(_ piece: UnsafeBufferPointer<UInt8>) -> Int {
        if let download, let handle, (200..<300).contains(apus_curl_status(handle)) {
            guard download.offer(piece) else {
                isPaused = true
                return apus_curl_pause_write()
            }
            return piece.count
        }
        guard body.count + piece.count <= request.responseLimit else {
            isTooLarge = true
            return 0
        }
        body.append(contentsOf: piece)
        return piece.count
    }

    fileprivate func giveBody(_ target: UnsafeMutableBufferPointer<UInt8>) -> Int {
        guard let upload else { return 0 }
        switch upload.take(into: target) {
        case .bytes(let count): return count
        case .ended: return 0
        case .failed: return apus_curl_abort_read()
        case .nothingYet:
            isPaused = true
            return apus_curl_pause_read()
        }
    }

    /// Sets the options of a fresh handle. The paths of `trust` are files that live as long as the loop.
    func configure(_ handle: UnsafeMutableRawPointer, trust: TrustFiles) throws(HTTPClientError) {
        guard apus_curl_set_text(handle, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK,
            request.url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }),
            apus_curl_set_text(handle, CURLOPT_URL, request.url) == CURLE_OK
        else { throw .badURL(request.url) }
        let opaque = Unmanaged.passUnretained(self).toOpaque()
        _ = apus_curl_set_pointer(handle, CURLOPT_PRIVATE, opaque)
        _ = apus_curl_set_long(handle, CURLOPT_NOSIGNAL, 1)
        _ = apus_curl_set_text(handle, CURLOPT_NOPROXY, "*")
        _ = apus_curl_set_long(handle, CURLOPT_FOLLOWLOCATION, 0)
        _ = apus_curl_set_long(handle, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
        _ = apus_curl_set_long(handle, CURLOPT_TCP_KEEPALIVE, 1)
        _ = apus_curl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(request.connectTimeout))
        _ = apus_curl_set_long(handle, CURLOPT_TIMEOUT_MS, request.timeout.map { milliseconds($0) } ?? 0)
        _ = apus_curl_set_long(handle, CURLOPT_LOW_SPEED_LIMIT, 1)
        _ = apus_curl_set_long(
            handle, CURLOPT_LOW_SPEED_TIME, max(1, (milliseconds(request.idleTimeout) + 999) / 1_000))
        _ = apus_curl_set_header(handle, headerCallback, opaque)
        _ = apus_curl_set_write(handle, writeCallback, opaque)
        trust.apply(to: handle)
        setBody(handle, opaque)
        // libcurl's own `Expect: 100-continue` would cost a second with servers that do not answer it.
        var list = curl_slist_append(nil, "Expect:")
        for (name, value) in request.headers {
            guard !(name + value).utf8.contains(where: { $0 == 0x0D || $0 == 0x0A || $0 == 0 }) else {
                curl_slist_free_all(list)
                throw .badURL("\(request.url) (header \(name) holds a line break)")
            }
            list = curl_slist_append(list, value.isEmpty ? "\(name);" : "\(name): \(value)")
        }
        headerList = list
        _ = apus_curl_set_headers(handle, list)
    }

    private func setBody(_ handle: UnsafeMutableRawPointer, _ opaque: UnsafeMutableRawPointer) {
        switch request.body {
        case .none:
            if request.method == .head { _ = apus_curl_set_long(handle, CURLOPT_NOBODY, 1) }
            if request.method == .post || request.method == .put || request.method == .patch {
                _ = apus_curl_set_body(handle, "", 0)
            }
        case .bytes(let bytes):
            _ = bytes.withUnsafeBytes {
                apus_curl_set_body(handle, $0.baseAddress ?? UnsafeRawPointer(opaque), $0.count)
            }
        case .stream(let length, _):
            _ = apus_curl_set_long(handle, CURLOPT_UPLOAD, 1)
            _ = apus_curl_set_offset(handle, CURLOPT_INFILESIZE_LARGE, length ?? -1)
            _ = apus_curl_set_read(handle, readCallback, opaque)
        }
        _ = apus_curl_set_text(handle, CURLOPT_CUSTOMREQUEST, request.method.rawValue)
    }

    /// Ends the exchange toward the caller. On the loop's thread.
    func finish(_ result: CURLcode, wasStopped: Bool) {
        let waiting = continuation
        continuation = nil
        if let failure = failure(result, wasStopped) {
            download?.fail(failure)
            upload?.close()
            waiting?.resume(throwing: failure)
        } else {
            download?.end()
            let status = handle.map { apus_curl_status($0) } ?? 0
            waiting?.resume(returning: ClientResponse(status: Int(status), headers: headers, body: body))
        }
    }

    private func failure(_ result: CURLcode, _ wasStopped: Bool) -> HTTPClientError? {
        let url = request.url
        if wasStopped { return .cancelled(url: url) }
        if result == CURLE_OK { return nil }
        if isTooLarge { return .tooLarge(url: url, limit: request.responseLimit) }
        let reason = String(cString: curl_easy_strerror(result))
        let wasSent = handle.map { apus_curl_was_sent($0) != 0 } ?? false
        switch result {
        case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL: return .badURL(url)
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CACERT_BADFILE,
            CURLE_SSL_ISSUER_ERROR, CURLE_SSL_CIPHER:
            return .tls(url: url, reason: reason)
        case CURLE_COULDNT_CONNECT, CURLE_COULDNT_RESOLVE_HOST: return .connectFailed(url: url, reason: reason)
        case CURLE_OPERATION_TIMEDOUT:
            return wasSent ? .timedOut(url: url) : .connectFailed(url: url, reason: "no connection in time")
        default: return .aborted(url: url, reason: reason)
        }
    }
}

private func milliseconds(_ duration: Duration) -> Int { Int(clamping: max(1, duration.microseconds / 1_000)) }

private func transfer(_ opaque: UnsafeMutableRawPointer?) -> Transfer? {
    opaque.map { Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
}

private func headerCallback(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ opaque: UnsafeMutableRawPointer?
) -> Int {
    guard let bytes, let transfer = transfer(opaque) else { return 0 }
    bytes.withMemoryRebound(to: UInt8.self, capacity: size * count) {
        transfer.takeHeader(UnsafeBufferPointer(start: $0, count: size * count))
    }
    return size * count
}

private func writeCallback(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ opaque: UnsafeMutableRawPointer?
) -> Int {
    guard let bytes, let transfer = transfer(opaque) else { return 0 }
    return bytes.withMemoryRebound(to: UInt8.self, capacity: size * count) {
        transfer.takeBody(UnsafeBufferPointer(start: $0, count: size * count))
    }
}

private func readCallback(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ opaque: UnsafeMutableRawPointer?
) -> Int {
    guard let bytes, let transfer = transfer(opaque) else { return apus_curl_abort_read() }
    return bytes.withMemoryRebound(to: UInt8.self, capacity: size * count) {
        transfer.giveBody(UnsafeMutableBufferPointer(start: $0, count: size * count))
    }
}
