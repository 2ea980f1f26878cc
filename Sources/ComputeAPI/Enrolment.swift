internal import Configuration
internal import Crypto
internal import Database
internal import HTTP
internal import Model

/// Lets hosts in and out: one-time tokens, and the end of credentials.
struct Enrolment: Sendable {
    /// How long a token opens the way.
    static let tokenLifetime = Duration.seconds(900)

    let database: ControlDatabase
    let conductor: ConductorLink
    let now: @Sendable () -> Timestamp

    func hosts() async throws -> [EnrolledHost] { try await database.credentials.hosts() }

    /// Answers a token with which `name` can join once. Earlier tokens of the host are void.
    func enroll(_ name: String) async throws -> HTTPResponse {
        guard isHostName(name) else {
            throw APIError.badRequest("A host's name has 1 to 253 letters, digits, dots, dashes and underscores.")
        }
        let secret = Hex.encode(randomBytes(24))
        let moment = now()
        let expiry = moment + Self.tokenLifetime
        try await database.credentials.enroll(
            HostName(name), tokenHash: digest(.sha256, of: Array(secret.utf8)), expiresAt: expiry, now: moment)
        // Behind the dot, by what the host knows the installation's certificate authority.
        let authority = ControlPlaneAuthority(settings: database.settings, now: now)
        let token = secret + (try await authority.fingerprint().map { "." + $0 } ?? "")
        return jsonAnswer { writer in
            writer.member("token", token)
            writer.member("expires_at", expiry.iso8601)
            writer.object("host") { writer in
                writer.member("name", name)
                writer.member("token", token)
                writer.member("expires_at", expiry.iso8601)
            }
        }
    }

    /// A token with which a host that has joined gets new credentials; the old ones end when it does.
    func rotate(_ name: String) async throws -> HTTPResponse {
        guard let host = try await database.credentials.host(HostName(name)), host.joinedAt != nil else {
            throw APIError.notFound("Host \(name) has not joined.")
        }
        guard host.revokedAt == nil else {
            throw APIError.conflict("Host \(name) was revoked; enroll it to let it in again.")
        }
        return try await enroll(name)
    }

    /// Ends the host's credentials in both directions.
    func revoke(_ name: String) async throws {
        try await database.credentials.revoke(HostName(name), now: now())
        await conductor.forget(HostName(name))
    }
}
