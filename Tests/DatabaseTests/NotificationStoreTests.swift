import Model
import SQL
import Testing

@testable import Database

@Suite("Notifications")
struct NotificationStoreTests {
    private func types(_ waiting: [WaitingNotification]) throws -> [String] {
        try waiting.map { try JSON(parsing: Array($0.body.utf8))["event_type"]?.text ?? "" }
    }

    private func make(_ database: ControlDatabase, _ id: String) async throws {
        _ = try await database.instances.create(
            [plainInstance(id)], actions: [makeAction(id, request: "req-\(id)")], tasks: [])
    }

    private func end(
        _ database: ControlDatabase, _ id: String, failed: Bool = false, isWithoutHost: Bool = false
    ) async throws {
        let event = InstanceEvent(
            name: "e", host: HostName("a"), startedAt: at(1), finishedAt: at(2), result: failed ? "Error" : "Success",
            details: failed ? "no room" : nil)
        _ = try await database.instances.update(
            InstanceID(id), now: at(3),
            finishing: ActionEnd(
                requestID: RequestID("req-\(id)"), at: at(3), failed: failed, event: event, isWithoutHost: isWithoutHost
            )
        ) { $0.vmState = failed ? .error : .active }
    }

    @Test("Without a sink nothing is written down", arguments: Engine.allCases)
    func off(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await make(database, "a")
        #expect(try await database.notifications.waiting(for: "s", limit: 10).isEmpty)
        try await database.notifications.setSinks(["s"])
        #expect(try await database.notifications.waiting(for: "s", limit: 10).isEmpty, "what was before is not told")
        await database.close()
    }

