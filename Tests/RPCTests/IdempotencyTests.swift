import HTTP
import Model
import RPC
import Testing

private func record(_ text: String) -> String {
    #"{"jsonrpc":"2.0","id":1,"method":"test.record","params":{"text":"\#(text)","labels":{}}}"#
}

private let key: HTTPFields = ["Idempotency-Key": "k1"]

@Suite("Idempotency", .timeLimit(.minutes(1)))
struct IdempotencyTests {
    @Test("A repetition gets the recorded answer and is not executed again")
    func repetition() async throws {
        let rig = Rig()
        let first = try await rig.answer(record("a"), headers: key)
        #expect(first["result"] == [:])
        #expect(try await rig.answer(record("a"), headers: key) == first)
        #expect(rig.deeds.recorded == ["a"])
    }

    @Test("The same key with other parameters is an error, while the first runs and after it")
    func mismatch() async throws {
        let hold = Gate()
        let rig = Rig(hold: hold)
        async let first = rig.answer(record("a"), headers: key)
        while rig.deeds.recorded.isEmpty { await Task.yield() }
        let during = try await rig.answer(record("b"), headers: key)
        #expect(during["error"]?["data"]?["kind"] == "idempotency_mismatch")
        await hold.open()
        #expect(try await first["result"] == [:])
        let after = try await rig.answer(record("b"), headers: key)
        #expect(after["error"]?["data"]?["kind"] == "idempotency_mismatch")
        #expect(rig.deeds.recorded == ["a"])
    }

    @Test("Who comes while the request runs attaches to it")
    func attaching() async throws {
        let hold = Gate()
        let rig = Rig(hold: hold)
        let answers = try await withThrowingTaskGroup(of: JSON.self) { group in
            for _ in 0..<20 { group.addTask { try await rig.answer(record("a"), headers: key) } }
            while rig.deeds.recorded.isEmpty { await Task.yield() }
            await hold.open()
            return try await group.reduce(into: [JSON]()) { $0.append($1) }
        }
        #expect(answers.count == 20)
        #expect(answers.allSatisfy { $0["result"] == [:] })
        #expect(rig.deeds.recorded == ["a"])
    }

    @Test("A caller that goes away does not take the execution along")
    func abandonedCaller() async throws {
        let hold = Gate()
        let rig = Rig(hold: hold)
        let caller = Task { try await rig.answer(record("a"), headers: key) }
        while rig.deeds.recorded.isEmpty { await Task.yield() }
        caller.cancel()
        async let second = rig.answer(record("a"), headers: key)
        await hold.open()
        #expect(try await second["result"] == [:])
        _ = try await caller.value
        #expect(rig.deeds.recorded == ["a"])
    }

    @Test("What failed may be sent again")
    func failed() async throws {
        let rig = Rig()
        for _ in 0..<2 {
            let answer = try await rig.answer(record("bad"), headers: key)
            #expect(answer["error"]?["data"]?["kind"] == "storage")
        }
        #expect(rig.deeds.recorded == ["bad", "bad"])
    }

    @Test("A request that was recorded by a process that died is executed")
    func afterCrash() async throws {
        let store = MemoryIdempotencyStore()
        let dead = Rig(store: store, hold: Gate())
        let lost = Task { try await dead.answer(record("a"), headers: key) }
        while dead.deeds.recorded.isEmpty { await Task.yield() }
        let alive = Rig(store: store)
        #expect(try await alive.answer(record("a"), headers: key)["result"] == [:])
        #expect(alive.deeds.recorded == ["a"])
        lost.cancel()
    }

    @Test("Keys belong to one peer and one method")
    func scope() async throws {
        let rig = Rig()
        _ = try await rig.answer(record("a"), Rig.api, headers: key)
        #expect(try await rig.answer(record("b"), Rig.host, headers: key)["result"] == [:])
        let other = #"{"jsonrpc":"2.0","id":1,"method":"test.double","params":{"value":1}}"#
        #expect(try await rig.answer(other, headers: key)["result"] == ["value": 2])
        #expect(rig.deeds.recorded == ["a", "b", "double"])
    }

    @Test("A key is 1 to 255 bytes long", arguments: ["", String(repeating: "k", count: 256)])
    func keyLength(key: String) async throws {
        let rig = Rig()
        let answer = try await rig.answer(record("a"), headers: ["Idempotency-Key": key])
        #expect(answer["error"]?["data"]?["kind"] == "invalid_parameters")
        #expect(rig.deeds.recorded.isEmpty)
    }

    @Test("A peer has a bounded number of records, and trimming makes room")
    func bounded() async throws {
        let store = MemoryIdempotencyStore(limit: 2)
        let rig = Rig(store: store)
        for name in ["1", "2"] { _ = try await rig.answer(record("a"), headers: ["Idempotency-Key": name]) }
        let full = try await rig.answer(record("a"), headers: ["Idempotency-Key": "3"])
        #expect(full["error"]?["data"]?["kind"] == "overloaded")
        #expect(full["error"]?["data"]?["retriable"] == true)
        #expect(try await rig.answer(record("a"), Rig.host, headers: key)["result"] == [:])
        try await store.trim(before: Timestamp(seconds: 1_001))
        #expect(try await rig.answer(record("a"), headers: ["Idempotency-Key": "3"])["result"] == [:])
    }
}
