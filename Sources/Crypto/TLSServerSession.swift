internal import CGnuTLS

/// What a server shows of itself, and whom it believes. All PEM.
public final class TLSServerCredentials: Sendable {
    // Sendable: never changed after it was made; GnuTLS lets sessions of many threads use it.
    nonisolated(unsafe) let pointer: gnutls_certificate_credentials_t

    /// Throws when the texts cannot be read, or do not belong together.
    public init(certificatePEM: String, privateKeyPEM: String, trustPEM: String) throws(CryptoError) {
        var pointer: gnutls_certificate_credentials_t?
        try check(gnutls_certificate_allocate_credentials(&pointer), "gnutls_certificate_allocate_credentials")
        guard let pointer else { throw .invalid(what: "TLS credentials", reason: "no memory") }
        self.pointer = pointer
        let loaded = withDatum(certificatePEM) { certificate in
            withDatum(privateKeyPEM) { key in
                gnutls_certificate_set_x509_key_mem(pointer, certificate, key, GNUTLS_X509_FMT_PEM)
            }
        }
        try check(loaded, "gnutls_certificate_set_x509_key_mem")
        let trusted = withDatum(trustPEM) {
            gnutls_certificate_set_x509_trust_mem(pointer, $0, GNUTLS_X509_FMT_PEM)
        }
        guard trusted != 0 else { throw .invalid(what: "TLS credentials", reason: "no authority to believe") }
        try check(trusted, "gnutls_certificate_set_x509_trust_mem")
    }

    deinit { gnutls_certificate_free_credentials(pointer) }
}

/// The server's side of a TLS connection whose client must show a certificate that the credentials' authority has signed.
// Sendable: the session is used by one thread at a time, which its owner sees to.
public final class TLSServerSession: @unchecked Sendable {
    private let pointer: gnutls_session_t
    private let credentials: TLSServerCredentials

    /// On a connected socket, which stays the caller's.
    public init(_ credentials: TLSServerCredentials, socket: Int32) throws(CryptoError) {
        var pointer: gnutls_session_t?
        try check(gnutls_init(&pointer, UInt32(GNUTLS_SERVER.rawValue)), "gnutls_init")
        guard let pointer else { throw .invalid(what: "TLS session", reason: "no memory") }
        (self.pointer, self.credentials) = (pointer, credentials)
        try check(
            gnutls_priority_set_direct(pointer, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", nil),
            "gnutls_priority_set_direct")
        try check(
            gnutls_credentials_set(pointer, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(credentials.pointer)),
            "gnutls_credentials_set")
        gnutls_certificate_server_set_request(pointer, GNUTLS_CERT_REQUIRE)
        gnutls_transport_set_int2(pointer, socket, socket)
    }

    deinit { gnutls_deinit(pointer) }

    /// On a socket that blocks. Throws when the client is not one of ours, or takes longer than `milliseconds`.
    public func shakeHands(within milliseconds: UInt32) throws(CryptoError) {
        gnutls_handshake_set_timeout(pointer, milliseconds)
        var code: Int32
        repeat { code = gnutls_handshake(pointer) } while code < 0 && gnutls_error_is_fatal(code) == 0
        try check(code, "gnutls_handshake")
        var status: UInt32 = .max
        try check(gnutls_certificate_verify_peers2(pointer, &status), "gnutls_certificate_verify_peers2")
        guard status == 0 else {
            throw .invalid(
                what: "client's certificate", reason: "the authority has not signed it, or it is out of date")
        }
    }

    /// Bytes that came, 0 at the client's end; `nil` when there are none now.
    public func receive(into buffer: UnsafeMutableRawBufferPointer) throws(CryptoError) -> Int? {
        try result(gnutls_record_recv(pointer, buffer.baseAddress, buffer.count), "gnutls_record_recv")
    }

    /// How many of the bytes were taken; `nil` when none can be now: then the same are to be given again.
    public func send(_ bytes: UnsafeRawBufferPointer) throws(CryptoError) -> Int? {
        try result(gnutls_record_send(pointer, bytes.baseAddress, bytes.count), "gnutls_record_send")
    }

    private func result(_ count: Int, _ call: StaticString) throws(CryptoError) -> Int? {
        if count >= 0 { return count }
        let code = Int32(clamping: count)
        if code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED { return nil }
        // Who breaks off without a word has ended, too: what is sent says by itself whether it is whole.
        if code == GNUTLS_E_PREMATURE_TERMINATION { return 0 }
        try check(code, call)
        // Warnings.
        return nil
    }
}
