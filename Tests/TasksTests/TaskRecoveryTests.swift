import Model
import Synchronization
import Tasks
import Testing

@Suite("Crashes, leases and take-overs")
struct TaskRecoveryTests {
    /// The world outside: what steps have made there. Making it twice shows.
    final class World: Sendable {
        private let things = Mutex<[String: Int]>([:])
        var all: [String: Int] { things.withLock { $0 } }
        func make(_ name: String) { things.withLock { $0[name, default: 0] += 1 } }
        func has(_ name: String) -> Bool { things.withLock { $0[name] != nil } }
        func remove(_ name: String) { _ = things.withLock { $0.removeValue(forKey: name) } }
    }

    private let rig = Rig()
    private var recorder: Recorder { rig.recorder }

    private func definition(_ world: World, failing: Bool) -> TaskDefinition<Notes> {
        var steps = ["a", "b", "c"].map { name in
            ScriptedStep(
                name: name,
                work: { _, _ in
                    if failing, name == "c" { throw Failure(.hypervisor, "no") }
                    // Idempotent by looking: the state alone would not survive a crash before its save.
                    if !world.has(name) { world.make(name) }
                    return .next
                }, takeBack: { _, _ in world.remove(name) })
        }
        // Waits once, so that a crash between the wait and the wake is among the cases.
        steps[1].work = { notes, _ in
            if !world.has("b") { world.make("b") }
            notes.entries.append("b")
            return notes.entries.count < 2 ? .wait(until: nil) : .next
        }
        return TaskDefinition(kind: "build", steps: steps) { [recorder] _, _, end in
            world.make("end \(end)")
            recorder.note("end")
        }
    }

    @Test(
        "Whatever save an engine dies at, another one ends the task, and nothing is lost or made twice",
        arguments: [false, true], [false, true])
    func crash(failing: Bool, happens: Bool) async throws {
        // Without a death: a | b waits | b | c | (undo c | b | a) | end.
        for fatal in 0..<(failing ? 8 : 5) {
            let rig = Rig()
            let world = World()
            let dying = FaultyStorage(rig.storage, faults: .init(fatalSave: fatal, fatalSaveHappens: happens))
            let first = rig.engine(storage: dying)
            first.register(definition(world, failing: failing))
            let row = try rig.row()
            let service = Task { try await first.run() }
            try await first.submit(row)
            while !dying.isDead {
                let stored = try await rig.find(row)
                if stored.status == .waiting { try await first.signal(row.id) }
                await Task.yield()
            }
            service.cancel()
            try await service.value

            let second = rig.engine(owner: "two")
            second.register(definition(world, failing: failing))
            rig.clock.advance(by: .seconds(16))
            try await running(second) {
                await second.idle()
                if try await rig.find(row).status == .waiting {
                    try await second.signal(row.id)
                    await second.idle()
                }
            }
            let closed = try await rig.find(row)
            #expect(closed.status == (failing ? .failed : .succeeded), "died at save \(fatal)")
            let made = world.all.filter { !$0.key.hasPrefix("end") }
            #expect(made == (failing ? [:] : ["a": 1, "b": 1, "c": 1]), "died at save \(fatal)")
            #expect(world.all.keys.filter { $0.hasPrefix("end") }.count == 1, "died at save \(fatal)")
        }
    }

