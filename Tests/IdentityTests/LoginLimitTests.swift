import HTTP
import Model
import Testing

@testable import Identity

@Suite("Failed logins")
struct LoginLimitTests {
    @Test("After five failures the wait doubles from 1 s to 60 s")
    func doubling() {
        let limiter = LoginLimiter()
        var now = Timestamp(seconds: 1_000)
        var waits: [Int?] = []
        for _ in 0..<13 {
            #expect(limiter.delay("k", now: now) == nil)
            let wait = limiter.failed("k", now: now)
            waits.append(wait)
            #expect(limiter.delay("k", now: now) == wait)
            now = now + .seconds(wait ?? 0)
        }
        #expect(waits == [nil, nil, nil, nil, 1, 2, 4, 8, 16, 32, 60, 60, 60])
        limiter.succeeded("k")
        #expect(limiter.failed("k", now: now) == nil)
    }

    @Test("Failures are forgotten after 15 quiet minutes")
    func forgotten() {
        let limiter = LoginLimiter()
        for _ in 0..<5 { _ = limiter.failed("k", now: Timestamp(seconds: 0)) }
        #expect(limiter.failed("k", now: Timestamp(seconds: 901)) == nil)
    }

    @Test("The table is bounded, and the oldest make room")
    func bounded() {
        let limiter = LoginLimiter(capacity: 100)
        for index in 0..<1_000 { _ = limiter.failed("\(index)", now: Timestamp(seconds: Int64(index))) }
        #expect(limiter.count <= 100)
        for _ in 0..<4 { _ = limiter.failed("999", now: Timestamp(seconds: 1_000)) }
        #expect(limiter.delay("999", now: Timestamp(seconds: 1_000)) == 1)
    }

    @Test("User and address cannot be shifted into each other")
    func keys() {
        #expect(LoginLimiter.key(user: "ab", address: "c") != LoginLimiter.key(user: "a", address: "bc"))
    }

    @Test(
        "The answer is 401 with Retry-After, for the right password too, and only for that user and address",
        arguments: [
            "admin", "nobody",
        ])
    func answered(name: String) async throws {
        let cloud = try await Cloud()
        for attempt in 1...5 {
            let reply = await cloud.login(Cloud.user(name, "wrong"))
            #expect(reply.status == 401)
            #expect(reply.response.headers["Retry-After"] == (attempt == 5 ? "1" : nil))
        }
        let locked = await cloud.login(Cloud.user(name, "secret"))
        #expect(locked.status == 401)
        #expect(locked.response.headers["Retry-After"] == "1")
        #expect(locked.json?["error"]?["title"] == "Unauthorized")
        #expect(await cloud.login(Cloud.user("admin", "secret"), address: "198.51.100.2").status == 201)
        cloud.clock.advance(by: .seconds(1))
        #expect(await cloud.login(Cloud.user(name, "secret")).status == (name == "admin" ? 201 : 401))
    }

    @Test("Attempts sent side by side gain nothing")
    func parallel() async throws {
        let cloud = try await Cloud()
        let waits = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<12 {
                group.addTask { await cloud.login(Cloud.user("admin", "wrong")).response.headers["Retry-After"] == nil }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        // Two threads work on passwords: one attempt at most may be under way when the fifth fails.
        #expect(waits <= LoginLimiter.freeFailures)
        #expect(await cloud.login(Cloud.user("admin", "secret")).status == 401)
    }
}

@Suite("Token cache")
struct TokenCacheTests {
    private let now = Timestamp(seconds: 1_000)

    private func context(_ token: String) -> AuthenticatedContext {
        AuthenticatedContext(
            userID: UserID("u"), userName: "u", roleReferences: [], issuedAt: now, expiresAt: now + .seconds(100),
            token: token)
    }

    @Test("An entry lasts for its time, and for no longer than its token")
    func lifetime() {
        let cache = TokenCache(lifetime: .seconds(5))
        cache.keep(context("t"), generation: cache.generation, now: now)
        #expect(cache.find("t", now: now + .seconds(4)) != nil)
        #expect(cache.find("t", now: now + .seconds(5)) == nil)
        cache.keep(context("t"), generation: cache.generation, now: now + .seconds(98))
        #expect(cache.find("t", now: now + .seconds(100)) == nil)
    }

    @Test("What was read before a revocation is not kept after it")
    func race() {
        let cache = TokenCache()
        let generation = cache.generation
        cache.forget("t")
        cache.keep(context("t"), generation: generation, now: now)
        #expect(cache.find("t", now: now) == nil)
    }

    @Test("The cache is bounded")
    func bounded() {
        let cache = TokenCache(capacity: 10)
        for index in 0..<100 { cache.keep(context("\(index)"), generation: cache.generation, now: now) }
        #expect(cache.count <= 10)
        #expect(cache.find("99", now: now) != nil)
    }
}