    @Test(
        "A request is told when it is accepted and when it has ended, once, with what the instance was then",
        arguments: Engine.allCases)
    func request(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await database.notifications.setSinks(["s"])
        try await make(database, "a")
        try await end(database, "a")
        try await end(database, "a")
        try await make(database, "b")
        try await end(database, "b", failed: true)
        let waiting = try await database.notifications.waiting(for: "s", limit: 10)
        #expect(
            try types(waiting) == [
                "instance.create.start", "instance.create.end", "instance.create.start", "instance.create.error",
            ])
        #expect(waiting.map(\.subject) == ["a", "a", "b", "b"] && waiting.map(\.position) == [1, 2, 3, 4])
        let last = try JSON(parsing: Array(waiting[3].body.utf8))
        #expect(
            last["priority"] == "ERROR" && last["publisher_id"] == "nova-compute:a" && last["request_id"] == "req-b")
        let data = last["payload"]?["nova_object.data"]
        #expect(
            data?["uuid"] == "b" && data?["state"] == "error"
                && data?["flavor"]?["nova_object.data"]?["memory_mb"] == 2_048)
        #expect(data?["fault"]?["nova_object.data"]?["exception_message"] == "no room")
        let first = try JSON(parsing: Array(waiting[0].body.utf8))
        #expect(first["payload"]?["nova_object.data"]?["state"] == "building" && first["priority"] == "INFO")
        #expect(first["message_id"]?.text != last["message_id"]?.text)
        await database.close()
    }

    @Test("A live migration is told as Nova tells its parts, and what ends it early by its own name")
    func liveMigration() async throws {
        let database = try await makeDatabase(.sqlite)
        try await database.notifications.setSinks(["s"])
        for (id, kind, failed) in [
            ("a", InstanceActionKind.liveMigration, false), ("b", .liveMigration, true),
            ("c", .abortLiveMigration, false), ("d", .forceLiveMigration, true),
        ] {
            var action = makeAction(id, request: "req-\(id)")
            action.kind = kind
            _ = try await database.instances.create([plainInstance(id)], actions: [action], tasks: [])
            try await end(database, id, failed: failed)
        }
        let waiting = try await database.notifications.waiting(for: "s", limit: 10)
        #expect(
            try types(waiting) == [
                "instance.live_migration_pre.start", "instance.live_migration_post.end",
                "instance.live_migration_pre.start", "instance.live_migration_rollback.end",
                "instance.live_migration_abort.start", "instance.live_migration_abort.end",
                "instance.live_migration_force_complete.start", "instance.live_migration_force_complete.error",
            ])
        let rollback = try JSON(parsing: Array(waiting[3].body.utf8))
        #expect(rollback["priority"] == "ERROR")
        await database.close()
    }

    @Test("A build that no host has taken is told as the conductor's failure too", arguments: Engine.allCases)
    func task(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await database.notifications.setSinks(["s"])
        try await make(database, "a")
        try await end(database, "a", failed: true, isWithoutHost: true)
        let waiting = try await database.notifications.waiting(for: "s", limit: 10)
        #expect(
            try types(waiting) == [
                "instance.create.start", "instance.create.error", "compute_task.build_instances.error",
            ])
        let last = try JSON(parsing: Array(waiting[2].body.utf8))
        let data = last["payload"]?["nova_object.data"]
        #expect(last["priority"] == "ERROR" && data?["instance_uuid"] == "a" && data?["state"] == "error")
        #expect(data?["reason"]?["nova_object.data"]?["exception_message"] == "no room")
        await database.close()
    }

    @Test("What every sink has is forgotten; a sink that is gone holds nothing up", arguments: Engine.allCases)
    func sinks(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let store = database.notifications
        try await store.setSinks(["one", "two"])
        for id in ["a", "b", "c"] { try await make(database, id) }
        func count(_ sink: String) async throws -> Int { try await store.waiting(for: sink, limit: 10).count }
        #expect(try await store.lease("one", owner: "x", until: at(20), now: at(10)))
        #expect(try await store.delivered(2, to: "one", by: "x"))
        #expect(try await count("one") == 1)
        #expect(try await count("two") == 3)
        try await store.setSinks(["one"])
        #expect(try await count("two") == 0)
        #expect(try await store.delivered(3, to: "one", by: "x"))
        let left = try await database.database.read { try $0.first("SELECT COUNT(*) FROM notifications") { $0.int(0) } }
        #expect(left == 0)
        await database.close()
    }

    @Test(
        "One owner has a sink at a time; another gets it when the time is over, and the first changes nothing then",
        arguments: Engine.allCases)
    func lease(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let store = database.notifications
        try await store.setSinks(["s"])
        try await make(database, "a")
        #expect(try await store.lease("s", owner: "x", until: at(20), now: at(10)))
        #expect(try await !store.lease("s", owner: "y", until: at(25), now: at(15)))
        #expect(try await store.lease("s", owner: "x", until: at(22), now: at(15)), "its own it prolongs")
        #expect(try await store.lease("s", owner: "y", until: at(40), now: at(22)))
        #expect(try await !store.delivered(1, to: "s", by: "x"))
        #expect(try await store.delivered(1, to: "s", by: "y"))
        #expect(try await !store.delivered(1, to: "s", by: "y"), "no way back")
        #expect(try await !store.lease("none", owner: "x", until: at(50), now: at(45)))
        await database.close()
    }

    @Test("What is undone is not told", arguments: Engine.allCases)
    func undone(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await database.notifications.setSinks(["s"])
        struct No: Error {}
        await #expect(throws: No.self) {
            _ = try await database.instances.create(
                [plainInstance("a")], actions: [makeAction("a")], tasks: [], admit: { _ in throw No() })
        }
        #expect(try await database.notifications.waiting(for: "s", limit: 10).isEmpty)
        await database.close()
    }

    @Test(
        "A service is told when it is new, changed and forgotten, an aggregate around each change",
        arguments: Engine.allCases)
    func servicesAndAggregates(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await database.notifications.setSinks(["s"])
        let beat = ServiceHeartbeat(host: HostName("a"), binary: "nova-compute", version: 1, at: at(1))
        try await database.services.record([beat])
        try await database.services.record([beat])
        let uuid = try #require(try await database.services.list().first).uuid
        _ = try await database.services.change(uuid: uuid, isDisabled: true, disabledReason: "repair")
        try await database.services.delete(uuid: uuid)
        let aggregates = database.aggregates
        let made = try await aggregates.create(name: "x", uuid: "u", availabilityZone: "z", now: at(2))
        _ = try await aggregates.update(made.id, name: "y", defaultZone: "nova", now: at(3))
        _ = try await aggregates.update(made.id, metadata: ["k": "v"], defaultZone: "nova", now: at(3))
        _ = try await aggregates.add(HostName("a"), to: made.id, defaultZone: "nova", now: at(4))
        _ = try await aggregates.remove(HostName("a"), from: made.id, defaultZone: "nova", now: at(5))
        try await aggregates.delete(made.id)
        let waiting = try await database.notifications.waiting(for: "s", limit: 100)
        #expect(
            try types(waiting) == ["service.create", "service.update", "service.delete"]
                + ["create", "update_prop", "update_metadata", "add_host", "remove_host", "delete"].flatMap {
                    ["aggregate.\($0).start", "aggregate.\($0).end"]
                })
        func data(_ index: Int) throws -> JSON? {
            try JSON(parsing: Array(waiting[index].body.utf8))["payload"]?["nova_object.data"]
        }
        #expect(try data(0)?["topic"] == "compute" && data(0)?["report_count"] == 1)
        #expect(try data(1)?["disabled"] == true && data(1)?["disabled_reason"] == "repair")
        #expect(try data(9)?["hosts"] == [] && data(10)?["hosts"] == ["a"] && data(10)?["name"] == "y")
        #expect(waiting.allSatisfy { $0.subject == uuid || $0.subject == "u" })
        await database.close()
    }
}
