internal import Crypto
public import Model

/// The certificate authority of one installation. Made when it is first needed, and the same for every control process.
public struct ControlPlaneAuthority: Sendable {
    private let settings: SettingsStore
    private let now: @Sendable () -> Timestamp

    private static let certificateName = "ca.certificate"
    private static let keyName = "ca.key"

    public init(settings: SettingsStore, now: @escaping @Sendable () -> Timestamp) {
        (self.settings, self.now) = (settings, now)
    }

    /// The authority's certificate, or `nil` when none has been needed yet.
    public func certificate() async throws -> String? {
        try await settings.value(Self.certificateName).map { String(decoding: $0, as: UTF8.self) }
    }

    /// SHA-256 of the authority's certificate in hex, as join tokens carry it; `nil` when there is none yet.
    public func fingerprint() async throws -> String? {
        try await certificate().map { try certificateFingerprint(pem: $0) }
    }

    /// Makes the authority if there is none, and gives its certificate.
    @discardableResult
    public func establish() async throws -> String { try await authority().certificatePEM }

    /// A key and a certificate for a service that listens under `names` (host names and addresses).
    public func issueServer(
        commonName: String, names: [String]
    ) async throws -> (certificatePEM: String, privateKeyPEM: String) {
        let request = try CertificateRequest.make(commonName: commonName)
        let certificate = try await sign(requestPEM: request.requestPEM, commonName: commonName, names: names)
        return (certificate, request.privateKeyPEM)
    }

    /// A certificate for the key in `requestPEM`; the names are the ones given, whatever the request says.
    public func sign(requestPEM: String, commonName: String, names: [String]) async throws -> String {
        try await authority().issue(
            requestPEM: requestPEM, names: names, commonName: commonName, validity: .seconds(825 * 86_400), now: now())
    }

    private func authority() async throws -> CertificateAuthority {
        if let certificate = try await settings.value(Self.certificateName),
            let key = try await settings.value(Self.keyName)
        {
            return try Self.read(certificate, key)
        }
        let made = try CertificateAuthority.make(name: "Apus")
        let stored = try await settings.establish([
            Self.certificateName: Array(made.certificatePEM.utf8), Self.keyName: Array(made.privateKeyPEM.utf8),
        ])
        return try Self.read(stored[Self.certificateName] ?? [], stored[Self.keyName] ?? [])
    }

    private static func read(_ certificate: [UInt8], _ key: [UInt8]) throws -> CertificateAuthority {
        try CertificateAuthority(
            certificatePEM: String(decoding: certificate, as: UTF8.self),
            privateKeyPEM: String(decoding: key, as: UTF8.self))
    }
}
