import Model
import Synchronization
import Tasks
import Testing

@Suite("Retries, deadlines and waits")
struct TaskRetryTests {
    private let rig = Rig()
    private var recorder: Recorder { rig.recorder }
    private let policy = RetryPolicy(maxAttempts: 3, initialBackoff: .seconds(1), maxBackoff: .seconds(8))

    @Test("A retriable failure is tried again after a growing pause, then the task is undone")
    func backoff() async throws {
        let engine = rig.engine()
        let failure = Failure(.unreachable, "down", isRetriable: true)
        engine.register(recorder.definition([recorder.failing("a", failure, retry: policy)]))
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            await engine.idle()
            var waiting = try await rig.find(row)
            #expect(waiting.status == .waiting && waiting.attempts == 1 && waiting.lastError == failure)
            let first = try #require(waiting.wakeAt).since(rig.clock.wall())
            #expect(first >= .milliseconds(500) && first <= .seconds(1))

            rig.clock.advance(by: .milliseconds(499))
            await engine.idle()
            #expect(recorder.all == ["run a"])

            rig.clock.advance(by: .milliseconds(501))
            await engine.idle()
            waiting = try await rig.find(row)
            let second = try #require(waiting.wakeAt).since(rig.clock.wall())
            #expect(second >= .seconds(1) && second <= .seconds(2) && waiting.attempts == 2)

            rig.clock.advance(by: .seconds(2))
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "run a", "run a", "undo a", "end failed unreachable"])
    }

    /// What a database says when it cannot be used for a while, or at all.
    private struct Outage: FailureConvertible {
        let failure: Failure
    }

    @Test("A storage that fails for a while costs a step none of its attempts, and no task its work")
    func storageOutage() async throws {
        let engine = rig.engine()
        let left = Mutex(30)
        var step = recorder.step("a")
        step.work = { _, _ in
            let isOut = left.withLock { left in
                left -= 1
                return left >= 0
            }
            if isOut { throw Outage(failure: Failure(.storage, "the disk is full", isRetriable: true)) }
            self.recorder.note("run a")
            return .next
        }
        step.deadline = .seconds(120)
        engine.register(recorder.definition([step]))
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            await engine.idle()
            let waiting = try await rig.find(row)
            #expect(waiting.attempts == 0 && !waiting.status.isFinished && waiting.wakeAt != nil)
            for _ in 0..<31 {
                rig.clock.advance(by: .seconds(2))
                await engine.idle()
            }
        }
        #expect(recorder.all == ["run a", "end succeeded"])
    }

    @Test("A storage that never comes back ends the step at its deadline; one that is damaged ends it at once")
    func outageWithoutEnd() async throws {
        let engine = rig.engine()
        var step = recorder.step("a")
        step.deadline = .seconds(10)
        step.work = { _, _ in throw Outage(failure: Failure(.overloaded, "too many writes", isRetriable: true)) }
        engine.register(recorder.definition([step]))
        var damaged = recorder.step("a")
        damaged.work = { _, _ in throw Outage(failure: Failure(.storage, "the file is damaged")) }
        engine.register(recorder.definition([damaged], kind: "other"))
        try await running(engine) {
            try await engine.submit(try rig.row(kind: "other"))
            await engine.idle()
            #expect(recorder.all == ["undo a", "end failed storage"])
            try await engine.submit(try rig.row())
            for _ in 0..<8 {
                await engine.idle()
                rig.clock.advance(by: .seconds(2))
            }
            await engine.idle()
        }
        #expect(recorder.all == ["undo a", "end failed storage", "undo a", "end failed timeout"])
    }

    @Test("A retry that succeeds leaves no error behind, and the next step starts counting anew")
    func recovery() async throws {
        let engine = rig.engine()
        let failures = Mutex(2)
        var step = recorder.step("a")
        step.retry = policy
        step.work = { _, context in
            let isFailing = failures.withLock { left in
                left -= 1
                return left >= 0
            }
            if isFailing { throw Failure(.timeout, "slow", isRetriable: true) }
            return .next
        }
        engine.register(recorder.definition([step, recorder.step("b", then: .wait(until: nil))]))
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            for _ in 0..<2 {
                await engine.idle()
                rig.clock.advance(by: .seconds(2))
            }
            await engine.idle()
        }
        let waiting = try await rig.find(row)
        #expect(waiting.step == "b" && waiting.attempts == 0 && waiting.lastError == nil)
    }

    @Test("The pause doubles up to its bound, and is never less than half of it", arguments: 1...64)
    func jitter(attempt: Int) {
        var generator = SeededGenerator(seed: UInt64(attempt))
        let whole = min(Double(1 << min(attempt - 1, 10)), 8)
        for _ in 0..<20 {
            let pause = policy.backoff(after: attempt, using: &generator).inSeconds
            #expect(pause >= whole / 2 && pause <= whole)
        }
    }

    @Test("A step over its deadline is cancelled, and the task undone as timed out")
    func deadline() async throws {
        let engine = rig.engine()
        let gate = Gate()
        var slow = recorder.step("a")
        slow.deadline = .seconds(5)
        slow.work = { [recorder] _, _ in
            recorder.note("run a")
            try await gate.passUnlessCancelled()
            return .next
        }
        engine.register(recorder.definition([slow]))
        let row = try rig.row()
        try await running(engine) {
            await engine.idle()
            try await engine.submit(row)
            await recorder.wait(for: "run a")
            // The loop, the renewal of leases, and the deadline.
            await rig.clock.sleepers(3)
            rig.clock.advance(by: .seconds(5))
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "undo a", "end failed timeout"])
        #expect(try await rig.find(row).lastError?.message == "the step a was not done within 5.0 s")
    }

    @Test("A retry that would begin after the deadline is not waited for")
    func retryBeyondDeadline() async throws {
        let engine = rig.engine()
        var step = recorder.failing(
            "a", Failure(.unreachable, "down", isRetriable: true),
            retry: RetryPolicy(maxAttempts: 9, initialBackoff: .seconds(100), maxBackoff: .seconds(100)))
        step.deadline = .seconds(10)
        engine.register(recorder.definition([step]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "undo a", "end failed unreachable"])
    }

    @Test("A wait ends by a signal, without a poll")
    func signal() async throws {
        let engine = rig.engine()
        let isThere = Mutex(false)
        var step = recorder.step("a")
        step.work = { [recorder] _, _ in
            recorder.note("run a")
            return isThere.withLock { $0 } ? .next : .wait(until: nil)
        }
        engine.register(recorder.definition([step]))
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            await engine.idle()
            let waiting = try await rig.find(row)
            #expect(waiting.status == .waiting && waiting.owner == nil && waiting.wakeAt == waiting.deadline)
            isThere.withLock { $0 = true }
            try await engine.signal(row.id)
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "run a", "end succeeded"])
    }

    @Test("A signal that comes while the step decides to wait is not lost")
    func signalRace() async throws {
        let engine = rig.engine()
        var step = recorder.step("a")
        step.work = { [recorder] notes, context in
            recorder.note("run a")
            notes.entries.append("a")
            guard notes.entries.count == 1 else { return .next }
            try await engine.signal(context.row.id)
            return .wait(until: nil)
        }
        engine.register(recorder.definition([step]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "run a", "end succeeded"])
    }

    @Test("A wait until a moment ends at that moment")
    func waitUntil() async throws {
        let engine = rig.engine()
        var step = recorder.step("a")
        step.work = { [recorder] notes, context in
            recorder.note("run a")
            notes.entries.append("a")
            return notes.entries.count == 1 ? .wait(until: context.now() + .seconds(30)) : .next
        }
        engine.register(recorder.definition([step]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
            rig.clock.advance(by: .seconds(29))
            await engine.idle()
            #expect(recorder.all == ["run a"])
            rig.clock.advance(by: .seconds(1))
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "run a", "end succeeded"])
    }

    @Test("A wait that nobody ends fails at the deadline", arguments: [false, true])
    func waitDeadline(isDone: Bool) async throws {
        let engine = rig.engine()
        let isLast = Mutex(false)
        var step = recorder.step("a", then: .wait(until: nil))
        step.deadline = .seconds(20)
        step.isDone = { _ in isDone && isLast.withLock { $0 } }
        engine.register(recorder.definition([step]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
            isLast.withLock { $0 = true }
            rig.clock.advance(by: .seconds(20))
            await engine.idle()
        }
        // The step is not run again, only asked whether it is done.
        #expect(recorder.all == (isDone ? ["run a", "end succeeded"] : ["run a", "undo a", "end failed timeout"]))
    }

    @Test("Time in which no engine ran does not count against a waiting step")
    func outage() async throws {
        let step = recorder.step("a", then: .wait(until: nil))
        let row = try rig.row()
        let first = rig.engine()
        first.register(recorder.definition([step]))
        try await running(first) {
            try await first.submit(row)
            await first.idle()
        }
        rig.clock.advance(by: .seconds(3_600))
        let second = rig.engine(owner: "two")
        second.register(recorder.definition([step]))
        try await running(second) { await second.idle() }
        let waiting = try await rig.find(row)
        #expect(waiting.status == .waiting && waiting.deadline == rig.clock.wall() + .seconds(60))
        #expect(recorder.all == ["run a", "run a"])
    }

    @Test("A failing undo is tried again, then noted, and the others still run")
    func undoFails() async throws {
        let engine = rig.engine(undoAttempts: 3)
        var stubborn = recorder.step("b")
        stubborn.takeBack = { [recorder] _, _ in
            recorder.note("undo b")
            throw Failure(.storage, "the disk is busy")
        }
        engine.register(
            recorder.definition([recorder.step("a"), stubborn, recorder.failing("c", Failure(.hypervisor, "no"))]))
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            for _ in 0..<3 {
                await engine.idle()
                rig.clock.advance(by: .seconds(4))
            }
            await engine.idle()
        }
        #expect(
            recorder.all == [
                "run a", "run b", "run c", "undo c", "undo b", "undo b", "undo b", "undo a", "end failed hypervisor",
            ])
        let closed = try await rig.find(row)
        #expect(closed.undoFailures == ["b: the disk is busy"] && closed.lastError?.kind == .hypervisor)
    }

    @Test("An undo whose means are out of reach is not given up: it is tried until they are back")
    func undoOutlastsOutage() async throws {
        let engine = rig.engine(undoAttempts: 3)
        let outage = Mutex(10)
        var cutOff = recorder.step("a")
        cutOff.takeBack = { [recorder] _, _ in
            let isOut = outage.withLock { left in
                left -= 1
                return left >= 0
            }
            if isOut { throw Failure(.unreachable, "no connection to libvirt", isRetriable: true) }
            recorder.note("undo a")
        }
        engine.register(recorder.definition([cutOff, recorder.failing("b", Failure(.hypervisor, "no"))]))
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            for _ in 0..<11 {
                await engine.idle()
                rig.clock.advance(by: .seconds(60))
            }
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "run b", "undo b", "undo a", "end failed hypervisor"])
        #expect(try await rig.find(row).undoFailures.isEmpty)
    }

    @Test("What follows the end is tried until it succeeds; only then the row is closed", arguments: [false, true])
    func finishedRetried(isFailing: Bool) async throws {
        let engine = rig.engine()
        let left = Mutex(3)
        let steps = isFailing ? [recorder.failing("a", Failure(.hypervisor, "no"))] : [recorder.step("a")]
        engine.register(
            TaskDefinition<Notes>(kind: "build", steps: steps) { [recorder] _, _, end in
                recorder.note("end \(end)")
                let isDown = left.withLock { left in
                    left -= 1
                    return left >= 0
                }
                if isDown { throw Failure(.storage, "the database is down") }
            })
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            for _ in 0..<3 {
                await engine.idle()
                #expect(try await rig.find(row).status == (isFailing ? .undoing : .running))
                rig.clock.advance(by: .seconds(8))
            }
            await engine.idle()
        }
        let ends = recorder.all.filter { $0.hasPrefix("end") }
        #expect(ends.count == 4 && Set(ends).count == 1)
        #expect(try await rig.find(row).status == (isFailing ? .failed : .succeeded))
    }
}
