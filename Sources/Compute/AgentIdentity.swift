internal import Crypto
internal import FoundationEssentials
internal import Glibc
internal import HTTP
public import Model
public import RPC

/// Who this host is towards conductors, and how it knows them. Files of mode 0600 in the folder `identity` of
/// `[DEFAULT] state_path`.
public struct AgentIdentity: Sendable, Hashable {
    public var host: HostName
    /// What this host shows to conductors.
    public var secret: String
    /// Lower-case hex sha256 of what a conductor shows to this host.
    public var conductorSecretHash: String
    /// URLs of the conductors that this host joined.
    public var conductors: [String]
    /// The certificate authority of this cloud; `nil` where everything is on one machine.
    public var authorityPEM: String?
    /// This host's certificate and its key.
    public var certificatePEM: String?
    public var privateKeyPEM: String?

    public init(
        host: HostName, secret: String, conductorSecretHash: String, conductors: [String],
        authorityPEM: String? = nil, certificatePEM: String? = nil, privateKeyPEM: String? = nil
    ) {
        (self.host, self.secret, self.conductorSecretHash) = (host, secret, conductorSecretHash)
        (self.conductors, self.authorityPEM) = (conductors, authorityPEM)
        (self.certificatePEM, self.privateKeyPEM) = (certificatePEM, privateKeyPEM)
    }

    private enum File: String, CaseIterable {
        case host, conductors
        case conductorSecretHash = "conductor_secret_sha256"
        case authority = "ca.pem"
        case certificate = "certificate.pem"
        case privateKey = "key.pem"
        // Last: a host without it has not joined.
        case secret
    }

    /// Reads the identity below `statePath`; `nil` when the host has not joined. Throws `Failure(.storage)` for files
    /// that cannot be read, and `.forbidden` for ones that others than the owner can.
    public static func load(statePath: String) throws(Failure) -> AgentIdentity? {
        let folder = statePath + "/identity/"
        var texts: [File: String] = [:]
        for file in File.allCases { texts[file] = try readPrivately(folder + file.rawValue) }
        guard let secret = texts[.secret], let host = texts[.host], let hash = texts[.conductorSecretHash] else {
            return nil
        }
        return AgentIdentity(
            host: HostName(host), secret: secret, conductorSecretHash: hash,
            conductors: (texts[.conductors] ?? "").split(separator: "\n").map(String.init),
            authorityPEM: texts[.authority], certificatePEM: texts[.certificate], privateKeyPEM: texts[.privateKey])
    }

    /// Writes the identity below `statePath`, each file whole or not at all.
    public func save(statePath: String) throws(Failure) {
        let folder = statePath + "/identity"
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw Failure(.storage, "\(folder) cannot be made: \(error)")
        }
        let texts: [File: String?] = [
            .host: host.rawValue, .conductors: conductors.joined(separator: "\n"),
            .conductorSecretHash: conductorSecretHash, .authority: authorityPEM, .certificate: certificatePEM,
            .privateKey: privateKeyPEM, .secret: secret,
        ]
        for file in File.allCases {
            let path = "\(folder)/\(file.rawValue)"
            if let text = texts[file] ?? nil {
                try writePrivately(text, to: path)
            } else if unlink(path) != 0, errno != ENOENT {
                throw Failure(.storage, "\(path) cannot be removed: \(String(cString: strerror(errno)))")
            }
        }
    }
}

/// Admits conductors, by the hash that this host got when it joined.
public struct ConductorVerifier: PeerVerifier {
    private let hash: [UInt8]

    /// `secretHash` is lower-case hex.
    public init(secretHash: String) { hash = Array(secretHash.utf8) }

    public func verify(peer: String, secret: String) async throws -> Peer? {
        let shown = Array(Hex.encode(digest(.sha256, of: Array(secret.utf8))).utf8)
        guard peer == "service:conductor" || peer.hasPrefix("service:conductor@"), constantTimeEquals(shown, hash)
        else {
            return nil
        }
        return .service("conductor")
    }
}

/// The content of a file without the line end at its end; `nil` when there is no such file.
func readPrivately(_ path: String) throws(Failure) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else {
        if errno == ENOENT { return nil }
        throw Failure(.storage, "\(path) cannot be opened: \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw Failure(.storage, "\(path) cannot be examined") }
    guard status.st_mode & 0o077 == 0 else {
        throw Failure(.forbidden, "\(path) can be read by others than its owner; it must have mode 0600")
    }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while bytes.count <= 65_536 {
        let count = read(descriptor, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw Failure(.storage, "\(path) cannot be read") }
        if count == 0 { break }
        bytes += buffer[..<count]
    }
    guard bytes.count <= 65_536 else { throw Failure(.storage, "\(path) is too large") }
    while bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
}

/// Writes a file of mode 0600 under another name, makes it durable and gives it its name.
private func writePrivately(_ text: String, to path: String) throws(Failure) {
    let draft = path + ".new"
    func fail(_ what: String) -> Failure {
        Failure(.storage, "\(path) cannot be \(what): \(String(cString: strerror(errno)))")
    }
    if unlink(draft) != 0, errno != ENOENT { throw fail("written") }
    let descriptor = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw fail("written") }
    defer { close(descriptor) }
    var rest = Array((text + "\n").utf8)[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { throw fail("written") }
        rest = rest.dropFirst(count)
    }
    guard fsync(descriptor) == 0, rename(draft, path) == 0 else { throw fail("written") }
}

extension AgentIdentity {
    /// What this host shows of itself; `nil` for one that joined in plaintext.
    var serverTLS: ServerTLS? {
        guard let certificatePEM, let privateKeyPEM else { return nil }
        // Conductors show a secret; hosts that fetch disks a certificate, too.
        return ServerTLS(
            certificatePEM: certificatePEM, privateKeyPEM: privateKeyPEM, trustPEM: authorityPEM,
            requiresClientCertificate: false)
    }
}
