import Crypto
import Model
import RPC
import SQL
import SQLite
import Tasks
import Testing

@testable import Compute

@Suite("A crash at any moment of an operation on a guest that is there", .timeLimit(.minutes(5)))
struct OperationCrashTests {
    /// The points of one run of `test`, from the command to its end; with `failing` the call fails from then on, once.
    private func points(
        _ test: CommandCase, _ instance: Instance, _ task: TaskID, failing: DriverCall? = nil
    ) async throws -> [CrashPoint] {
        let (folder, host) = (try Folder(), FakeHost())
        let recorder = CrashRecorder(folder: folder, host: host)
        let bench = try Bench(host: host, folder: folder) { call, phase, id in
            if phase == .after, id != nil, call != .observe { try recorder.record("after the effect of \(call)") }
        }
        recorder.pause()
        try await bench.run(prepare: recorder.watch) { agent in
            let generation = try await agent.begin(test, instance)
            if let failing {
                let first = agent.driver.count(failing) + 1
                agent.driver.fail(
                    failing, Failure(.hypervisor, "not today"), calls: first...first, afterEffect: true)
            }
            recorder.start()
            _ = try await agent.operate(test.command, instance.id, generation: generation, task: task)
            _ = try await agent.conductor.outcome(of: task)
            try await agent.settled()
            recorder.pause()
        }
        return recorder.all
    }

    private func settle(
        _ point: CrashPoint, _ test: CommandCase, _ instance: Instance, _ task: TaskID, mayFail: Bool
    ) async throws {
        let bench = try Bench(host: FakeHost(point.host), folder: point.folder)
        try await bench.run { agent in
            try await agent.settled()
            try await agent.agrees(instance.id, "\(point.name)")
            try await agent.holdsExactly([instance])
            let known = try await agent.core.journal.database.read {
                try $0.operation(test.kind.operationID(task: task, attempt: 1))
            }
            #expect(known?.outcome != nil, "\(point.name)")
            guard !mayFail else { return }
            #expect(known?.outcome?.failure == nil, "\(point.name)")
            #expect(try await agent.core.journal.guest(instance.id)?.vmState == test.vmState, "\(point.name)")
            #expect(agent.driver.host.state.domains[instance.id]?.powerState == test.powerState, "\(point.name)")
        }
    }

    @Test("The next agent finishes it", arguments: CommandCase.all)
    func finished(test: CommandCase) async throws {
        let (instance, task) = (Instance.test(), TaskID(makeUUID()))
        let points = try await points(test, instance, task)
        let names = Set(points.map(\.name))
        let steps = OperationDefinitions.command(test.kind, shutdownGrace: .zero, rebootGrace: .zero).map(\.name)
        // A soft reboot that succeeds goes no further than its first step.
        for step in test.kind == .softReboot ? Array(steps.prefix(1)) : steps {
            #expect(names.contains("afterStep \(step)"))
        }
        try await withThrowingDiscardingTaskGroup { group in
            for point in points {
                group.addTask { try await settle(point, test, instance, task, mayFail: false) }
            }
        }
    }

    @Test(
        "The next agent undoes the rest of a failed one",
        arguments: CommandCase.all.filter { $0.calls.count > 1 && $0.kind != .softReboot })
    func undone(test: CommandCase) async throws {
        let (instance, task) = (Instance.test(), TaskID(makeUUID()))
        guard let last = test.calls.last else { return }
        let points = try await points(test, instance, task, failing: last)
        #expect(points.contains { $0.name.hasPrefix("afterUndo") })
        try await withThrowingDiscardingTaskGroup { group in
            for point in points {
                group.addTask { try await settle(point, test, instance, task, mayFail: true) }
            }
        }
    }
}
