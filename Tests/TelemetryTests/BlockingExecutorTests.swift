import Foundation
import Synchronization
import Telemetry
import Testing

@Suite("Blocking executor", .timeLimit(.minutes(1)))
struct BlockingExecutorTests {
    private struct Wrong: Error, Equatable { let code: Int }

    @Test("A body runs on a thread of the pool and its result comes back")
    func result() async {
        let executor = BlockingExecutor(name: "test", threads: 1)
        let name = await executor.run { Self.threadName() }
        #expect(name == "test")
    }

    @Test("A typed error comes back as it was thrown")
    func failure() async {
        let executor = BlockingExecutor(name: "test", threads: 1)
        await #expect(throws: Wrong(code: 7)) {
            try await executor.run { () throws(Wrong) in throw Wrong(code: 7) }
        }
    }

    @Test("No more bodies run at once than the pool has threads, and as many as it has do")
    func bound() async {
        let executor = BlockingExecutor(name: "test", threads: 3)
        let crowd = Crowd()
        let gate = DispatchSemaphore(value: 0)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<60 {
                group.addTask {
                    await executor.run {
                        // The first three meet here; the third opens the gate for all sixty.
                        if crowd.enter() == 3 { for _ in 0..<60 { gate.signal() } }
                        _ = gate.wait(timeout: .now() + 20)
                        crowd.leave()
                    }
                }
            }
        }
        #expect(crowd.most == 3)
    }

    @Test("Blocked threads of the pool hold up nobody else")
    func isolation() async {
        let executor = BlockingExecutor(name: "test", threads: 2)
        let gate = DispatchSemaphore(value: 0)
        async let first: Void = executor.run { gate.wait() }
        async let second: Void = executor.run { gate.wait() }
        var sum = 0
        for await value in AsyncStream<Int>(unfolding: { [counter = Counter()] in counter.next() }) { sum += value }
        #expect(sum == 45)
        gate.signal()
        gate.signal()
        _ = await (first, second)
    }

    @Test("Work still runs after a shutdown, and idle threads end")
    func shutdown() async {
        let executor = BlockingExecutor(name: "test", threads: 2)
        _ = await executor.run { 1 }
        executor.shutdown()
        #expect(await executor.run { 2 } == 2)
        while executor.load.threads > 0 { await Task.yield() }
        #expect(executor.load.queued == 0)
    }

    @Test("Task locals reach the body")
    func locals() async {
        let executor = BlockingExecutor(name: "test", threads: 1)
        let id = RequestScope.makeID()
        await RequestScope.$current.withValue(id) {
            #expect(await executor.run { RequestScope.current } == id)
        }
    }

    private final class Counter: Sendable {
        private let value = Atomic<Int>(0)
        func next() -> Int? {
            let next = value.add(1, ordering: .relaxed).oldValue
            return next < 10 ? next : nil
        }
    }

    private final class Crowd: Sendable {
        private struct State: Sendable {
            var now = 0
            var most = 0
        }

        private let state = Mutex(State())
        var most: Int { state.withLock { $0.most } }
        func leave() { state.withLock { $0.now -= 1 } }
        func enter() -> Int {
            state.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
                return $0.now
            }
        }
    }

    private static func threadName() -> String {
        let text = try? String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)
        return text?.trimmingCharacters(in: .newlines) ?? "unknown"
    }
}
