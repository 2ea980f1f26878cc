internal import CGnuTLS

/// One line of an `authorized_keys` file, checked field by field.
public struct SSHPublicKey: Sendable, Hashable {
    /// `ssh-ed25519`, `ssh-rsa`, …
    public let type: String
    /// The key in SSH's wire form.
    public let blob: [UInt8]
    public let comment: String

    /// The longest line that is read, in bytes.
    public static let longest = 16_384

    private static let types: Set<String> = [
        "ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
    ]

    /// Reads `type base64 [comment]` without options. Throws `invalid` with the reason.
    public init(authorizedKey: String) throws(CryptoError) {
        guard authorizedKey.utf8.count <= Self.longest else {
            throw Self.bad("it is longer than \(Self.longest) bytes")
        }
        let line = authorizedKey.trimmingASCIISpace()
        guard !line.utf8.contains(where: { $0 < 0x20 && $0 != 0x09 || $0 == 0x7F }) else {
            throw Self.bad("it has more than one line or control characters")
        }
        let fields = line.split(maxSplits: 2, omittingEmptySubsequences: true) { $0 == " " || $0 == "\t" }
        guard fields.count >= 2 else { throw Self.bad("a type and the key in base64 are wanted") }
        let type = String(fields[0])
        guard Self.types.contains(type) else { throw Self.bad("type \"\(type.prefix(64))\" is not known") }
        guard let blob = Base64.decode(String(fields[1])) else { throw Self.bad("the key is not base64") }
        try Self.check(type: type, blob: blob)
        self.type = type
        self.blob = blob
        comment = fields.count > 2 ? String(fields[2]).trimmingASCIISpace() : ""
    }

    /// MD5 of the key as colon-separated pairs, the form Nova shows.
    public var fingerprintMD5: String {
        digest(.md5, of: blob).map { Hex.encode([$0]) }.joined(separator: ":")
    }

    private static func bad(_ reason: String) -> CryptoError { .invalid(what: "public key", reason: reason) }

    private static func check(type: String, blob: [UInt8]) throws(CryptoError) {
        var reader = WireReader(blob)
        guard let inner = reader.string(), inner == Array(type.utf8) else {
            throw bad("the key inside is not of type \(type)")
        }
        let fields = reader.rest()
        let curve = type.split(separator: "@")[0].split(separator: "-").last.map { Array($0.utf8) } ?? []
        let isWhole: Bool =
            switch type {
            case "ssh-rsa":
                // Exponent, then modulus of 1,024 to 16,384 bits.
                fields.count == 2 && (1...32).contains(fields[0].count) && (128...2_049).contains(fields[1].count)
            case "ssh-ed25519": fields.count == 1 && fields[0].count == 32
            case "sk-ssh-ed25519@openssh.com": fields.count == 2 && fields[0].count == 32 && !fields[1].isEmpty
            case "sk-ecdsa-sha2-nistp256@openssh.com":
                fields.count == 3 && fields[0] == curve && isPoint(fields[1], curve) && !fields[2].isEmpty
            default: fields.count == 2 && fields[0] == curve && isPoint(fields[1], curve)
            }
        guard isWhole, reader.isAtEnd else { throw bad("the key's fields are not those of type \(type)") }
    }

    private static func isPoint(_ bytes: [UInt8], _ curve: [UInt8]) -> Bool {
        let size = [Array("nistp256".utf8): 32, Array("nistp384".utf8): 48, Array("nistp521".utf8): 66][curve]
        return size.map { bytes.count == 1 + 2 * $0 && bytes[0] == 4 } ?? false
    }
}

/// A new RSA key of 2,048 bits: the private key as `BEGIN RSA PRIVATE KEY`, the public one as a line of `authorized_keys`.
/// Takes 50–500 ms of a processor.
public func makeSSHKeyPair(comment: String) throws(CryptoError) -> (privatePEM: String, authorizedKey: String) {
    let key = try PrivateKey.generate(GNUTLS_PK_RSA, bits: 2_048)
    var parts = [gnutls_datum_t](repeating: gnutls_datum_t(), count: 6)
    let code = parts.withUnsafeMutableBufferPointer { part in
        guard let base = part.baseAddress else { return Int32(GNUTLS_E_MEMORY_ERROR) }
        return gnutls_x509_privkey_export_rsa_raw(
            key.pointer, base, base + 1, base + 2, base + 3, base + 4, base + 5)
    }
    defer { for index in parts.indices { apus_gnutls_free_secret(&parts[index]) } }
    try check(code, "gnutls_x509_privkey_export_rsa_raw")
    let blob =
        wireString(Array("ssh-rsa".utf8)) + wireString(wireInteger(bytes(parts[1])))
        + wireString(wireInteger(bytes(parts[0])))
    let line = "ssh-rsa " + Base64.encode(blob) + (comment.isEmpty ? "" : " " + comment)
    return (try key.traditionalPEM(), line)
}

private func wireString(_ bytes: [UInt8]) -> [UInt8] {
    let count = UInt32(bytes.count)
    return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: count >> $0) } + bytes
}

/// A positive number without leading zeros, except the one that keeps it positive.
private func wireInteger(_ bytes: [UInt8]) -> [UInt8] {
    let digits = Array(bytes.drop { $0 == 0 })
    return digits.first.map { $0 & 0x80 != 0 } == true ? [0] + digits : digits
}

private struct WireReader {
    private var bytes: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { self.bytes = bytes[...] }

    var isAtEnd: Bool { bytes.isEmpty }

    mutating func string() -> [UInt8]? {
        guard bytes.count >= 4 else { return nil }
        let count = Int(bytes.prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
        guard bytes.count - 4 >= count else { return nil }
        let value = Array(bytes.dropFirst(4).prefix(count))
        bytes = bytes.dropFirst(4 + count)
        return value
    }

    mutating func rest() -> [[UInt8]] {
        var fields: [[UInt8]] = []
        while let field = string() { fields.append(field) }
        return fields
    }
}

extension String {
    fileprivate func trimmingASCIISpace() -> String {
        let isSpace = { (character: Character) in character == " " || character == "\t" || character.isNewline }
        let start = drop(while: isSpace)
        guard let last = start.lastIndex(where: { !isSpace($0) }) else { return "" }
        return String(start[...last])
    }
}
