internal import CCurl
internal import Model

// How a request is told to libcurl, and libcurl's verdict to the caller. All of it on the client's thread.

/// Sets up `easy` for the transfer; an error when the request cannot be sent.
func configure(
    _ easy: UnsafeMutableRawPointer, _ transfer: Transfer, _ tls: ClientTLS, _ files: TLSFiles
) -> HTTPClientError? {
    let request = transfer.request
    if request.url.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F }) { return .badURL(request.url) }
    if let name = request.headers.firstUnsendable {
        return .badURL("\(request.url) with a header \(name) that cannot be sent")
    }
    guard isToken(request.method.rawValue) else { return .badURL("\(request.url) with method \(request.method)") }
    var setup = Setup(easy: easy)
    setup.text(CURLOPT_URL, request.url)
    setup.text(CURLOPT_PROTOCOLS_STR, "http,https")
    setup.text(CURLOPT_NOPROXY, "*")
    setup.long(CURLOPT_NOSIGNAL, 1)
    setup.long(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
    setup.long(CURLOPT_TCP_KEEPALIVE, 1)
    // Servers close idle connections after a minute; a request on one of those would fail.
    setup.long(CURLOPT_MAXAGE_CONN, 45)
    setup.long(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(request.connectTimeout))
    if let timeout = request.timeout { setup.long(CURLOPT_TIMEOUT_MS, milliseconds(timeout)) }
    setup.long(CURLOPT_LOW_SPEED_LIMIT, 1)
    setup.long(CURLOPT_LOW_SPEED_TIME, max(1, (milliseconds(request.idleTimeout) + 999) / 1_000))
    setup.pointer(CURLOPT_PRIVATE, Unmanaged.passUnretained(transfer).toOpaque())
    setup.transfer(CURLOPT_HEADERFUNCTION, clientHeader)
    setup.pointer(CURLOPT_HEADERDATA, Unmanaged.passUnretained(transfer).toOpaque())
    setup.transfer(CURLOPT_WRITEFUNCTION, clientReceive)
    setup.pointer(CURLOPT_WRITEDATA, Unmanaged.passUnretained(transfer).toOpaque())
    setup.tls(tls, files)
    setup.body(transfer)
    return setup.code == CURLE_OK
        ? nil : .aborted(url: request.url, reason: String(cString: curl_easy_strerror(setup.code)))
}

/// Sets up `easy` for a connection to `server` on which nothing is sent yet.
func configureTunnel(
    _ easy: UnsafeMutableRawPointer, _ server: String, _ tls: ClientTLS, _ files: TLSFiles
) -> HTTPClientError? {
    if server.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F }) { return .badURL(server) }
    var setup = Setup(easy: easy)
    setup.text(CURLOPT_URL, server)
    setup.text(CURLOPT_PROTOCOLS_STR, "http,https")
    setup.text(CURLOPT_NOPROXY, "*")
    setup.long(CURLOPT_NOSIGNAL, 1)
    setup.long(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
    setup.long(CURLOPT_CONNECT_ONLY, 1)
    setup.long(CURLOPT_CONNECTTIMEOUT_MS, 10_000)
    setup.tls(tls, files)
    return setup.code == CURLE_OK ? nil : verdict(setup.code, of: easy, url: server)
}

private func milliseconds(_ duration: Duration) -> Int { Int(clamping: max(1, duration.microseconds / 1_000)) }

/// Options one after another; keeps the first error.
private struct Setup {
    let easy: UnsafeMutableRawPointer
    var code = CURLE_OK

    private mutating func note(_ result: CURLcode) { if code == CURLE_OK { code = result } }

    mutating func long(_ option: CURLoption, _ value: Int) { note(apus_curl_set_long(easy, option, value)) }
    mutating func text(_ option: CURLoption, _ value: String) { note(apus_curl_set_text(easy, option, value)) }
    mutating func pointer(_ option: CURLoption, _ value: UnsafeMutableRawPointer) {
        note(apus_curl_set_pointer(easy, option, value))
    }
    mutating func transfer(_ option: CURLoption, _ value: @escaping apus_curl_transfer) {
        note(apus_curl_set_transfer(easy, option, value))
    }

