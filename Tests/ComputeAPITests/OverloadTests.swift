import ComputeAPI
import Foundation
import HTTP
import Model
import SQL
import Tasks
import Testing

@testable import Database
@testable import SQLite

@Suite("More requests than the database can take", .timeLimit(.minutes(2)))
struct OverloadTests {
    /// As many writes as may wait for their turn.
    private static let bound = WriteQueue.limit

    /// Makes an instance what its build makes it.
    private struct Finish: TaskStep {
        typealias State = BuildTaskState
        let name = "finish"
        let deadline = Duration.seconds(60)
        let database: ControlDatabase

        func run(_ state: inout BuildTaskState, _ context: StepContext) async throws -> StepOutcome {
            _ = try await database.instances.update(state.instance, now: database.now()) { instance in
                (instance.vmState, instance.taskState, instance.powerState) = (.active, nil, .running)
            }
            return .next
        }
    }

    /// A database whose one writer is held up.
    private struct Jam {
        let database: SQLiteDatabase
        private let gate = DispatchSemaphore(value: 0)
        private let holder: Task<Void, any Error>

        init(_ database: SQLiteDatabase) async {
            self.database = database
            let (began, tell) = AsyncStream.makeStream(of: Void.self)
            let gate = gate
            holder = Task {
                try await database.write { _ in
                    tell.yield()
                    gate.wait()
                }
            }
            for await _ in began { break }
        }

        /// Waits until so many writes wait.
        func wait(for count: Int) async throws {
            let end = ContinuousClock.now + .seconds(60)
            while database.waitingWrites < count {
                try #require(ContinuousClock.now < end, "\(database.waitingWrites) of \(count) writes wait")
                await Task.yield()
            }
        }

        func end() async throws {
            gate.signal()
            try await holder.value
        }
    }

    @Test(
        "Beyond the bound the answer is 503 with Retry-After and nothing is kept; what was accepted is carried through")
    func overload() async throws {
        let folder = NSTemporaryDirectory() + "apus-overload-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let cloud = try await ComputeFixture(
            settings: APISettings(
                quotas: QuotaLimits(instances: -1, cores: -1, memoryMiB: -1), operationPatience: .zero),
            path: folder + "/db")
        let database = cloud.database
        let file = try #require(database.database as? SQLiteDatabase)
        let jam = await Jam(file)
        let early = (0..<20).map { number in
            Task { await cloud.send(.post, "servers", ComputeFixture.server(["name": .string("early-\(number)")])) }
        }
        try await jam.wait(for: early.count)
        let fillers = (early.count..<Self.bound).map { _ in Task { try await file.write { _ in } } }
        try await jam.wait(for: Self.bound)
        for number in 0..<5 {
            let reply = await cloud.send(
                .post, "servers", ComputeFixture.server(["name": .string("late-\(number)")]))
            #expect(reply.status == 503 && reply.response.headers["Retry-After"] == "1", "\(reply.json)")
        }
        try await jam.end()
        for filler in fillers { try await filler.value }
        var accepted: Set<InstanceID> = []
        for request in early {
            let reply = await request.value
            #expect(reply.status == 202)
            accepted.insert(InstanceID(try #require(reply.json["server"]?["id"]?.text)))
        }
        #expect(accepted.count == early.count)
        // What was accepted waits for a conductor, of what was refused there is nothing.
        let tasks = try await database.tasks.list(instance: nil, unfinishedOnly: true, limit: 100)
        #expect(Set(tasks.compactMap(\.instance)) == accepted && tasks.count == accepted.count)
        #expect(Set(try await database.instances.list(InstanceQuery()).map(\.id)) == accepted)
        let engine = TaskEngine(storage: database.tasks, owner: "test", poll: .milliseconds(20), now: database.now)
        engine.register(TaskDefinition(kind: TaskKind.build, steps: [Finish(database: database)]) { _, _, _ in })
        let run = Task { try await engine.run() }
        await engine.idle()
        run.cancel()
        try await run.value
        let ended = try await database.tasks.list(instance: nil, unfinishedOnly: false, limit: 100)
        #expect(ended.count == accepted.count && ended.allSatisfy { $0.status == .succeeded })
        let built = try await database.instances.list(InstanceQuery())
        #expect(Set(built.map(\.id)) == accepted && built.allSatisfy { $0.vmState == .active })
        // The queue is empty again, and takes what comes.
        #expect(await cloud.send(.post, "servers", ComputeFixture.server()).status == 202)
        await database.close()
    }
}
