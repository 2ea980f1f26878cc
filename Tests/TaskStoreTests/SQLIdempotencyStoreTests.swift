import Model
import RPC
import SQL
import TaskStore
import Testing

@Suite("Requests on record")
struct SQLIdempotencyStoreTests {
    private func makeStore(_ engine: Engine, limit: Int = 3) async throws -> SQLIdempotencyStore {
        let database = try await engine.open()
        try await database.migrate(
            SQLIdempotencyStore.migrations, component: SQLIdempotencyStore.component)
        return SQLIdempotencyStore(database: database, limit: limit)
    }

    private func begin(
        _ store: SQLIdempotencyStore, peer: String = "host:a", key: String = "k", hash: [UInt8] = [1],
        at second: Int64 = 0
    ) async throws -> IdempotencyDecision {
        try await store.begin(
            peer: peer, method: "m", key: key, parametersHash: hash, now: Timestamp(seconds: second))
    }

    @Test(
        "The first request of a key is executed; later ones find it running, then its answer",
        arguments: Engine.allCases)
    func life(engine: Engine) async throws {
        let store = try await makeStore(engine)
        #expect(try await begin(store) == .execute)
        #expect(try await begin(store) == .running)
        try await store.finish(peer: "host:a", method: "m", key: "k", response: [7], now: Timestamp(seconds: 1))
        #expect(try await begin(store) == .finished(response: [7]))
    }

    @Test("The same key with other parameters is a mismatch", arguments: Engine.allCases)
    func mismatch(engine: Engine) async throws {
        let store = try await makeStore(engine)
        #expect(try await begin(store) == .execute)
        #expect(try await begin(store, hash: [2]) == .mismatch)
    }

    @Test("A key is one peer's own", arguments: Engine.allCases)
    func peers(engine: Engine) async throws {
        let store = try await makeStore(engine)
        #expect(try await begin(store) == .execute)
        #expect(try await begin(store, peer: "host:b", hash: [2]) == .execute)
    }

    @Test("An abandoned request may be sent again, and frees its place", arguments: Engine.allCases)
    func abandon(engine: Engine) async throws {
        let store = try await makeStore(engine, limit: 1)
        #expect(try await begin(store) == .execute)
        try await store.abandon(peer: "host:a", method: "m", key: "k")
        try await store.abandon(peer: "host:a", method: "m", key: "k")
        #expect(try await begin(store, hash: [2]) == .execute)
        await #expect(throws: Failure.self) { _ = try await begin(store, key: "other") }
    }

    @Test("A peer has a bounded number of records; trimming makes room", arguments: Engine.allCases)
    func bound(engine: Engine) async throws {
        let store = try await makeStore(engine, limit: 2)
        #expect(try await begin(store, key: "1", at: 10) == .execute)
        #expect(try await begin(store, key: "2", at: 20) == .execute)
        do {
            _ = try await begin(store, key: "3", at: 30)
            Issue.record("a record beyond the limit was accepted")
        } catch let failure as Failure {
            #expect(failure.kind == .overloaded)
        }
        #expect(try await begin(store, peer: "host:b", key: "3", at: 30) == .execute)
        try await store.trim(before: Timestamp(seconds: 20))
        #expect(try await begin(store, key: "3", at: 30) == .execute)
        #expect(try await begin(store, key: "2", at: 30) == .running)
    }

    @Test("Of many that send one request at once, one is executed; none is lost", arguments: Engine.allCases)
    func race(engine: Engine) async throws {
        let store = try await makeStore(engine, limit: 100)
        let decisions = try await withThrowingTaskGroup(of: IdempotencyDecision.self) { group in
            for number in 0..<40 { group.addTask { try await begin(store, key: "k\(number % 2)") } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(decisions.count { $0 == .execute } == 2)
        #expect(decisions.count { $0 == .running } == 38)
    }
}
