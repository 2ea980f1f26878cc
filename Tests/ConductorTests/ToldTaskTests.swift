#if PostgreSQL
    import Crypto
    import Database
    import Model
    import PostgreSQLServer
    import RPC
    import Tasks
    import Telemetry
    import Testing

    @testable import Conductor

    @Suite("Tasks that the database's server tells of", .timeLimit(.minutes(2)))
    struct ToldTaskTests {
        @Test(
            "A task that another process inserts begins at once, though the next look is a minute away"
        )
        func told() async throws {
            let url = try await PostgreSQLServer.shared().makeDatabase()
            let location = DatabaseLocation.server(url: url, connections: 3)
            let database = try await ControlDatabase.open(location)
            let other = try await ControlDatabase.open(location)
            try await ControlPlane.with(settings: ["conductor.task_poll_interval": "60"], database: database) { plane in
                _ = try await plane.addHost("kvm1")
                let id = try await plane.running().id
                let (requestID, begin) = (RequestScope.makeID(), ContinuousClock.now)
                _ = try await other.instances.update(
                    id, now: WallClock.now(),
                    action: InstanceAction(
                        instance: id, requestID: requestID, kind: .stop, userID: UserID("u"),
                        projectID: ProjectID("p"), startedAt: WallClock.now()),
                    makeTasks: { instance in
                        [
                            try TaskEngine.makeRow(
                                kind: TaskKind.guest, instance: id, requestID: requestID,
                                generation: instance.fence.generation,
                                state: GuestTaskState(instance: id, command: .stop), now: WallClock.now())
                        ]
                    },
                    change: { instance in
                        instance.taskState = try InstanceRequest.stop.admitted(to: instance, isAdmin: false)
                        instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
                    })
                _ = try await plane.wait(for: id) { $0.vmState == .stopped && $0.taskState == nil }
                #expect(ContinuousClock.now - begin < .seconds(30))
            }
            await other.close()
            await database.close()
        }
    }
#endif
