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

    private func meter(_ share: Share) -> DiskMeter {
        DiskMeter(
            files: BlockingExecutor(name: "test-files", threads: 2), clock: AlarmClock(), patience: .milliseconds(50)
        ) { () throws(Failure) in try share.measure() }
    }

    @Test("One that hangs keeps its last figures and one thread, however often it is asked; then it is measured anew")
    func hanging() async throws {
        let share = Share()
        let meter = meter(share)
        var seen = try await meter.read()
        #expect(seen.isFresh && seen.space.freeBytes == 1)
        share.state.withLock { $0.isAway = true }
        for _ in 1...4 {
            seen = try await meter.read()
            #expect(!seen.isFresh && seen.space.freeBytes == 1)
        }
        #expect(share.state.withLock { $0.measures } == 2)
        share.comeBack()
        repeat { seen = try await meter.read() } while !seen.isFresh
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
