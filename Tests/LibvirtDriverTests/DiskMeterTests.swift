import Foundation
import Model
import Synchronization
import Telemetry
import Testing

@testable import LibvirtDriver

@Suite("The instances' file system", .timeLimit(.minutes(1)))
struct DiskMeterTests {
    /// A file system whose server can be taken away.
    private final class Share: Sendable {
        let state = Mutex((isAway: false, measures: 0, failure: Failure?.none))
        private let back = DispatchSemaphore(value: 0)

        func measure() throws(Failure) -> DiskSpace {
            let (mustWait, count, failure) = state.withLock { state in
                state.measures += 1
                return (state.isAway, state.measures, state.failure)
            }
            if mustWait { back.wait() }
            if let failure { throw failure }
            return DiskSpace(freeBytes: Int64(count), totalBytes: 100, promisedBytes: 0, sharedKind: "nfs")
        }

        func comeBack() {
            state.withLock { $0.isAway = false }
            back.signal()
        }
    }

    /// Time that is up when the test says so, and not before.
    private final class HeldClock: Clock, Sendable {
        private let sleepers = Mutex<[UUID: AsyncStream<Void>.Continuation]>([:])
        let minimumResolution = Duration.nanoseconds(1)
        var now: ContinuousClock.Instant { .now }

        func sleep(until deadline: ContinuousClock.Instant, tolerance: Duration?) async throws {
            let (stream, sink) = AsyncStream.makeStream(of: Void.self)
            let id = UUID()
            sleepers.withLock { $0[id] = sink }
            defer { sleepers.withLock { _ = $0.removeValue(forKey: id) } }
            for await _ in stream { return }
            try Task.checkCancellation()
        }

        /// Wakes whoever sleeps, as long as `body` runs.
        func ringing<T: Sendable>(while body: () async throws -> T) async rethrows -> T {
            let bell = Task {
                while !Task.isCancelled {
                    for sleeper in sleepers.withLock({ $0.values }) { sleeper.yield() }
                    await Task.yield()
                }
            }
            defer { bell.cancel() }
            return try await body()
        }
    }

    private let clock = HeldClock()

    private func meter(_ share: Share) -> DiskMeter {
        DiskMeter(files: BlockingExecutor(name: "test-files", threads: 2), clock: clock, patience: .seconds(5)) {
            () throws(Failure) in
            try share.measure()
        }
    }

    @Test("One that hangs keeps its last figures and one thread, however often it is asked; then it is measured anew")
    func hanging() async throws {
        let share = Share()
        let meter = meter(share)
        var seen = try await meter.read()
        #expect(seen.isFresh && seen.space.freeBytes == 1)
        share.state.withLock { $0.isAway = true }
        for _ in 1...4 {
            seen = try await clock.ringing { try await meter.read() }
            #expect(!seen.isFresh && seen.space.freeBytes == 1)
        }
        // The thread may begin later than it is given up.
        while share.state.withLock({ $0.measures }) < 2 { await Task.yield() }
        #expect(share.state.withLock { $0.measures } == 2)
        share.comeBack()
        seen = try await meter.read()
        #expect(seen.isFresh)
        #expect(seen.space.freeBytes >= 2)
    }

    @Test("One that cannot be read keeps its last figures; without any it is an error")
    func failing() async throws {
        let share = Share()
        share.state.withLock { $0.failure = Failure(.storage, "stale handle") }
        let meter = meter(share)
        let failure = await #expect(throws: Failure.self) { _ = try await meter.read() }
        #expect(failure?.message == "stale handle")
        share.state.withLock { $0.failure = nil }
        #expect(try await meter.read().isFresh)
        share.state.withLock { $0.failure = Failure(.storage, "stale handle") }
        #expect(try await !meter.read().isFresh)
    }
}
