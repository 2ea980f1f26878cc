internal import CCrypt
internal import CGnuTLS
internal import Glibc

/// Passwords hashed by libxcrypt's yescrypt. Both calls take 10–50 ms of a processor and belong on a `BlockingExecutor`.
public enum Password {
    /// The longest password in bytes of UTF-8.
    public static let longest = 256

    /// yescrypt's cost: 2^(cost + 7) blocks of 4 KiB. 5 takes 16 MiB, about 15 ms.
    private static let cost: UInt = 5

    /// A `$y$` hash with a fresh salt. Throws `invalid` for an empty or too long password or one with a NUL.
    public static func hash(_ password: String) throws(CryptoError) -> String {
        let reason: String? =
            if password.isEmpty {
                "it is empty"
            } else if password.utf8.count > longest {
                "it has more than \(longest) bytes"
            } else if password.utf8.contains(0) {
                "it contains a NUL"
            } else {
                nil
            }
        if let reason { throw .invalid(what: "password", reason: reason) }
        let salt = randomBytes(16).map { CChar(bitPattern: $0) }
        var setting = [CChar](repeating: 0, count: Int(CRYPT_GENSALT_OUTPUT_SIZE))
        guard crypt_gensalt_rn("$y$", cost, salt, Int32(salt.count), &setting, Int32(setting.count)) != nil else {
            throw .passwordHashing(errno: errno)
        }
        guard let hash = crypt(password, setting: setting) else { throw .passwordHashing(errno: errno) }
        return hash
    }

    /// Whether `password` made `hash`. False for a hash that cannot be read.
    public static func verify(_ password: String, against hash: String) -> Bool {
        guard password.utf8.count <= longest, !password.utf8.contains(0), !hash.utf8.contains(0) else { return false }
        guard let made = crypt(password, setting: hash.utf8.map { CChar(bitPattern: $0) } + [0]) else { return false }
        return constantTimeEquals(Array(made.utf8), Array(hash.utf8))
    }

    private static func crypt(_ password: String, setting: [CChar]) -> String? {
        // 32 KiB, too much for the small stacks that a thread may have.
        let scratch = UnsafeMutablePointer<crypt_data>.allocate(capacity: 1)
        let size = MemoryLayout<crypt_data>.size
        memset(scratch, 0, size)
        defer {
            gnutls_memset(scratch, 0, size)
            scratch.deallocate()
        }
        return crypt_rn(password, setting, scratch, Int32(size)).map { String(cString: $0) }
    }
}
