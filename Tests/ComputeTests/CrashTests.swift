import Crypto
import Model
import RPC
import SQL
import SQLite
import Synchronization
import Tasks
import Testing

@testable import Compute

/// A host as a crash at one moment leaves it: the journal's files, and what the hypervisor holds.
struct CrashPoint: Sendable {
    let name: String
    let folder: Folder
    let host: FakeHost.State
}

/// Collects a crash point at each moment at which the process could die with a difference.
final class CrashRecorder: Sendable {
    private let points = Mutex<[CrashPoint]>([])
    private let isOn = Mutex(true)
    let folder: Folder
    let host: FakeHost

    init(folder: Folder, host: FakeHost) { (self.folder, self.host) = (folder, host) }

    var all: [CrashPoint] { points.withLock { $0 } }

    func start() { isOn.withLock { $0 = true } }
    func pause() { isOn.withLock { $0 = false } }

    func record(_ name: String) throws {
        guard isOn.withLock({ $0 }) else { return }
        let point = CrashPoint(name: name, folder: try Folder(crashed: folder), host: host.state)
        points.withLock { $0.append(point) }
    }

    /// Records around each step, undo, end and save of the engine.
    func watch(_ core: AgentCore) {
        core.engine.hooks = { hook in
            // Between a save and the next step nothing happens: the phases left out leave what their neighbours leave.
            guard [.afterStep, .afterUndo, .afterFinished, .afterSave].contains(hook.phase) else { return }
            do { try self.record("\(hook.phase) \(hook.step ?? "end")") } catch { Issue.record(error) }
        }
    }
}

@Suite("A crash at any moment", .timeLimit(.minutes(3)))
struct CrashTests {
    private struct Expectation: Sendable {
        /// `nil`: either is right.
        var isThere: Bool?
        var task: TaskID
    }

    /// Starts an agent on what a crash left and checks that it settles with nothing leaked.
    private func settle(
        _ point: CrashPoint, _ instance: Instance, _ expectation: Expectation, failing: (DriverCall, Failure)? = nil
    ) async throws {
        let bench = try Bench(host: FakeHost(point.host), folder: point.folder)
        if let (call, failure) = failing { bench.driver.fail(call, failure) }
        try await bench.run { agent in
            try await agent.settled()
            let guests = try await agent.core.journal.guests()
            let isThere = expectation.isThere ?? !guests.isEmpty
            try await agent.holdsExactly(isThere ? [instance] : [])
            if isThere {
                #expect(guests.first?.vmState == .active, "\(point.name)")
                #expect(agent.driver.host.state.domains[instance.id]?.powerState == .running, "\(point.name)")
                #expect(agent.driver.host.state.holdings[instance.id]?.count == 4, "\(point.name)")
            }
            // The outcome stands in the journal for whoever asks again, and every report has left.
            let known = try await agent.core.journal.database.read { connection in
                try OperationKind.allCases.compactMap {
                    try connection.operation($0.operationID(task: expectation.task, attempt: 1))
                }
            }
            #expect(known.count == 1 && known.first?.outcome != nil, "\(point.name)")
            #expect((known.first?.outcome?.failure == nil) == (failing == nil), "\(point.name)")
        }
    }

    private func settleAll(
        _ points: [CrashPoint], _ instance: Instance, _ expectation: Expectation, failing: (DriverCall, Failure)? = nil
    ) async throws {
        try await withThrowingDiscardingTaskGroup { group in
            for point in points {
                group.addTask { try await settle(point, instance, expectation, failing: failing) }
            }
        }
    }

    private func recorder() throws -> (CrashRecorder, Bench) {
        let (folder, host) = (try Folder(), FakeHost())
        let recorder = CrashRecorder(folder: folder, host: host)
        let bench = try Bench(host: host, folder: folder) { call, phase, id in
            if phase == .after, id != nil, call != .observe { try recorder.record("after the effect of \(call)") }
        }
        return (recorder, bench)
    }

