internal import Crypto
internal import Synchronization
internal import Telemetry

/// Hashes passwords on two threads, so that a flood of logins cannot take the machine; the queue before them is bounded.
final class PasswordWorkers: Sendable {
    enum Verdict: Sendable { case right, wrong(retryAfter: Int?), locked(seconds: Int) }

    static let queueLimit = 64

    private let executor = BlockingExecutor(name: "passwords", threads: 2)
    private let waiting = Mutex(0)
    /// A hash of nobody's password; one for the process, made once.
    private static let decoy = Mutex<String?>(nil)

    /// Verifies a password. Without a `hash` (unknown user) a hash is computed all the same, so that both take as long.
    /// The limiter is asked when it is this attempt's turn, and told before the next one's, so that attempts sent side by side
    /// gain nothing.
    func verify(
        _ password: String, against hash: String?, limiter: LoginLimiter, key: String, now: Now
    ) async throws -> Verdict {
        try await queued {
            if let seconds = limiter.delay(key, now: now()) { return .locked(seconds: seconds) }
            let isRight = Password.verify(password, against: try hash ?? decoyHash())
            guard isRight, hash != nil else { return .wrong(retryAfter: limiter.failed(key, now: now())) }
            limiter.succeeded(key)
            return .right
        }
    }

    /// Throws `IdentityError.badRequest` for a password that cannot be one.
    func hash(_ password: String) async throws -> String {
        try await queued {
            do {
                return try Password.hash(password)
            } catch let error as CryptoError {
                guard case .invalid(_, let reason) = error else { throw error }
                throw IdentityError.badRequest("Invalid input for field 'password': \(reason).")
            }
        }
    }

    private func queued<T: Sendable>(_ body: @Sendable () throws -> T) async throws -> T {
        try waiting.withLock { waiting in
            guard waiting < Self.queueLimit else { throw IdentityError.overloaded }
            waiting += 1
        }
        defer { waiting.withLock { $0 -= 1 } }
        return try await executor.run(body)
    }

    private func decoyHash() throws -> String {
        try Self.decoy.withLock { decoy in
            if let decoy { return decoy }
            let made = try Password.hash(Hex.encode(randomBytes(16)))
            decoy = made
            return made
        }
    }

    /// Makes the hash for unknown users before the first of them asks.
    func warmUp() async throws {
        try await queued { _ = try decoyHash() }
    }
}
