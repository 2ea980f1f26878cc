import Database
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

/// A clock that stands still until somebody sleeps, and then jumps to when he wants to be woken.
private final class JumpingClock: Clock, Sendable {
    struct Instant: InstantProtocol {
        var offset: Swift.Duration

        func advanced(by duration: Swift.Duration) -> Instant { Instant(offset: offset + duration) }
        func duration(to other: Instant) -> Swift.Duration { other.offset - offset }
        static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
    }

    private let moment = Mutex(Swift.Duration.zero)
    let minimumResolution = Swift.Duration.nanoseconds(1)
    var now: Instant { Instant(offset: moment.withLock { $0 }) }

    func sleep(until deadline: Instant, tolerance: Swift.Duration?) async throws {
        try Task.checkCancellation()
        moment.withLock { $0 = max($0, deadline.offset) }
        await Task.yield()
    }
}

private func cancelThisTask() { withUnsafeCurrentTask { $0?.cancel() } }

@Suite("Forgetting what has ended")
struct TrimTests {
    private static let start = Timestamp(seconds: 1_767_225_600)

    private static func insert(_ id: String, finished: Duration?, into database: ControlDatabase) async throws {
        var row = try TaskEngine.makeRow(
            kind: "k", requestID: RequestScope.makeID(), state: ["a"], now: start)
        row.id = TaskID(id)
        if let finished { (row.status, row.finishedAt) = (.succeeded, start + finished) }
        try await database.tasks.insert(row)
    }

    private static func left(_ database: ControlDatabase) async throws -> Set<String> {
        let rows = try await database.tasks.list(instance: nil, unfinishedOnly: false, limit: 100)
        return Set(rows.map(\.id.rawValue))
    }

    @Test("Tasks that ended longer ago than they are kept are forgotten; those under way never are")
    func age() async throws {
        let database = try await ControlDatabase.open(path: nil) { Self.start }
        try await Self.insert("old", finished: .zero, into: database)
        try await Self.insert("young", finished: .seconds(5_000), into: database)
        try await Self.insert("open", finished: nil, into: database)
        let trim = RecordTrim(database: database, retention: .seconds(7_200))
        try await trim.run(at: Self.start + .seconds(7_200))
        #expect(try await Self.left(database) == ["old", "young", "open"])
        try await trim.run(at: Self.start + .seconds(7_201))
        #expect(try await Self.left(database) == ["young", "open"])
        try await trim.run(at: Self.start + .seconds(1_000_000))
        #expect(try await Self.left(database) == ["open"])
    }

    @Test("The loop runs at once and after each interval with its jitter, by the clock that it is given")
    func loop() async throws {
        let clock = JumpingClock()
        let times = Mutex<[Duration]>([])
        let loop = PeriodicLoop("test_loop", interval: .seconds(600), clock: clock, jitter: { 1.1 }) {
            let count = times.withLock { times in
                times.append(clock.now.offset)
                return times.count
            }
            if count == 4 { cancelThisTask() }
        }
        await Task { await loop.run() }.value
        #expect(times.withLock { $0 } == [0, 660, 1_320, 1_980].map { Duration.seconds($0) })
    }

    @Test("A run that fails is counted, and the next one comes; without an interval none does")
    func failures() async throws {
        let runs = Mutex(0)
        let loop = PeriodicLoop("test_failing", interval: .seconds(1), clock: JumpingClock()) {
            let count = runs.withLock { runs in
                runs += 1
                return runs
            }
            if count == 3 { return cancelThisTask() }
            throw Failure(.storage, "not now")
        }
        await Task { await loop.run() }.value
        #expect(runs.withLock { $0 } == 3)
        let metrics = String(decoding: Metrics.shared.render(), as: UTF8.self)
        #expect(metrics.contains(#"conductor_periodic_failures_total{task="test_failing"} 2"#))
        #expect(metrics.contains(#"conductor_periodic_last_run_seconds{task="test_failing"}"#))
        await PeriodicLoop("test_never", interval: .seconds(-1)) { Issue.record("it ran") }.run()
    }

    @Test("A conductor's own loop forgets by the options and the clock that it is given")
    func service() async throws {
        let database = try await ControlDatabase.open(path: nil)
        try await Self.insert("old", finished: .zero, into: database)
        try await ControlPlane.with(
            settings: ["conductor.task_trim_interval": "1", "conductor.task_retention": "3600"], database: database
        ) { _ in
            // The conductor's clock is the wall's, long after what ended here.
            for _ in 0..<600 where try await !Self.left(database).isEmpty {
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(try await Self.left(database).isEmpty)
        }
    }
}
