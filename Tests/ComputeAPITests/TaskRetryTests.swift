import ComputeAPI
import Database
import HTTP
import Model
import RPC
import Tasks
import Telemetry
import Testing

@Suite("Tasks: batches, second tries")
struct TaskRetryTests {
    private func admin(_ cloud: ComputeFixture, _ method: HTTPMethod, _ path: String) async -> ComputeFixture.Reply {
        await cloud.send(cloud.admin, method, path, as: "p0/admin")
    }

    /// Ends the newest task of the kind as an engine would, and answers it.
    private func end(
        _ cloud: ComputeFixture, _ id: String, kind: String, _ status: TaskStatus = .failed
    ) async throws -> TaskRow {
        let now = cloud.clock.now
        let tasks = try await cloud.database.tasks.list(instance: InstanceID(id), unfinishedOnly: true, limit: 10)
        let task = try #require(tasks.first { $0.kind == kind })
        var row = try #require(
            try await cloud.database.tasks.lease(id: task.id, owner: "t", until: now + .seconds(9), now: now))
        row.status = status
        (row.step, row.leaseUntil, row.finishedAt) = (nil, nil, now)
        row.lastError = status == .succeeded ? nil : Failure(.storage, "the disk is full")
        try await cloud.database.tasks.save(row)
        return row
    }

    @Test("Several servers of one request have one parent task, which names them as its children")
    func batch() async throws {
        let cloud = try await ComputeFixture()
        let reply = await cloud.send(.post, "servers", ComputeFixture.server(["min_count": 3]))
        #expect(reply.status == 202)
        let all = await admin(cloud, .get, "/tasks").json["tasks"]?.list ?? []
        let parent = try #require(all.first { $0["kind"]?.text == "batch" })
        let id = try #require(parent["id"]?.text)
        #expect(all.count == 4 && all.filter { $0["parent_id"]?.text == id }.count == 3)
        let shown = await admin(cloud, .get, "/tasks/\(id)").json["task"]
        #expect(shown?["children"]?.list?.map { $0["kind"]?.text } == ["build", "build", "build"])
        _ = try await cloud.makeServer()
        #expect(await admin(cloud, .get, "/tasks").json["tasks"]?.list?.count == 5, "one server is no batch")
    }

    @Test("A task that waits for its next attempt runs now, as if it had not failed yet")
    func hasten() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeServer()
        let now = cloud.clock.now
        let tasks = cloud.database.tasks
        let task = try #require(try await tasks.list(instance: InstanceID(id), unfinishedOnly: true, limit: 1).first)
        var row = try #require(try await tasks.lease(id: task.id, owner: "t", until: now + .seconds(9), now: now))
        let atWork = await admin(cloud, .post, "/tasks/\(row.id)/retry")
        #expect(atWork.status == 409 && atWork.message.contains("at work"))
        (row.status, row.attempts, row.leaseUntil) = (.waiting, 5, nil)
        row.wakeAt = now + .seconds(3_600)
        try await tasks.save(row)
        cloud.clock.advance(by: .seconds(90))
        let reply = await admin(cloud, .post, "/tasks/\(row.id)/retry")
        #expect(reply.status == 202 && reply.json["task"]?["age_seconds"] == 90)
        let hastened = try #require(try await tasks.find(row.id))
        #expect(hastened.attempts == 0 && hastened.runnableAt == cloud.clock.now)
    }

    @Test("A delete is not cancelled, nor a command that its host has begun and cannot take back")
    func cancellation() async throws {
        let cloud = try await ComputeFixture()
        let id = InstanceID(try await cloud.makeActive())
        func insert(_ kind: String, _ state: some Codable & Sendable) async throws -> TaskID {
            let row = try TaskEngine.makeRow(
                kind: kind, instance: id, requestID: RequestScope.makeID(), generation: 1, state: state,
                now: cloud.clock.now)
            try await cloud.database.tasks.insert(row)
            return row.id
        }
        func guest(_ command: GuestCommand, sent: Bool) -> GuestTaskState {
            var state = GuestTaskState(instance: id, command: command)
            state.dispatchedEpoch = sent ? 0 : nil
            return state
        }
        let copy = GuestCommand.snapshot(SnapshotOrder(image: ImageID("i"), format: .raw, quiesce: .no))
        let expected: [(TaskID, Int)] = [
            (try await insert(TaskKind.delete, DeleteTaskState(instance: id)), 409),
            (try await insert(TaskKind.cleanup, CleanupTaskState(instance: id, host: HostName("kvm1"))), 409),
            (try await insert(TaskKind.leave, CleanupTaskState(instance: id, host: HostName("kvm1"))), 409),
            (
                try await insert(TaskKind.liveMigrate, MoveTaskState(instance: id, migration: MigrationID("m"))), 202
            ),
            (try await insert(TaskKind.guest, guest(.stop, sent: true)), 409),
            (try await insert(TaskKind.guest, guest(.stop, sent: false)), 202),
            (try await insert(TaskKind.snapshot, guest(copy, sent: true)), 202),
        ]
        for (task, status) in expected {
            let reply = await admin(cloud, .post, "/tasks/\(task)/cancel")
            #expect(reply.status == status, "\(reply.message)")
            #expect(try await cloud.database.tasks.find(task)?.isCancelRequested == (status == 202))
        }
    }

    @Test("A delete that failed is inserted again, above the epochs that the host has seen")
    func again() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
        let row = try await end(cloud, id, kind: TaskKind.delete)
        let busy = await admin(cloud, .post, "/tasks/\(row.id)/retry")
        #expect(busy.status == 409 && busy.message.contains("under way"))
        try await cloud.settle(id, .error)
        let reply = await admin(cloud, .post, "/tasks/\(row.id)/retry")
        #expect(reply.status == 202)
        let made = try #require(try await cloud.database.tasks.find(TaskID(reply.json["task"]?["id"]?.text ?? "")))
        #expect(made.id != row.id && made.kind == TaskKind.delete && made.status == .pending)
        #expect(made.generation == row.generation && made.epoch == row.epoch + 1)
        #expect(try await cloud.instance(id)?.taskState == .deleting)
    }

    @Test("What a host has yet to give back or to remove is asked again, and nothing of the server changes")
    func released() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        for kind in [TaskKind.release, TaskKind.leave] {
            var state = CleanupTaskState(instance: InstanceID(id), host: HostName("kvm1"))
            (state.migration, state.isSource) = (MigrationID("m"), true)
            (state.attempts, state.dispatchedEpoch) = (30, 0)
            let made = try TaskEngine.makeRow(
                kind: kind, instance: InstanceID(id), requestID: RequestScope.makeID(), generation: 1, state: state,
                now: cloud.clock.now)
            try await cloud.database.tasks.insert(made)
            let before = try await cloud.instance(id)
            let row = try await end(cloud, id, kind: kind)
            let reply = await admin(cloud, .post, "/tasks/\(row.id)/retry")
            #expect(reply.status == 202, "\(reply.message)")
            let again = try #require(
                try await cloud.database.tasks.find(TaskID(reply.json["task"]?["id"]?.text ?? "")))
            let fresh = try TaskEngine.state(CleanupTaskState.self, of: again)
            #expect(fresh.migration == MigrationID("m") && fresh.isSource == true)
            #expect(fresh.attempts == nil && fresh.dispatchedEpoch == nil && again.epoch == row.epoch + 1)
            #expect(try await cloud.instance(id) == before)
        }
    }

    @Test("What cannot be repeated, has succeeded, or was overtaken is 409 with the reason")
    func refused() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let build = try await end(cloud, id, kind: TaskKind.build)
        let unsafe = await admin(cloud, .post, "/tasks/\(build.id)/retry")
        #expect(unsafe.status == 409 && unsafe.message.contains("ask for the operation again"))
        #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
        let delete = try await end(cloud, id, kind: TaskKind.delete)
        #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
        let late = await admin(cloud, .post, "/tasks/\(delete.id)/retry")
        #expect(late.status == 409 && late.message.contains("newer request"))
        let done = try await end(cloud, id, kind: TaskKind.delete, .succeeded)
        #expect(await admin(cloud, .post, "/tasks/\(done.id)/retry").message.contains("has succeeded"))
        #expect(await admin(cloud, .post, "/tasks/nothing/retry").status == 404)
        #expect(await cloud.send(cloud.admin, .post, "/tasks/\(done.id)/retry", as: "p1/member").status == 403)
    }
}
