internal import Crypto

/// A digest of what passes, on a thread of its own while there is one: each of the two that an image has takes longer
/// than writing its bytes.
actor RunningDigest {
    private var digest: Digest?

    init(_ algorithm: HashAlgorithm) { digest = Digest(algorithm) }

    func update(_ bytes: [UInt8]) { digest?.update(bytes) }

    /// The digest of all bytes in lower-case hex; once.
    func finish() -> String {
        guard let digest = digest.take() else { preconditionFailure("a digest is finished once") }
        return Hex.encode(digest.finish())
    }
}