    @Test("during a build: the next agent finishes it, with the claim it had")
    func build() async throws {
        let (recorder, bench) = try recorder()
        let (instance, task) = (Instance.test(), TaskID(makeUUID()))
        try await bench.run(prepare: recorder.watch) { agent in
            _ = try await agent.build(instance, task: task)
            _ = try await agent.conductor.outcome(of: task)
            try await agent.settled()
            recorder.pause()
        }
        let names = Set(recorder.all.map(\.name))
        for step in OperationDefinitions.build {
            #expect(
                names.isSuperset(
                    of: ["afterStep \(step.name)", "afterSave \(step.name)"].dropLast(
                        step.name == OperationDefinitions.build.first?.name ? 1 : 0)))
        }
        try await settleAll(recorder.all, instance, Expectation(isThere: true, task: task))
    }

    @Test("during the undoing of a failed build: the next agent undoes the rest")
    func undo() async throws {
        let (recorder, bench) = try recorder()
        let (instance, task) = (Instance.test(), TaskID(makeUUID()))
        let failure = Failure(.hypervisor, "no memory")
        bench.driver.fail(.powerOn, failure, afterEffect: true)
        try await bench.run(prepare: recorder.watch) { agent in
            _ = try await agent.build(instance, task: task)
            _ = try await agent.conductor.outcome(of: task)
            try await agent.settled()
            recorder.pause()
        }
        let names = Set(recorder.all.map(\.name))
        for step in OperationDefinitions.build { #expect(names.contains("afterUndo \(step.name)")) }
        try await settleAll(
            recorder.all, instance, Expectation(isThere: false, task: task), failing: (.powerOn, failure))
    }

    @Test("during a delete: the next agent finishes it")
    func delete() async throws {
        let (recorder, bench) = try recorder()
        let (instance, task) = (Instance.test(), TaskID(makeUUID()))
        recorder.pause()
        try await bench.run(prepare: recorder.watch) { agent in
            try await agent.built(instance)
            try await agent.settled()
            recorder.start()
            _ = try await agent.delete(instance.id, generation: 2, task: task)
            _ = try await agent.conductor.outcome(of: task)
            try await agent.settled()
            recorder.pause()
        }
        let names = Set(recorder.all.map(\.name))
        for step in OperationDefinitions.delete { #expect(names.contains("afterStep \(step.name)")) }
        try await settleAll(recorder.all, instance, Expectation(isThere: false, task: task))
    }

    @Test("while a delete waits for the build that it cancels: nothing of either is left")
    func cancelled() async throws {
        let (recorder, bench) = try recorder()
        let instance = Instance.test()
        let (build, deletion) = (TaskID(makeUUID()), TaskID(makeUUID()))
        recorder.pause()
        bench.driver.hold(.define)
        try await bench.run(prepare: recorder.watch) { agent in
            _ = try await agent.build(instance, task: build)
            await agent.driver.reached(.define)
            recorder.start()
            _ = try await agent.delete(instance.id, generation: 2, task: deletion)
            _ = try await agent.conductor.outcome(of: deletion)
            try await agent.settled()
            recorder.pause()
        }
        try await settleAll(recorder.all, instance, Expectation(isThere: false, task: deletion))
    }

    @Test("right after the answer to a command: the command is not lost")
    func recorded() async throws {
        let (recorder, bench) = try recorder()
        let (instance, task) = (Instance.test(), TaskID(makeUUID()))
        recorder.pause()
        bench.driver.hold(.plugNetwork)
        bench.driver.hold(.createDisks)
        try await bench.run { agent in
            _ = try await agent.build(instance, task: task)
            recorder.start()
            try recorder.record("answered")
            recorder.pause()
            agent.driver.release(.plugNetwork)
            agent.driver.release(.createDisks)
            _ = try await agent.conductor.outcome(of: task)
        }
        try await settleAll(recorder.all, instance, Expectation(isThere: true, task: task))
    }

    @Test("The host's uuid stays, and sequences go on rising, from one life to the next")
    func identity() async throws {
        let bench = try Bench()
        let folder = bench.folder
        let first = try await bench.run { agent in try await agent.core.reporter.report() }
        let second = try await Bench(folder: folder).run { agent in try await agent.core.reporter.report() }
        #expect(first.uuid == second.uuid)
        #expect(first.sequence < second.sequence)
    }
}
