import Database
import Model
import RPC
import Testing

@Suite("Credentials")
struct CredentialStoreTests {
    private let host = HostName("a")
    private let admission = HostAdmission(
        url: "https://a:8783", hostSecretHash: [9], conductorSecret: "to-a", certificateFingerprint: "ff")

    private func enrolled(_ engine: Engine = .sqlite) async throws -> CredentialStore {
        let credentials = try await makeDatabase(engine).credentials
        try await credentials.enroll(host, tokenHash: [1], expiresAt: at(900), now: at(0))
        return credentials
    }

    @Test(
        "A token admits its host once, in time",
        arguments: [
            ([1], "a", 899, true), ([1], "a", 900, false), ([1], "b", 1, false), ([2], "a", 1, false),
        ] as [([UInt8], String, Int64, Bool)])
    func token(hash: [UInt8], name: String, second: Int64, isAdmitted: Bool) async throws {
        let credentials = try await enrolled()
        let name = HostName(name)
        #expect(try await credentials.isTokenValid(hash, host: name, now: at(second)) == isAdmitted)
        #expect(try await credentials.admit(name, tokenHash: hash, admission, now: at(second)) == isAdmitted)
        #expect(try await !credentials.admit(name, tokenHash: hash, admission, now: at(second)))
    }

    @Test("Of many that use one token at once, one is admitted", arguments: Engine.allCases)
    func race(engine: Engine) async throws {
        let credentials = try await enrolled(engine)
        let admitted = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<20 {
                group.addTask { try await credentials.admit(host, tokenHash: [1], admission, now: at(1)) }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(admitted == 1)
    }

    @Test("An admitted host is known in both directions", arguments: Engine.allCases)
    func admitted(engine: Engine) async throws {
        let credentials = try await enrolled(engine)
        #expect(try await credentials.secret(toward: host) == nil)
        #expect(try await credentials.admit(host, tokenHash: [1], admission, now: at(5)))
        #expect(try await credentials.secret(toward: host) == "to-a")
        #expect(try await credentials.sender(ofHash: [9], receiver: "conductor") == "host:a")
        #expect(try await credentials.sender(ofHash: [9], receiver: "scheduler") == nil)
        let found = try #require(try await credentials.host(host))
        #expect(found.url == "https://a:8783" && found.joinedAt == at(5) && found.revokedAt == nil)
        #expect(found.certificateFingerprint == "ff")
        #expect(try await credentials.hosts() == [found])
    }

    @Test(
        "A second enrolment voids the first token; joining again ends the old credentials", arguments: Engine.allCases)
    func rotation(engine: Engine) async throws {
        let credentials = try await enrolled(engine)
        #expect(try await credentials.admit(host, tokenHash: [1], admission, now: at(1)))
        try await credentials.enroll(host, tokenHash: [2], expiresAt: at(900), now: at(2))
        // Until it joins again the host goes on with what it has.
        #expect(try await credentials.secret(toward: host) == "to-a")
        try await credentials.enroll(host, tokenHash: [3], expiresAt: at(900), now: at(3))
        #expect(try await !credentials.isTokenValid([2], host: host, now: at(4)))
        let next = HostAdmission(
            url: "https://a:8783", hostSecretHash: [8], conductorSecret: "new", certificateFingerprint: nil)
        #expect(try await credentials.admit(host, tokenHash: [3], next, now: at(4)))
        #expect(try await credentials.sender(ofHash: [9], receiver: "conductor") == nil)
        #expect(try await credentials.sender(ofHash: [8], receiver: "conductor") == "host:a")
        #expect(try await credentials.secret(toward: host) == "new")
    }

    @Test("A revoked host has nothing left, and may be enrolled again", arguments: Engine.allCases)
    func revocation(engine: Engine) async throws {
        let credentials = try await enrolled(engine)
        #expect(try await credentials.admit(host, tokenHash: [1], admission, now: at(1)))
        try await credentials.enroll(host, tokenHash: [2], expiresAt: at(900), now: at(2))
        try await credentials.revoke(host, now: at(3))
        #expect(try await credentials.secret(toward: host) == nil)
        #expect(try await credentials.sender(ofHash: [9], receiver: "conductor") == nil)
        #expect(try await !credentials.isTokenValid([2], host: host, now: at(4)))
        #expect(try await credentials.host(host)?.revokedAt == at(3))
        await #expect(throws: StoreError.notFound("Host x")) { try await credentials.revoke(HostName("x"), now: at(1)) }
        try await credentials.enroll(host, tokenHash: [3], expiresAt: at(900), now: at(5))
        #expect(try await credentials.admit(host, tokenHash: [3], admission, now: at(6)))
        #expect(try await credentials.host(host)?.revokedAt == nil)
    }

    @Test(
        "A service's credential is verified for its receiver only, until it makes the next", arguments: Engine.allCases)
    func services(engine: Engine) async throws {
        let credentials = try await makeDatabase(engine).credentials
        let mint = ServiceCredentials(credentials: credentials, role: "api", host: "c1", now: { at(1) })
        let first = try await mint.mint(toward: "conductor")
        let conductor = DatabasePeerVerifier(credentials: credentials, receiver: "conductor")
        let scheduler = DatabasePeerVerifier(credentials: credentials, receiver: "scheduler")
        #expect(try await conductor.verify(peer: first.peer, secret: first.secret) == .service("api"))
        #expect(try await scheduler.verify(peer: first.peer, secret: first.secret) == nil)
        #expect(try await conductor.verify(peer: "host:a", secret: first.secret) == nil)
        #expect(try await conductor.verify(peer: first.peer, secret: first.secret + "0") == nil)
        let second = try await mint.mint(toward: "conductor")
        #expect(try await conductor.verify(peer: first.peer, secret: first.secret) == nil)
        #expect(try await conductor.verify(peer: second.peer, secret: second.secret) == .service("api"))
    }
}
