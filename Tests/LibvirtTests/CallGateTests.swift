import Dispatch
import Synchronization
import Testing

@testable import Libvirt

@Suite("The gate for blocking calls", .timeLimit(.minutes(1)))
struct CallGateTests {
    /// Blocks threads until it is opened.
    final class Latch: Sendable {
        private let semaphore = DispatchSemaphore(value: 0)
        let entered = AsyncStream<Void>.makeStream()

        func block() -> Result<Int, LibvirtError> {
            entered.continuation.yield()
            semaphore.wait()
            semaphore.signal()
            return .success(1)
        }

        func open() { semaphore.signal() }

        func waitUntilEntered(_ count: Int) async {
            var seen = 0
            for await _ in entered.stream {
                seen += 1
                if seen == count { return }
            }
        }
    }

    /// Counts who is inside at a time.
    final class Tally: Sendable {
        private let counts = Mutex((now: 0, most: 0))

        func enter() {
            counts.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
            }
        }

        func leave() { counts.withLock { $0.now -= 1 } }

        var most: Int { counts.withLock { $0.most } }
    }

    private let hour = Duration.seconds(3_600)

    @Test("A call over its deadline is given up, its thread replaced, and both are put right when it returns")
    func stuck() async throws {
        let gate = CallGate(name: "gate-stuck", threads: 1, stuckLimit: 1)
        let latch = Latch()
        await error(.operationTimeout) { _ = try await gate.run("hang", deadline: .milliseconds(20), latch.block) }
        #expect(gate.stuckCalls == 1)
        #expect(try await gate.run("next", deadline: hour) { .success(7) } == 7)
        latch.open()
        gate.close()
        await gate.drained()
        #expect(gate.stuckCalls == 0)
    }

    @Test("Beyond the limit of stuck calls others wait, until their own deadline")
    func stuckLimit() async throws {
        let gate = CallGate(name: "gate-limit", threads: 1, stuckLimit: 0)
        let latch = Latch()
        await error(.operationTimeout) { _ = try await gate.run("hang", deadline: .milliseconds(20), latch.block) }
        await error(.operationTimeout) {
            _ = try await gate.run("wait", deadline: .milliseconds(20)) { .success(1) }
        }
        latch.open()
        #expect(try await gate.run("after", deadline: hour) { .success(3) } == 3)
    }

    @Test("No more calls run at a time than there are threads, in order of arrival")
    func bound() async throws {
        let gate = CallGate(name: "gate-bound", threads: 2, stuckLimit: 0)
        let tally = Tally()
        try await withThrowingTaskGroup(of: Int.self) { group in
            for index in 0..<50 {
                group.addTask {
                    try await gate.run("count", deadline: .seconds(3_600)) {
                        tally.enter()
                        defer { tally.leave() }
                        return .success(index)
                    }
                }
            }
            var sum = 0
            for try await index in group { sum += index }
            #expect(sum == 49 * 50 / 2)
        }
        #expect((1...2).contains(tally.most))
    }

    @Test("A caller that is cancelled while it waits for a thread leaves")
    func cancelled() async throws {
        let gate = CallGate(name: "gate-cancel", threads: 1, stuckLimit: 0)
        let latch = Latch()
        let first = Task { try await gate.run("hold", deadline: .seconds(3_600), latch.block) }
        await latch.waitUntilEntered(1)
        let second = Task { try await gate.run("wait", deadline: .seconds(3_600)) { .success(2) } }
        second.cancel()
        await error(.cancelled) { _ = try await second.value }
        latch.open()
        #expect(try await first.value == 1)
    }

    @Test("Closing lets what runs finish, and refuses what waits")
    func closing() async throws {
        let gate = CallGate(name: "gate-close", threads: 1, stuckLimit: 0)
        let latch = Latch()
        let first = Task { try await gate.run("hold", deadline: .seconds(3_600), latch.block) }
        await latch.waitUntilEntered(1)
        gate.close()
        await error(.connectionLost) { _ = try await gate.run("late", deadline: .seconds(3_600)) { .success(2) } }
        latch.open()
        #expect(try await first.value == 1)
        await gate.drained()
    }
}
