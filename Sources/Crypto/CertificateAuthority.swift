internal import CGnuTLS
internal import Glibc
public import Model

/// An authority of our own that signs the certificates of services and hosts (ECDSA P-256, SHA-256).
public struct CertificateAuthority: Sendable {
    public let certificatePEM: String
    public let privateKeyPEM: String
    /// SHA-256 over the certificate's DER form, in hexadecimal.
    public let fingerprint: String

    /// Takes over an authority that was made earlier. Throws when either text cannot be read, or when they do not belong together.
    public init(certificatePEM: String, privateKeyPEM: String) throws(CryptoError) {
        let certificate = try Certificate.read(pem: certificatePEM)
        let key = try PrivateKey.read(pem: privateKeyPEM)
        guard gnutls_x509_crt_get_ca_status(certificate.pointer, nil) == 1 else {
            throw .invalid(what: "certificate authority", reason: "the certificate is not one of an authority")
        }
        guard try keyID(certificate) == keyID(key) else {
            throw .invalid(what: "certificate authority", reason: "the key does not belong to the certificate")
        }
        self.certificatePEM = certificatePEM
        self.privateKeyPEM = privateKeyPEM
        fingerprint = try certificate.fingerprint()
    }

    /// Makes an authority with a new key, valid from five minutes before `now` (default: the machine's clock).
    public static func make(
        name: String, validity: Duration = .seconds(3_650 * 86_400), now: Timestamp? = nil
    ) throws(CryptoError) -> CertificateAuthority {
        let key = try PrivateKey.generate(GNUTLS_PK_ECDSA, bits: apus_p256_bits())
        let certificate = try Certificate.empty()
        let pointer = certificate.pointer
        try check(gnutls_x509_crt_set_key(pointer, key.pointer), "gnutls_x509_crt_set_key")
        let now = now ?? Timestamp(seconds: Int64(time(nil)))
        try fill(certificate, commonName: name, now: now, until: now + validity)
        try check(gnutls_x509_crt_set_basic_constraints(pointer, 1, 0), "gnutls_x509_crt_set_basic_constraints")
        let usage = UInt32(GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN)
        try check(gnutls_x509_crt_set_key_usage(pointer, usage), "gnutls_x509_crt_set_key_usage")
        let code = gnutls_x509_crt_sign2(pointer, pointer, key.pointer, GNUTLS_DIG_SHA256, 0)
        try check(code, "gnutls_x509_crt_sign2")
        return try CertificateAuthority(certificatePEM: certificate.pem(), privateKeyPEM: key.pem())
    }

    /// Signs a certificate for the request's key, for servers and clients alike.
    ///
    /// `names` (DNS names or IP addresses) and `commonName` replace whatever the request says. Valid from five minutes before
    /// `now` until `validity` after it, at most as long as the authority itself.
    public func issue(
        requestPEM: String, names: [String], commonName: String, validity: Duration, now: Timestamp
    ) throws(CryptoError) -> String {
        let request = try Request.read(pem: requestPEM)
        // Proves that the sender has the private key.
        try check(gnutls_x509_crq_verify(request.pointer, 0), "gnutls_x509_crq_verify")
        let publicKey = try PublicKey()
        let imported = gnutls_pubkey_import_x509_crq(publicKey.pointer, request.pointer, 0)
        try check(imported, "gnutls_pubkey_import_x509_crq")
        try refuseWeak(publicKey)

        let authority = try Certificate.read(pem: certificatePEM)
        let key = try PrivateKey.read(pem: privateKeyPEM)
        let certificate = try Certificate.empty()
        let pointer = certificate.pointer
        try check(gnutls_x509_crt_set_pubkey(pointer, publicKey.pointer), "gnutls_x509_crt_set_pubkey")
        let end = min(now + validity, expiry(authority))
        guard end > now else {
            throw .invalid(what: "certificate authority", reason: "it expired at \(expiry(authority).iso8601)")
        }
        try Self.fill(certificate, commonName: commonName, now: now, until: end)
        try check(gnutls_x509_crt_set_basic_constraints(pointer, 0, -1), "gnutls_x509_crt_set_basic_constraints")
        let usage = UInt32(GNUTLS_KEY_DIGITAL_SIGNATURE)
        try check(gnutls_x509_crt_set_key_usage(pointer, usage), "gnutls_x509_crt_set_key_usage")
        for purpose in ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"] {
            let code = gnutls_x509_crt_set_key_purpose_oid(pointer, purpose, 0)
            try check(code, "gnutls_x509_crt_set_key_purpose_oid")
        }
        for name in names { try add(name: name, to: certificate) }
        let identifier = try keyID(authority)
        let code = gnutls_x509_crt_set_authority_key_id(pointer, identifier, identifier.count)
        try check(code, "gnutls_x509_crt_set_authority_key_id")
        let signed = gnutls_x509_crt_sign2(pointer, authority.pointer, key.pointer, GNUTLS_DIG_SHA256, 0)
        try check(signed, "gnutls_x509_crt_sign2")
        return try certificate.pem()
    }

    private static func fill(
        _ certificate: borrowing Certificate, commonName: String, now: Timestamp, until end: Timestamp
    ) throws(CryptoError) {
        let pointer = certificate.pointer
        try check(gnutls_x509_crt_set_version(pointer, 3), "gnutls_x509_crt_set_version")
        var serial = randomBytes(16)
        // A serial number is a positive integer.
        serial[0] = serial[0] & 0x7F | 0x40
        try check(gnutls_x509_crt_set_serial(pointer, serial, serial.count), "gnutls_x509_crt_set_serial")
        let name = Array(commonName.utf8)
        guard (1...64).contains(name.count), !name.contains(where: { $0 < 0x20 }) else {
            throw .invalid(what: "common name", reason: "1 to 64 bytes without control characters are allowed")
        }
        let code = gnutls_x509_crt_set_dn_by_oid(pointer, "2.5.4.3", 0, name, UInt32(name.count))
        try check(code, "gnutls_x509_crt_set_dn_by_oid")
        // Clocks of machines that talk to each other differ a little.
        let start = time_t(now.microseconds / 1_000_000 - 300)
        try check(gnutls_x509_crt_set_activation_time(pointer, start), "gnutls_x509_crt_set_activation_time")
        let last = time_t(end.microseconds / 1_000_000)
        try check(gnutls_x509_crt_set_expiration_time(pointer, last), "gnutls_x509_crt_set_expiration_time")
        let identifier = try keyID(certificate)
        let marked = gnutls_x509_crt_set_subject_key_id(pointer, identifier, identifier.count)
        try check(marked, "gnutls_x509_crt_set_subject_key_id")
    }

    private func add(name: String, to certificate: borrowing Certificate) throws(CryptoError) {
        let address = networkAddress(name)
        let data = address ?? Array(name.utf8)
        if address == nil {
            let isHostname = data.allSatisfy { byte in
                Character(UnicodeScalar(byte)).isASCII
                    && (Character(UnicodeScalar(byte)).isLetter || Character(UnicodeScalar(byte)).isNumber
                        || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_"))
            }
            guard isHostname, (1...253).contains(data.count) else {
                throw .invalid(
                    what: "certificate name \"\(name)\"", reason: "it is neither a DNS name nor an IP address")
            }
        }
        let kind = address == nil ? GNUTLS_SAN_DNSNAME : GNUTLS_SAN_IPADDRESS
        let code = gnutls_x509_crt_set_subject_alt_name(
            certificate.pointer, kind, data, UInt32(data.count), UInt32(GNUTLS_FSAN_APPEND))
        try check(code, "gnutls_x509_crt_set_subject_alt_name")
    }

    private func refuseWeak(_ key: borrowing PublicKey) throws(CryptoError) {
        var bits: UInt32 = 0
        let algorithm = gnutls_pubkey_get_pk_algorithm(key.pointer, &bits)
        try check(algorithm, "gnutls_pubkey_get_pk_algorithm")
        let strength = gnutls_pk_bits_to_sec_param(gnutls_pk_algorithm_t(UInt32(algorithm)), bits)
        guard strength.rawValue >= GNUTLS_SEC_PARAM_MEDIUM.rawValue else {
            throw .invalid(what: "certificate request", reason: "a key of \(bits) bits is too weak")
        }
    }
}

