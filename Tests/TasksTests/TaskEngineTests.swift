import Model
import Tasks
import Telemetry
import Testing

@Suite("The course of a task")
struct TaskEngineTests {
    private let rig = Rig()
    private var recorder: Recorder { rig.recorder }

    @Test("Steps run in order, then the end is told, then the row is closed")
    func success() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a"), recorder.step("b")]))
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "run b", "end succeeded"])
        let closed = try await rig.find(row)
        #expect(closed.status == .succeeded && closed.step == nil && closed.owner == nil && closed.lastError == nil)
        #expect(closed.finishedAt == rig.clock.wall())
        #expect(try TaskEngine.state(Notes.self, of: closed) == Notes(entries: ["a", "b"]))
    }

    @Test("A task that somebody else inserted is found at the next poll, or at a wake")
    func inserted() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a")]))
        try await running(engine) {
            await engine.idle()
            try await rig.storage.insert(try rig.row())
            await rig.clock.sleepers(2)
            rig.clock.advance(by: .seconds(1))
            await recorder.wait(for: "end succeeded")
        }
    }

    @Test("A step sees its task's fence and request, and the request id is in its scope")
    func context() async throws {
        let engine = rig.engine()
        var step = ScriptedStep(name: "a")
        step.work = { [recorder] _, context in
            recorder.note("\(context.row.fence.generation) \(context.row.fence.epoch) \(context.row.requestID)")
            recorder.note(RequestScope.current?.rawValue ?? "none")
            return .next
        }
        engine.register(recorder.definition([step]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(recorder.all.prefix(2) == ["2 0 req-1", "req-1"])
    }

    @Test("A failure undoes what was begun, last first, the failing step included")
    func undo() async throws {
        let engine = rig.engine()
        engine.register(
            recorder.definition([
                recorder.step("a"), recorder.step("b"), recorder.failing("c", Failure(.hypervisor, "no")),
                recorder.step("d"),
            ]))
        let row = try rig.row()
        try await running(engine) {
            try await engine.submit(row)
            await engine.idle()
        }
        #expect(
            recorder.all == [
                "run a", "run b", "run c", "undo c", "undo b", "undo a", "end failed hypervisor",
            ])
        let closed = try await rig.find(row)
        #expect(closed.status == .failed && closed.lastError == Failure(.hypervisor, "no"))
    }

    @Test("What a step wrote into the state before it failed is there for its undo")
    func stateOfFailure() async throws {
        let engine = rig.engine()
        let step = ScriptedStep(
            name: "a",
            work: { notes, _ in
                notes.entries.append("port 7")
                throw Failure(.hypervisor, "no")
            }, takeBack: { [recorder] notes, _ in recorder.note("undo with \(notes.entries)") })
        engine.register(recorder.definition([step]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(recorder.all.first == "undo with [\"port 7\"]")
    }

    @Test("An error that is no Failure ends the task as an internal error")
    func otherError() async throws {
        struct Odd: Error {}
        let engine = rig.engine()
        engine.register(recorder.definition([ScriptedStep(name: "a", work: { _, _ in throw Odd() })]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(recorder.all == ["end failed internal_error"])
    }

    @Test("A step whose work is done already is not run")
    func isDone() async throws {
        let engine = rig.engine()
        var done = recorder.step("a")
        done.isDone = { _ in true }
        engine.register(recorder.definition([done, recorder.step("b")]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(recorder.all == ["run b", "end succeeded"])
    }

    @Test("A jump goes on elsewhere; the steps begun on either way are undone once")
    func jump() async throws {
        let engine = rig.engine()
        var again = recorder.step("c")
        again.work = { [recorder] notes, _ in
            recorder.note("run c")
            notes.entries.append("c")
            if notes.entries.filter({ $0 == "c" }).count == 1 { return .jump("a") }
            throw Failure(.hypervisor, "no")
        }
        engine.register(recorder.definition([recorder.step("a", then: .jump("c")), recorder.step("b"), again]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(
            recorder.all == [
                "run a", "run c", "run a", "run c", "undo c", "undo a", "end failed hypervisor",
            ])
    }

    @Test("A jump to nowhere fails the task")
    func jumpNowhere() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a", then: .jump("z"))]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "undo a", "end failed internal_error"])
    }

    @Test("finish skips what is left")
    func finish() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a", then: .finish), recorder.step("b")]))
        try await running(engine) {
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "end succeeded"])
    }

    @Test("No more tasks of a kind run at once than its limit; the others follow")
    func limit() async throws {
        let engine = rig.engine(limits: ["build": 2])
        let gate = Gate()
        let step = ScriptedStep(
            name: "a",
            work: { [recorder] _, _ in
                recorder.note("in")
                await gate.pass()
                return .next
            })
        engine.register(recorder.definition([step]))
        engine.register(recorder.definition([recorder.step("other")], kind: "delete"))
        try await running(engine) {
            for _ in 0..<5 { try await engine.submit(try rig.row()) }
            try await engine.submit(try rig.row(kind: "delete"))
            await recorder.wait(for: "run other")
            while recorder.all.filter({ $0 == "in" }).count < 2 { await Task.yield() }
            #expect(recorder.all.filter { $0 == "in" }.count == 2)
            gate.open()
            await engine.idle()
        }
        #expect(recorder.all.filter { $0 == "end succeeded" }.count == 6)
    }

    @Test("The same id cannot be submitted twice")
    func duplicate() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a")]))
        let row = try rig.row()
        try await running(engine) {
            await engine.idle()
            try await engine.submit(row)
            await engine.idle()
            await #expect(throws: TaskError.duplicate(row.id)) { try await engine.submit(row) }
            await engine.idle()
        }
        #expect(recorder.all == ["run a", "end succeeded"])
    }

    @Test("Kinds that nobody registered here are left to others")
    func unknownKind() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a")]))
        let row = try rig.row(kind: "resize")
        try await running(engine) {
            try await engine.submit(row)
            await engine.idle()
        }
        #expect(try await rig.find(row).status == .pending)
    }

    @Test("A state or step that this version does not know is left alone and looked at again later")
    func newerVersion() async throws {
        let engine = rig.engine()
        engine.register(recorder.definition([recorder.step("a")]))
        var unreadable = try rig.row()
        unreadable.state = Array("[]".utf8)
        var unknown = try rig.row()
        (unknown.status, unknown.step) = (.running, "from the future")
        try await rig.storage.insert(unreadable)
        try await rig.storage.insert(unknown)
        try await running(engine) { await engine.idle() }
        for row in [unreadable, unknown] {
            let left = try await rig.find(row)
            #expect(left.lastError?.kind == .unsupportedVersion && left.owner == nil)
            #expect(left.wakeAt == rig.clock.wall() + .seconds(60))
        }
        #expect(recorder.all.isEmpty)
    }

    @Test("Run is one at a time")
    func runsOnce() async throws {
        let engine = rig.engine()
        try await running(engine) {
            await engine.idle()
            await #expect(throws: TaskError.alreadyRunning) { try await engine.run() }
        }
    }

    @Test("A stop lets the step under way end, records it, and leaves the rest to others without a new epoch")
    func gracefulStop() async throws {
        let gate = Gate()
        let slow = ScriptedStep(
            name: "a",
            work: { [recorder] _, _ in
                recorder.note("run a")
                await gate.pass()
                recorder.note("cancelled: \(Task.isCancelled)")
                return .next
            })
        let definition = recorder.definition([slow, recorder.step("b")])
        let first = rig.engine()
        first.register(definition)
        let row = try rig.row()
        let service = Task { try await first.run() }
        await first.idle()
        try await first.submit(row)
        await recorder.wait(for: "run a")
        service.cancel()
        gate.open()
        try await service.value
        #expect(recorder.all == ["run a", "cancelled: false"])
        #expect(try await rig.find(row).step == "b")

        let second = rig.engine(owner: "two")
        second.register(definition)
        try await running(second) { await second.idle() }
        #expect(recorder.all.suffix(2) == ["run b", "end succeeded"])
        #expect(try await rig.find(row).epoch == 0)
    }
}
