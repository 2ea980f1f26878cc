public import Model
internal import SQL

/// A host that may take part.
public struct EnrolledHost: Sendable, Hashable {
    public var name: HostName
    /// Where its agent listens; `nil` until it has joined.
    public var url: String?
    public var enrolledAt: Timestamp
    public var joinedAt: Timestamp?
    public var revokedAt: Timestamp?
    public var certificateFingerprint: String?
}

/// What a host gives and gets when it joins.
public struct HostAdmission: Sendable, Hashable {
    public var url: String
    /// SHA-256 of what the host will show to conductors.
    public var hostSecretHash: [UInt8]
    /// What conductors will show to the host.
    public var conductorSecret: String
    public var certificateFingerprint: String?

    public init(url: String, hostSecretHash: [UInt8], conductorSecret: String, certificateFingerprint: String?) {
        (self.url, self.hostSecretHash) = (url, hostSecretHash)
        (self.conductorSecret, self.certificateFingerprint) = (conductorSecret, certificateFingerprint)
    }
}

/// Who may speak to whom: per pair and direction. Verifiers find hashes here; the only secrets kept as such are those
/// that conductors show to hosts.
public struct CredentialStore: Sendable {
    let database: any SQLDatabase

    /// Opens the way for `host` to join with a token of this hash, once and until `expiresAt`. Earlier tokens of the host
    /// are void; a host that was revoked may join again.
    public func enroll(_ host: HostName, tokenHash: [UInt8], expiresAt: Timestamp, now: Timestamp) async throws {
        try await database.write { connection in
            try connection.execute("DELETE FROM join_tokens WHERE host = ?", [.text(host.rawValue)])
            try connection.execute("DELETE FROM join_tokens WHERE expires_at < ?", [.integer(now.microseconds)])
            try connection.execute(
                """
                INSERT INTO enrolled_hosts (name, enrolled_at) VALUES (?, ?)
                ON CONFLICT (name) DO UPDATE SET enrolled_at = excluded.enrolled_at
                """, [.text(host.rawValue), .integer(now.microseconds)])
            try connection.execute(
                "INSERT INTO join_tokens (token_hash, host, expires_at, used_at) VALUES (?, ?, ?, NULL)",
                [.blob(tokenHash), .text(host.rawValue), .integer(expiresAt.microseconds)])
        }
    }

    /// Whether a token of this hash opens the way for `host` at `now`; nothing is used up.
    public func isTokenValid(_ hash: [UInt8], host: HostName, now: Timestamp) async throws -> Bool {
        try await database.read { try Self.isTokenValid(hash, host, now, $0) }
    }

    private static func isTokenValid(
        _ hash: [UInt8], _ host: HostName, _ now: Timestamp, _ connection: SQLConnection
    ) throws -> Bool {
        try connection.first(
            "SELECT 1 FROM join_tokens WHERE token_hash = ? AND host = ? AND expires_at > ? AND used_at IS NULL",
            [.blob(hash), .text(host.rawValue), .integer(now.microseconds)]
        ) { $0.int(0) } != nil
    }

    /// Uses up the token and admits the host with new credentials in both directions; the old ones end at once. `false`
    /// when the token does not open (any more).
    public func admit(
        _ host: HostName, tokenHash: [UInt8], _ admission: HostAdmission, now: Timestamp
    ) async throws -> Bool {
        try await database.write { connection in
            guard try Self.isTokenValid(tokenHash, host, now, connection) else { return false }
            try connection.execute(
                "UPDATE join_tokens SET used_at = ? WHERE token_hash = ?",
                [.integer(now.microseconds), .blob(tokenHash)])
            try connection.execute(
                """
                UPDATE enrolled_hosts SET url = ?, joined_at = ?, revoked_at = NULL, certificate_fingerprint = ?,
                    secret = ? WHERE name = ?
                """,
                [
                    .text(admission.url), .integer(now.microseconds), SQLValue(admission.certificateFingerprint),
                    .text(admission.conductorSecret), .text(host.rawValue),
                ])
            try Self.replaceHash(
                admission.hostSecretHash, sender: "host:\(host)", receiver: "conductor", now, connection)
            return true
        }
    }

