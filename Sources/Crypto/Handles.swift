internal import CGnuTLS

/// Owns a private key.
struct PrivateKey: ~Copyable {
    let pointer: gnutls_x509_privkey_t

    private init(owning pointer: gnutls_x509_privkey_t) { self.pointer = pointer }

    deinit { gnutls_x509_privkey_deinit(pointer) }

    private static func empty() throws(CryptoError) -> PrivateKey {
        var pointer: gnutls_x509_privkey_t?
        try check(gnutls_x509_privkey_init(&pointer), "gnutls_x509_privkey_init")
        guard let pointer else { throw .invalid(what: "private key", reason: "no memory") }
        return PrivateKey(owning: pointer)
    }

    static func generate(_ algorithm: gnutls_pk_algorithm_t, bits: UInt32) throws(CryptoError) -> PrivateKey {
        let key = try empty()
        try check(gnutls_x509_privkey_generate(key.pointer, algorithm, bits, 0), "gnutls_x509_privkey_generate")
        return key
    }

    static func read(pem: String) throws(CryptoError) -> PrivateKey {
        let key = try empty()
        let code = withDatum(pem) { gnutls_x509_privkey_import2(key.pointer, $0, GNUTLS_X509_FMT_PEM, nil, 0) }
        try check(code, "gnutls_x509_privkey_import2")
        return key
    }

    /// PKCS#8, not encrypted.
    func pem() throws(CryptoError) -> String {
        var datum = gnutls_datum_t()
        defer { apus_gnutls_free_secret(&datum) }
        let code = gnutls_x509_privkey_export2_pkcs8(
            pointer, GNUTLS_X509_FMT_PEM, nil, GNUTLS_PKCS_PLAIN.rawValue, &datum)
        try check(code, "gnutls_x509_privkey_export2_pkcs8")
        return text(datum)
    }

    /// `BEGIN RSA PRIVATE KEY`, the form every SSH client reads.
    func traditionalPEM() throws(CryptoError) -> String {
        var datum = gnutls_datum_t()
        defer { apus_gnutls_free_secret(&datum) }
        try check(gnutls_x509_privkey_export2(pointer, GNUTLS_X509_FMT_PEM, &datum), "gnutls_x509_privkey_export2")
        return text(datum)
    }
}

/// Owns an X.509 certificate.
struct Certificate: ~Copyable {
    let pointer: gnutls_x509_crt_t

    private init(owning pointer: gnutls_x509_crt_t) { self.pointer = pointer }

    deinit { gnutls_x509_crt_deinit(pointer) }

    static func empty() throws(CryptoError) -> Certificate {
        var pointer: gnutls_x509_crt_t?
        try check(gnutls_x509_crt_init(&pointer), "gnutls_x509_crt_init")
        guard let pointer else { throw .invalid(what: "certificate", reason: "no memory") }
        return Certificate(owning: pointer)
    }

    static func read(pem: String) throws(CryptoError) -> Certificate {
        let certificate = try empty()
        let code = withDatum(pem) { gnutls_x509_crt_import(certificate.pointer, $0, GNUTLS_X509_FMT_PEM) }
        try check(code, "gnutls_x509_crt_import")
        return certificate
    }

    func pem() throws(CryptoError) -> String {
        var datum = gnutls_datum_t()
        defer { apus_gnutls_free(datum.data) }
        try check(gnutls_x509_crt_export2(pointer, GNUTLS_X509_FMT_PEM, &datum), "gnutls_x509_crt_export2")
        return text(datum)
    }

    func fingerprint() throws(CryptoError) -> String {
        var bytes = [UInt8](repeating: 0, count: 32)
        var count = bytes.count
        let code = gnutls_x509_crt_get_fingerprint(pointer, GNUTLS_DIG_SHA256, &bytes, &count)
        try check(code, "gnutls_x509_crt_get_fingerprint")
        return Hex.encode(bytes)
    }
}

/// Owns a certificate request.
struct Request: ~Copyable {
    let pointer: gnutls_x509_crq_t

    private init(owning pointer: gnutls_x509_crq_t) { self.pointer = pointer }

    deinit { gnutls_x509_crq_deinit(pointer) }

    static func empty() throws(CryptoError) -> Request {
        var pointer: gnutls_x509_crq_t?
        try check(gnutls_x509_crq_init(&pointer), "gnutls_x509_crq_init")
        guard let pointer else { throw .invalid(what: "certificate request", reason: "no memory") }
        return Request(owning: pointer)
    }

    static func read(pem: String) throws(CryptoError) -> Request {
        let request = try empty()
        let code = withDatum(pem) { gnutls_x509_crq_import(request.pointer, $0, GNUTLS_X509_FMT_PEM) }
        try check(code, "gnutls_x509_crq_import")
        return request
    }

    func pem() throws(CryptoError) -> String {
        var datum = gnutls_datum_t()
        defer { apus_gnutls_free(datum.data) }
        try check(gnutls_x509_crq_export2(pointer, GNUTLS_X509_FMT_PEM, &datum), "gnutls_x509_crq_export2")
        return text(datum)
    }
}

/// Owns a public key.
struct PublicKey: ~Copyable {
    let pointer: gnutls_pubkey_t

    init() throws(CryptoError) {
        var pointer: gnutls_pubkey_t?
        try check(gnutls_pubkey_init(&pointer), "gnutls_pubkey_init")
        guard let pointer else { throw .invalid(what: "public key", reason: "no memory") }
        self.pointer = pointer
    }

    deinit { gnutls_pubkey_deinit(pointer) }
}

func withDatum(_ text: String, _ body: (UnsafePointer<gnutls_datum_t>) -> Int32) -> Int32 {
    var bytes = Array(text.utf8)
    return bytes.withUnsafeMutableBufferPointer { buffer in
        var datum = gnutls_datum_t(data: buffer.baseAddress, size: UInt32(buffer.count))
        return body(&datum)
    }
}

func text(_ datum: gnutls_datum_t) -> String { String(decoding: bytes(datum), as: UTF8.self) }

func bytes(_ datum: gnutls_datum_t) -> [UInt8] {
    datum.data.map { Array(UnsafeBufferPointer(start: $0, count: Int(datum.size))) } ?? []
}
