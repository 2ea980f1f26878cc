import Model
import RPC
import SQLite
import TaskStore
import Testing

@Suite("Requests on record")
struct SQLiteIdempotencyStoreTests {
    private func makeStore(limit: Int = 3) async throws -> SQLiteIdempotencyStore {
        let database = try await SQLiteDatabase.open(.memory)
        try await database.migrate(
            SQLiteIdempotencyStore.migrations, component: SQLiteIdempotencyStore.component)
        return SQLiteIdempotencyStore(database: database, limit: limit)
    }

    private func begin(
        _ store: SQLiteIdempotencyStore, peer: String = "host:a", key: String = "k", hash: [UInt8] = [1],
        at second: Int64 = 0
    ) async throws -> IdempotencyDecision {
        try await store.begin(
            peer: peer, method: "m", key: key, parametersHash: hash, now: Timestamp(seconds: second))
    }

    @Test("The first request of a key is executed; later ones find it running, then its answer")
    func life() async throws {
        let store = try await makeStore()
        #expect(try await begin(store) == .execute)
        #expect(try await begin(store) == .running)
        try await store.finish(peer: "host:a", method: "m", key: "k", response: [7], now: Timestamp(seconds: 1))
        #expect(try await begin(store) == .finished(response: [7]))
    }

    @Test("The same key with other parameters is a mismatch")
    func mismatch() async throws {
        let store = try await makeStore()
        #expect(try await begin(store) == .execute)
        #expect(try await begin(store, hash: [2]) == .mismatch)
    }

    @Test("A key is one peer's own")
    func peers() async throws {
        let store = try await makeStore()
        #expect(try await begin(store) == .execute)
        #expect(try await begin(store, peer: "host:b", hash: [2]) == .execute)
    }

    @Test("An abandoned request may be sent again, and frees its place")
    func abandon() async throws {
        let store = try await makeStore(limit: 1)
        #expect(try await begin(store) == .execute)
        try await store.abandon(peer: "host:a", method: "m", key: "k")
        try await store.abandon(peer: "host:a", method: "m", key: "k")
        #expect(try await begin(store, hash: [2]) == .execute)
        await #expect(throws: Failure.self) { _ = try await begin(store, key: "other") }
    }

    @Test("A peer has a bounded number of records; trimming makes room")
    func bound() async throws {
        let store = try await makeStore(limit: 2)
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
}
