internal import CGnuTLS

/// The digests that are in use: md5 and sha1 only where a protocol of others asks for them.
public enum HashAlgorithm: Sendable {
    case md5, sha1, sha256, sha512

    /// Bytes of a digest.
    public var length: Int {
        switch self {
        case .md5: 16
        case .sha1: 20
        case .sha256: 32
        case .sha512: 64
        }
    }

    fileprivate var identifier: gnutls_digest_algorithm_t {
        switch self {
        case .md5: GNUTLS_DIG_MD5
        case .sha1: GNUTLS_DIG_SHA1
        case .sha256: GNUTLS_DIG_SHA256
        case .sha512: GNUTLS_DIG_SHA512
        }
    }
}

/// A digest that is computed while bytes pass.
public struct Digest: ~Copyable, @unchecked Sendable {
    // Sendable: the handle has exactly one owner, and mutating methods need exclusive access to it.
    private let handle: gnutls_hash_hd_t
    private let algorithm: HashAlgorithm

    public init(_ algorithm: HashAlgorithm) {
        self.algorithm = algorithm
        var handle: gnutls_hash_hd_t?
        let code = gnutls_hash_init(&handle, algorithm.identifier)
        guard code == 0, let handle else {
            preconditionFailure("GnuTLS refuses a digest it is built with: \(code)")
        }
        self.handle = handle
    }

    deinit { gnutls_hash_deinit(handle, nil) }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
        let code = gnutls_hash(handle, base, bytes.count)
        precondition(code == 0, "GnuTLS fails to digest only when it is misused: \(code)")
    }

    public mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

    public mutating func update(_ bytes: ArraySlice<UInt8>) { bytes.withUnsafeBytes { update($0) } }

    /// The digest of all bytes so far.
    public consuming func finish() -> [UInt8] {
        let (handle, length) = (handle, algorithm.length)
        discard self
        return [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            gnutls_hash_deinit(handle, buffer.baseAddress)
            count = length
        }
    }
}

/// The digest of `bytes`.
public func digest(_ algorithm: HashAlgorithm, of bytes: [UInt8]) -> [UInt8] {
    var digest = Digest(algorithm)
    digest.update(bytes)
    return digest.finish()
}

/// HMAC-SHA256 of `message` under `key`.
public func hmacSHA256(key: [UInt8], _ message: [UInt8]) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
        let code = gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, key.count, message, message.count, buffer.baseAddress)
        precondition(code == 0, "GnuTLS refuses a MAC it is built with: \(code)")
        count = 32
    }
}

/// Bytes fit for keys and tokens.
public func randomBytes(_ count: Int) -> [UInt8] {
    guard count > 0 else { return [] }
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        guard let base = buffer.baseAddress else { return }
        let code = gnutls_rnd(GNUTLS_RND_KEY, base, count)
        precondition(code == 0, "going on without randomness would make guessable secrets: \(code)")
        filled = count
    }
}

/// Whether both are the same, in time that depends on the lengths only.
public func constantTimeEquals(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    a.count == b.count && gnutls_memcmp(a, b, a.count) == 0
}

/// A random uuid (version 4) in lower case.
public func makeUUID() -> String {
    var bytes = randomBytes(16)
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    var text = Array(Hex.encode(bytes).utf8)
    for index in [20, 16, 12, 8] { text.insert(UInt8(ascii: "-"), at: index) }
    return String(decoding: text, as: UTF8.self)
}
