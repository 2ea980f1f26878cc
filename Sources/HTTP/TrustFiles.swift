internal import CCurl
internal import CSystem
internal import Glibc

/// Certificates and keys as files that only this process sees: libcurl's GnuTLS backend takes no certificates from
/// memory (`CURLOPT_CAINFO_BLOB` and its like exist for other backends only).
struct TrustFiles: Sendable {
    private let tls: ClientTLS
    private let authority: Int32?
    private let certificate: Int32?
    private let key: Int32?

    init(_ tls: ClientTLS) {
        self.tls = tls
        authority = tls.caPEM.flatMap { Self.memoryFile($0) }
        certificate = tls.clientCertificatePEM.flatMap { Self.memoryFile($0) }
        key = tls.clientKeyPEM.flatMap { Self.memoryFile($0) }
    }

    func close() {
        for descriptor in [authority, certificate, key].compactMap(\.self) { _ = Glibc.close(descriptor) }
    }

    func apply(to handle: UnsafeMutableRawPointer) {
        if let authority {
            _ = apus_curl_set_text(handle, CURLOPT_CAINFO, "/proc/self/fd/\(authority)")
            _ = apus_curl_set_text(handle, CURLOPT_CAPATH, nil)
        } else if tls.caPEM != nil {
            // The certificates could not be kept: believe nobody rather than everybody.
            _ = apus_curl_set_text(handle, CURLOPT_CAINFO, "/nonexistent")
            _ = apus_curl_set_text(handle, CURLOPT_CAPATH, nil)
        } else if let path = tls.caPath {
            _ = apus_curl_set_text(handle, CURLOPT_CAINFO, path)
            _ = apus_curl_set_text(handle, CURLOPT_CAPATH, nil)
        }
        if let certificate { _ = apus_curl_set_text(handle, CURLOPT_SSLCERT, "/proc/self/fd/\(certificate)") }
        if let key { _ = apus_curl_set_text(handle, CURLOPT_SSLKEY, "/proc/self/fd/\(key)") }
        if !tls.verifyPeer {
            _ = apus_curl_set_long(handle, CURLOPT_SSL_VERIFYPEER, 0)
            _ = apus_curl_set_long(handle, CURLOPT_SSL_VERIFYHOST, 0)
        }
    }

    private static func memoryFile(_ text: String) -> Int32? {
        let descriptor = apus_memory_file("apus-tls")
        guard descriptor >= 0 else { return nil }
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else {
                _ = Glibc.close(descriptor)
                return nil
            }
            rest = rest.dropFirst(count)
        }
        return descriptor
    }
}
