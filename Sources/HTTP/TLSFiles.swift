internal import CSystem
internal import Glibc

/// Certificates and keys as files without names: libcurl on GnuTLS takes them by path only.
final class TLSFiles: Sendable {
    let authorities: String?
    let certificate: String?
    let key: String?
    private let descriptors: [Int32]

    /// `nil` when the system has no descriptors left.
    init?(_ tls: ClientTLS) {
        var descriptors: [Int32] = []
        var isComplete = true
        func file(_ text: String?, _ name: String) -> String? {
            guard let text else { return nil }
            let descriptor = apus_memory_file(name)
            guard descriptor >= 0 else {
                isComplete = false
                return nil
            }
            descriptors.append(descriptor)
            var rest = Array(text.utf8)[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
                guard count > 0 else {
                    isComplete = false
                    return nil
                }
                rest = rest.dropFirst(count)
            }
            return "/proc/self/fd/\(descriptor)"
        }
        authorities = file(tls.caPEM, "ca") ?? tls.caPath
        certificate = file(tls.clientCertificatePEM, "certificate")
        key = file(tls.clientKeyPEM, "key")
        self.descriptors = descriptors
        guard isComplete else { return nil }
    }

    deinit {
        for descriptor in descriptors { close(descriptor) }
    }
}
