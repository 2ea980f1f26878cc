import Model
import Tasks
import Testing

@Suite("Cancellation")
struct TaskCancellationTests {
    private let rig = Rig()
    private var recorder: Recorder { rig.recorder }

    @Test("The step under way is interrupted, and everything undone")
    func running() async throws {
        let engine = rig.engine()
        let gate = Gate()
        var slow = recorder.step("b")
        slow.work = { [recorder] _, _ in
            recorder.note("run b")
            try await gate.passUnlessCancelled()
            return .next
        }
        engine.register(recorder.definition([recorder.step("a"), slow]))
        let row = try rig.row()
        try await TasksTests.running(engine) {
            try await engine.submit(row)
            await recorder.wait(for: "run b")
            try await engine.cancel(row.id)
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "run b", "undo b", "undo a", "end cancelled"])
        #expect(try await rig.find(row).status == .cancelled)
    }

    @Test(
        "Cancelled during certain steps only: at another one it goes on, and after them no other step begins",
        arguments: [
            (Set(["b"]), ["run a", "run b", "undo c", "undo b", "undo a", "end cancelled"]),
            (Set(["a", "c"]), ["run a", "run b", "run c", "end succeeded"]),
        ])
    func during(steps: Set<String>, expected: [String]) async throws {
        let engine = rig.engine()
        let gate = Gate()
        var slow = recorder.step("b")
        slow.work = { [recorder] _, _ in
            recorder.note("run b")
            // Deaf to the interruption, so that its success meets the cancellation.
            await gate.pass()
            return .next
        }
        engine.register(recorder.definition([recorder.step("a"), slow, recorder.step("c")]))
        let row = try rig.row()
        try await TasksTests.running(engine) {
            #expect(engine.cancel(row.id, during: steps) == nil, "the engine does not have it yet")
            try await engine.submit(row)
            await recorder.wait(for: "run b")
            #expect(engine.cancel(row.id, during: steps) == steps.contains("b"))
            gate.open()
            await engine.idle()
        }
        #expect(recorder.all == expected)
    }

    @Test("A waiting task is undone at once")
    func waiting() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a", then: .wait(until: nil))]))
        let row = try rig.row()
        try await TasksTests.running(engine) {
            try await engine.submit(row)
            await engine.idle()
            try await engine.cancel(row.id)
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "undo a", "end cancelled"])
    }

    @Test("A task that never began runs no step; its first step's undo is safe then")
    func pending() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a"), recorder.step("b")]))
        let row = try rig.row()
        try await rig.storage.insert(row)
        try await rig.storage.requestCancel(row.id, now: rig.clock.wall())
        try await TasksTests.running(engine) { await engine.idle() }
        #expect(recorder.all == ["undo a", "end cancelled"])
    }

    @Test("A step that admits no cancellation ends first; the next one that does is where it turns")
    func protected() async throws {
        let engine = rig.engine()
        let gate = Gate()
        var switchOver = recorder.step("a")
        switchOver.canCancel = false
        switchOver.work = { [recorder] _, context in
            recorder.note("run a")
            await gate.pass()
            recorder.note("cancelled: \(Task.isCancelled), asked: \(context.isCancelRequested)")
            return .next
        }
        var cleanUp = recorder.step("b")
        cleanUp.canCancel = false
        engine.register(recorder.definition([switchOver, cleanUp, recorder.step("c")]))
        let row = try rig.row()
        try await TasksTests.running(engine) {
            try await engine.submit(row)
            await recorder.wait(for: "run a")
            try await engine.cancel(row.id)
            gate.open()
            await engine.idle()
        }
        #expect(
            recorder.all == [
                "run a", "cancelled: false, asked: true", "run b", "undo c", "undo b", "undo a", "end cancelled",
            ])
    }

    @Test("A task whose steps admit no cancellation succeeds, and a wait of theirs is not turned into a loop")
    func protectedWait() async throws {
        let engine = rig.engine()
        var step = recorder.step("a", then: .wait(until: nil))
        step.canCancel = false
        engine.register(recorder.definition([step]))
        let row = try rig.row()
        try await TasksTests.running(engine) {
            try await engine.submit(row)
            await engine.idle()
            try await engine.cancel(row.id)
            await engine.idle()
            #expect(recorder.all == ["run a", "run a"])
            #expect(try await rig.find(row).status == .waiting)
        }
    }

    @Test("A cancellation asked for in another process arrives with the renewal of the lease")
    func elsewhere() async throws {
        let engine = rig.engine()
        let gate = Gate()
        var slow = recorder.step("a")
        slow.work = { [recorder] _, _ in
            recorder.note("run a")
            try await gate.passUnlessCancelled()
            return .next
        }
        engine.register(recorder.definition([slow]))
        let row = try rig.row()
        try await TasksTests.running(engine) {
            await engine.idle()
            try await engine.submit(row)
            await recorder.wait(for: "run a")
            await rig.clock.sleepers(3)
            try await rig.storage.requestCancel(row.id, now: rig.clock.wall())
            rig.clock.advance(by: .seconds(5))
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "undo a", "end cancelled"])
    }

    @Test("A finished task cannot be cancelled any more; an unknown one is named")
    func finished() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a")]))
        let row = try rig.row()
        try await TasksTests.running(engine) {
            try await engine.submit(row)
            await engine.idle()
            try await engine.cancel(row.id)
            await #expect(throws: TaskError.notFound(TaskID("x"))) { try await engine.cancel(TaskID("x")) }
            await engine.idle()
        }
        #expect(try await rig.find(row).status == .succeeded)
    }
}