    @Test("A take-over raises the epoch; the old engine's step is interrupted and its result dropped")
    func takeOver() async throws {
        let gate = Gate()
        let epochs = Mutex<[Int64]>([])
        func definition(_ name: String) -> TaskDefinition<Notes> {
            let step = ScriptedStep(
                name: "a", deadline: .seconds(600),
                work: { [recorder] notes, context in
                    epochs.withLock { $0.append(context.row.epoch) }
                    recorder.note("run \(name)")
                    if name == "first" { try await gate.passUnlessCancelled() }
                    notes.entries.append(name)
                    return .next
                })
            return recorder.definition([step])
        }
        // The first engine's storage stops answering renewals: a partition.
        let first = rig.engine(storage: FaultyStorage(rig.storage, faults: .init(isCutOff: true)))
        first.register(definition("first"))
        let row = try rig.row()
        let service = Task { try await first.run() }
        await first.idle()
        try await first.submit(row)
        await recorder.wait(for: "run first")
        await rig.clock.sleepers(3)
        let second = rig.engine(owner: "two")
        second.register(definition("second"))
        // Beyond the lease: the first engine gives up by its own count, the second one takes over.
        rig.clock.advance(by: .seconds(15))
        while first.activeCount > 0 { await Task.yield() }
        try await running(second) { await second.idle() }
        service.cancel()
        try await service.value
        let closed = try await rig.find(row)
        #expect(closed.status == .succeeded && closed.epoch == 1)
        #expect(epochs.withLock { $0 } == [0, 1])
        #expect(try TaskEngine.state(Notes.self, of: closed).entries == ["second"])
        #expect(!recorder.all.contains("undo a"))
    }

    @Test("A lease is renewed for as long as a step takes")
    func renewal() async throws {
        let engine = rig.engine()
        let gate = Gate()
        let step = ScriptedStep(
            name: "a", deadline: .seconds(600),
            work: { [recorder] _, _ in
                recorder.note("run a")
                await gate.pass()
                return .next
            })
        engine.register(recorder.definition([step]))
        let row = try rig.row()
        try await running(engine) {
            await engine.idle()
            try await engine.submit(row)
            await recorder.wait(for: "run a")
            for round in 1...12 {
                await rig.clock.sleepers(3)
                rig.clock.advance(by: .seconds(5))
                let expected = TestClock.start + .seconds(5 * round + 15)
                while try await rig.find(row).leaseUntil != expected { await Task.yield() }
            }
            gate.open()
            await engine.idle()
        }
        let closed = try await rig.find(row)
        #expect(closed.status == .succeeded && closed.epoch == 0)
    }

    @Test("After a restart under the same name the tasks left behind go on at once")
    func restart() async throws {
        let world = World()
        let dying = FaultyStorage(rig.storage, faults: .init(fatalSave: 1, fatalSaveHappens: true))
        let first = rig.engine(storage: dying)
        first.register(definition(world, failing: false))
        let row = try rig.row()
        try await running(first) {
            try await first.submit(row)
            while !dying.isDead { await Task.yield() }
        }
        let second = rig.engine()
        second.register(definition(world, failing: false))
        try await second.recover()
        try await running(second) {
            await second.idle()
            try await second.signal(row.id)
            await second.idle()
        }
        #expect(try await rig.find(row).status == .succeeded)
    }

    @Test("A storage that fails for a while costs nothing but time")
    func storageFails() async throws {
        let flaky = FaultyStorage(MemoryTaskStorage(), faults: .init())
        let rig = Rig(storage: flaky)
        let engine = rig.engine()
        engine.register(rig.recorder.definition([rig.recorder.step("a"), rig.recorder.step("b")]))
        let row = try rig.row()
        try await running(engine) {
            await engine.idle()
            flaky.failNextSaves(3)
            try await engine.submit(row)
            while try await rig.find(row).status != .succeeded {
                rig.clock.advance(by: .milliseconds(20))
                await Task.yield()
            }
        }
        #expect(rig.recorder.all == ["run a", "run b", "end succeeded"])
    }

    @Test("A hook sees each moment at which a process may die")
    func hooks() async throws {
        let engine = rig.engine()
        engine.hooks = { [recorder] hook in recorder.note("\(hook.phase.rawValue) \(hook.step ?? "-")") }
        engine.register(TaskDefinition<Notes>(kind: "build", steps: [ScriptedStep(name: "a")]))
        try await running(engine) {
            await engine.idle()
            try await engine.submit(try rig.row())
            await engine.idle()
        }
        #expect(
            recorder.all == [
                "beforeStep a", "afterStep a", "beforeSave finished", "afterSave finished", "beforeFinished finished",
                "afterFinished finished", "beforeSave -", "afterSave -",
            ])
    }
}