/// A new key and the request to have it certified.
public enum CertificateRequest {
    /// A request for an ECDSA P-256 key made here; the private key is PKCS#8, not encrypted.
    public static func make(commonName: String) throws(CryptoError) -> (requestPEM: String, privateKeyPEM: String) {
        let key = try PrivateKey.generate(GNUTLS_PK_ECDSA, bits: apus_p256_bits())
        let request = try Request.empty()
        try check(gnutls_x509_crq_set_version(request.pointer, 1), "gnutls_x509_crq_set_version")
        let name = Array(commonName.utf8)
        let code = gnutls_x509_crq_set_dn_by_oid(request.pointer, "2.5.4.3", 0, name, UInt32(name.count))
        try check(code, "gnutls_x509_crq_set_dn_by_oid")
        try check(gnutls_x509_crq_set_key(request.pointer, key.pointer), "gnutls_x509_crq_set_key")
        let signed = gnutls_x509_crq_sign2(request.pointer, key.pointer, GNUTLS_DIG_SHA256, 0)
        try check(signed, "gnutls_x509_crq_sign2")
        return try (request.pem(), key.pem())
    }
}

/// SHA-256 over the certificate's DER form, in hexadecimal.
public func certificateFingerprint(pem: String) throws(CryptoError) -> String {
    try Certificate.read(pem: pem).fingerprint()
}

/// The moment after which the certificate is not valid.
public func certificateExpiry(pem: String) throws(CryptoError) -> Timestamp {
    let certificate = try Certificate.read(pem: pem)
    return expiry(certificate)
}

private func expiry(_ certificate: borrowing Certificate) -> Timestamp {
    Timestamp(seconds: Int64(gnutls_x509_crt_get_expiration_time(certificate.pointer)))
}

private func keyID(_ certificate: borrowing Certificate) throws(CryptoError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 20)
    var count = bytes.count
    try check(gnutls_x509_crt_get_key_id(certificate.pointer, 0, &bytes, &count), "gnutls_x509_crt_get_key_id")
    return Array(bytes.prefix(count))
}

private func keyID(_ key: borrowing PrivateKey) throws(CryptoError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 20)
    var count = bytes.count
    try check(gnutls_x509_privkey_get_key_id(key.pointer, 0, &bytes, &count), "gnutls_x509_privkey_get_key_id")
    return Array(bytes.prefix(count))
}

/// The 4 or 16 bytes of an IP address; `nil` when `text` is none.
private func networkAddress(_ text: String) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 16)
    if inet_pton(AF_INET, text, &bytes) == 1 { return Array(bytes.prefix(4)) }
    return inet_pton(AF_INET6, text, &bytes) == 1 ? bytes : nil
}
