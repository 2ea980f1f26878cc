import Database
import Model
import Tasks
import Testing

@Suite("Instances")
struct InstanceStoreTests {
    private struct Refused: Error {}

    @Test("An instance comes back with everything that was in it, and a number", arguments: Engine.allCases)
    func roundTrip(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        var expected = fullInstance()
        let made = try await database.instances.create([expected], actions: [], tasks: [])
        expected.number = 1
        #expect(made == [expected])
        #expect(try await database.instances.find(expected.id) == expected)
        #expect(try await database.instances.find(InstanceID("other")) == nil)
    }

    @Test("Instances, actions and tasks are there together, or not at all", arguments: Engine.allCases)
    func together(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let instances = [plainInstance("a"), plainInstance("b")]
        await #expect(throws: TaskError.duplicate(TaskID("t"))) {
            try await database.instances.create(
                instances, actions: [makeAction("a")],
                tasks: [makeTask("t", instance: "a"), makeTask("t", instance: "b")])
        }
        #expect(try await database.instances.list(InstanceQuery()).isEmpty)
        #expect(try await database.actions.list(InstanceID("a")).isEmpty)
        #expect(try await database.tasks.find(TaskID("t")) == nil)

        let made = try await database.instances.create(
            instances, actions: [makeAction("a"), makeAction("b")],
            tasks: [makeTask("t", instance: "a"), makeTask("s", instance: "b")])
        #expect(made.map(\.number) == [1, 2])
        #expect(try await database.tasks.list(instance: InstanceID("b"), unfinishedOnly: true, limit: 9).count == 1)
        #expect(try await database.actions.find(InstanceID("b"), RequestID("req-1")) == makeAction("b"))
    }

    @Test(
        "Admission sees the usage in the same transaction: of many at once only as many pass as fit",
        arguments: Engine.allCases)
    func admission(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let accepted = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<20 {
                group.addTask {
                    let made = try? await database.instances.create(
                        [plainInstance("i\(number)")], actions: [], tasks: []
                    ) { usage in
                        guard usage.project.cores < 5 else { throw Refused() }
                    }
                    return made != nil
                }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(accepted == 5)
        let usage = try await database.instances.usage(of: ProjectID("p")).project
        #expect(usage.instances == 5 && usage.cores == 5 && usage.memoryMiB == 10_240)
        #expect(try await database.instances.usage(of: ProjectID("q")).project.instances == 0)
    }

    @Test("A change is made on the row as it is, and dates it", arguments: Engine.allCases)
    func update(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        _ = try await database.instances.create([plainInstance("a")], actions: [], tasks: [])
        let changed = try await database.instances.update(InstanceID("a"), generation: 1, now: at(9)) { instance in
            instance.taskState = .spawning
            instance.fence.epoch = 4
        }
        #expect(changed.taskState == .spawning && changed.updatedAt == at(9))
        #expect(try await database.instances.find(InstanceID("a")) == changed)
    }

    @Test(
        "A change of an older generation is refused with the row as it is; nothing is written",
        arguments: Engine.allCases)
    func conflict(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        _ = try await database.instances.create([plainInstance("a")], actions: [makeAction("a")], tasks: [])
        let current = try await database.instances.update(InstanceID("a"), now: at(5)) { $0.fence.generation = 2 }
        let end = ActionEnd(requestID: RequestID("req-1"), at: at(6), failed: false, event: nil)
        await #expect(throws: StoreError.conflict(current: current)) {
            _ = try await database.instances.update(
                InstanceID("a"), generation: 1, now: at(6), finishing: end,
                makeTasks: { _ in [makeTask("t", instance: "a")] }, change: { $0.vmState = .active })
        }
        #expect(try await database.instances.find(InstanceID("a")) == current)
        #expect(try await database.tasks.find(TaskID("t")) == nil)
        #expect(try await database.actions.find(InstanceID("a"), RequestID("req-1"))?.finishedAt == nil)
    }

    @Test("What the change throws leaves everything as it was", arguments: Engine.allCases)
    func refusedChange(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        _ = try await database.instances.create([plainInstance("a")], actions: [], tasks: [])
        await #expect(throws: Refused.self) {
            _ = try await database.instances.update(
                InstanceID("a"), now: at(5), action: makeAction("a"),
                change: { instance in
                    instance.vmState = .error
                    throw Refused()
                })
        }
        #expect(try await database.instances.find(InstanceID("a"))?.vmState == .building)
        #expect(try await database.actions.list(InstanceID("a")).isEmpty)
    }

    @Test(
        "A change carries its action and its tasks; its end carries the action's end and event",
        arguments: Engine.allCases)
    func changeWithTask(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        _ = try await database.instances.create([plainInstance("a")], actions: [], tasks: [])
        _ = try await database.instances.update(
            InstanceID("a"), now: at(5), action: makeAction("a"),
            makeTasks: { [makeTask("t", instance: $0.id.rawValue)] }, change: { $0.fence.generation += 1 })
        #expect(try await database.tasks.find(TaskID("t"))?.status == .pending)
        let event = InstanceEvent(
            name: "compute_stop_instance", host: HostName("h"), startedAt: at(5), finishedAt: at(6),
            result: "Error", details: "no")
        _ = try await database.instances.update(
            InstanceID("a"), now: at(6),
            finishing: ActionEnd(requestID: RequestID("req-1"), at: at(6), failed: true, event: event)
        ) { $0.vmState = .error }
        let action = try #require(try await database.actions.find(InstanceID("a"), RequestID("req-1")))
        #expect(action.finishedAt == at(6) && action.message == "Error")
        #expect(try await database.actions.events(InstanceID("a"), RequestID("req-1")) == [event])
    }

    @Test("Of many changes at once none is lost", arguments: Engine.allCases)
    func concurrency(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        _ = try await database.instances.create([plainInstance("a")], actions: [], tasks: [])
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<100 {
                group.addTask {
                    _ = try await database.instances.update(InstanceID("a"), now: at(2)) { $0.progress += 1 }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await database.instances.find(InstanceID("a"))?.progress == 100)
    }

    @Test("A deleted instance is found only when asked for, and takes nothing", arguments: Engine.allCases)
    func deleted(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        _ = try await database.instances.create([plainInstance("a")], actions: [], tasks: [])
        _ = try await database.instances.update(InstanceID("a"), now: at(5)) { instance in
            instance.vmState = .deleted
            instance.deletedAt = at(5)
        }
        #expect(try await database.instances.find(InstanceID("a")) == nil)
        #expect(try await database.instances.find(InstanceID("a"), includeDeleted: true)?.vmState == .deleted)
        #expect(try await database.instances.usage(of: ProjectID("p")).project.instances == 0)
    }

    @Test("An unknown instance is named", arguments: Engine.allCases)
    func unknown(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        await #expect(throws: StoreError.notFound("Instance x")) {
            _ = try await database.instances.update(InstanceID("x"), now: at(1)) { _ in }
        }
    }

    @Test("The actions of an instance come newest first; each request once", arguments: Engine.allCases)
    func actions(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let actions = [
            makeAction("a", request: "req-1", at: 1), makeAction("a", request: "req-2", at: 2),
            makeAction("a", request: "req-2", at: 3),
        ]
        _ = try await database.instances.create([plainInstance("a")], actions: actions, tasks: [])
        #expect(try await database.actions.list(InstanceID("a")).map(\.requestID.rawValue) == ["req-2", "req-1"])
        #expect(try await database.actions.list(InstanceID("a"), limit: 1).count == 1)
        #expect(try await database.actions.find(InstanceID("a"), RequestID("req-2"))?.startedAt == at(2))
    }
}