    mutating func tls(_ tls: ClientTLS, _ files: TLSFiles) {
        long(CURLOPT_SSL_VERIFYPEER, tls.verifyPeer ? 1 : 0)
        long(CURLOPT_SSL_VERIFYHOST, tls.verifyPeer ? 2 : 0)
        long(CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
        if let path = files.authorities {
            text(CURLOPT_CAINFO, path)
            // The system's own authorities are in a folder, which counts besides.
            note(apus_curl_set_text(easy, CURLOPT_CAPATH, nil))
        }
        if let path = files.certificate { text(CURLOPT_SSLCERT, path) }
        if let path = files.key { text(CURLOPT_SSLKEY, path) }
    }

    mutating func body(_ transfer: Transfer) {
        let request = transfer.request
        switch (request.method, request.body) {
        case (.head, .none):
            long(CURLOPT_NOBODY, 1)
        case (.get, .none):
            long(CURLOPT_HTTPGET, 1)
        case (.post, .none), (.put, .none), (.patch, .none):
            note(apus_curl_set_body(easy, nil, 0))
            text(CURLOPT_CUSTOMREQUEST, request.method.rawValue)
        case (_, .none):
            text(CURLOPT_CUSTOMREQUEST, request.method.rawValue)
        case (_, .bytes(let bytes)):
            note(bytes.withUnsafeBytes { apus_curl_set_body(easy, $0.baseAddress, $0.count) })
            text(CURLOPT_CUSTOMREQUEST, request.method.rawValue)
        case (_, .stream(let length, _)):
            long(CURLOPT_UPLOAD, 1)
            text(CURLOPT_CUSTOMREQUEST, request.method.rawValue)
            note(apus_curl_set_offset(easy, CURLOPT_INFILESIZE_LARGE, length ?? -1))
            long(CURLOPT_UPLOAD_BUFFERSIZE, 262_144)
            self.transfer(CURLOPT_READFUNCTION, clientSend)
            pointer(CURLOPT_READDATA, Unmanaged.passUnretained(transfer).toOpaque())
        }
        headers(transfer)
    }

    private mutating func headers(_ transfer: Transfer) {
        // A line without a value takes libcurl's own header away.
        var lines = ["Expect:", "Accept:"]
        if transfer.request.headers["Content-Type"] == nil { lines.append("Content-Type:") }
        for (name, value) in transfer.request.headers {
            switch name.lowercased() {
            case "content-length", "transfer-encoding", "expect": continue
            case "accept": lines.removeAll { $0 == "Accept:" }
            default: break
            }
            lines.append(value.isEmpty ? "\(name);" : "\(name): \(value)")
        }
        var list: UnsafeMutablePointer<curl_slist>?
        for line in lines {
            guard let longer = curl_slist_append(list, line) else {
                curl_slist_free_all(list)
                return note(CURLE_OUT_OF_MEMORY)
            }
            list = longer
        }
        transfer.wire.headerList = list
        note(apus_curl_set_list(easy, CURLOPT_HTTPHEADER, list))
    }
}

/// libcurl's verdict as ours.
func outcome(
    of transfer: Transfer, _ code: CURLcode, _ easy: UnsafeMutableRawPointer
) -> Result<ClientResponse, HTTPClientError> {
    if let error = transfer.wire.error { return .failure(error) }
    guard code != CURLE_OK else {
        return .success(
            ClientResponse(status: transfer.wire.status, headers: transfer.wire.headers, body: transfer.wire.body))
    }
    return .failure(verdict(code, of: easy, url: transfer.request.url))
}

/// What went wrong, as ours.
func verdict(_ code: CURLcode, of easy: UnsafeMutableRawPointer, url: String) -> HTTPClientError {
    let reason = String(cString: curl_easy_strerror(code))
    switch code {
    case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_CONNECT, CURLE_INTERFACE_FAILED:
        return .connectFailed(url: url, reason: reason)
    case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL:
        return .badURL(url)
    case CURLE_OPERATION_TIMEDOUT:
        // Before the connection stands nothing was sent, and another server may be asked instead.
        return apus_curl_time(easy, CURLINFO_PRETRANSFER_TIME_T) > 0
            ? .timedOut(url: url) : .connectFailed(url: url, reason: "no connection in time")
    case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER,
        CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS,
        CURLE_SSL_PINNEDPUBKEYNOTMATCH, CURLE_SSL_CLIENTCERT:
        return .tls(url: url, reason: reason)
    default:
        return .aborted(url: url, reason: reason)
    }
}

private func clientHeader(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return -1 }
    return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
        .receiveHeader(UnsafeRawBufferPointer(start: bytes, count: size * count))
}

private func clientReceive(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return -1 }
    return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
        .receive(UnsafeRawBufferPointer(start: bytes, count: size * count))
}

private func clientSend(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return Int(CURL_READFUNC_ABORT) }
    return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
        .send(into: UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
}