    /// Ends a host's credentials in both directions, and its tokens. Throws `.notFound`.
    public func revoke(_ host: HostName, now: Timestamp) async throws {
        try await database.write { connection in
            let known = try connection.execute(
                "UPDATE enrolled_hosts SET revoked_at = ?, secret = NULL WHERE name = ?",
                [.integer(now.microseconds), .text(host.rawValue)])
            guard known > 0 else { throw StoreError.notFound("Host \(host)") }
            try connection.execute("DELETE FROM join_tokens WHERE host = ?", [.text(host.rawValue)])
            try connection.execute("DELETE FROM credential_hashes WHERE sender = ?", [.text("host:\(host)")])
        }
    }

    public func host(_ name: HostName) async throws -> EnrolledHost? {
        try await database.read { connection in
            try connection.first(Self.columns + " WHERE name = ?", [.text(name.rawValue)], Self.enrolled)
        }
    }

    public func hosts() async throws -> [EnrolledHost] {
        try await database.read { try $0.query(Self.columns + " ORDER BY name", [], Self.enrolled) }
    }

    /// What conductors show to `host`; `nil` when it has not joined or was revoked.
    public func secret(toward host: HostName) async throws -> String? {
        try await database.read { connection in
            try connection.first("SELECT secret FROM enrolled_hosts WHERE name = ?", [.text(host.rawValue)]) {
                $0.textOrNil(0)
            } ?? nil
        }
    }

    /// Keeps what the agent of a host says of itself, as a JSON text.
    public func setManifest(_ text: String, of host: HostName) async throws {
        try await database.write { connection in
            _ = try connection.execute(
                "UPDATE enrolled_hosts SET manifest = ? WHERE name = ?", [.text(text), .text(host.rawValue)])
        }
    }

    /// What the agent of a host has said of itself; `nil` when it never has.
    public func manifest(of host: HostName) async throws -> String? {
        try await database.read { connection in
            try connection.first("SELECT manifest FROM enrolled_hosts WHERE name = ?", [.text(host.rawValue)]) {
                $0.textOrNil(0)
            } ?? nil
        }
    }

    /// Makes `hash` valid from `sender` (`service:api@control1`) toward `receiver` (`conductor`); the sender's
    /// earlier one toward the same receiver ends.
    public func setHash(_ hash: [UInt8], sender: String, receiver: String, now: Timestamp) async throws {
        try await database.write { try Self.replaceHash(hash, sender: sender, receiver: receiver, now, $0) }
    }

    /// Who shows a secret of this hash toward `receiver`; `nil` when nobody may.
    public func sender(ofHash hash: [UInt8], receiver: String) async throws -> String? {
        try await database.read { connection in
            try connection.first(
                "SELECT sender FROM credential_hashes WHERE secret_hash = ? AND receiver = ?",
                [.blob(hash), .text(receiver)]
            ) { $0.text(0) }
        }
    }

    private static func replaceHash(
        _ hash: [UInt8], sender: String, receiver: String, _ now: Timestamp, _ connection: SQLConnection
    ) throws {
        try connection.execute(
            "DELETE FROM credential_hashes WHERE sender = ? AND receiver = ?", [.text(sender), .text(receiver)])
        try connection.execute(
            "INSERT INTO credential_hashes (secret_hash, sender, receiver, created_at) VALUES (?, ?, ?, ?)",
            [.blob(hash), .text(sender), .text(receiver), .integer(now.microseconds)])
    }

    private static let columns = """
        SELECT name, url, enrolled_at, joined_at, revoked_at, certificate_fingerprint FROM enrolled_hosts
        """

    private static func enrolled(_ row: borrowing SQLRow) -> EnrolledHost {
        EnrolledHost(
            name: HostName(row.text(0)), url: row.textOrNil(1), enrolledAt: Timestamp(microseconds: row.int64(2)),
            joinedAt: row.int64OrNil(3).map { Timestamp(microseconds: $0) },
            revokedAt: row.int64OrNil(4).map { Timestamp(microseconds: $0) }, certificateFingerprint: row.textOrNil(5))
    }
}
