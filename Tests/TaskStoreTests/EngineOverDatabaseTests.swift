import Foundation
import Model
import SQL
import Synchronization
import TaskStore
import Tasks
import Testing

@Suite("Engines over one database")
struct EngineOverDatabaseTests {
    struct Counted: TaskStep {
        struct State: Codable, Sendable { var id: Int }
        let name: String
        let deadline = Duration.seconds(60)
        let runs: Runs

        func run(_ state: inout State, _ context: StepContext) async throws -> StepOutcome {
            runs.note("\(state.id) \(name)")
            return .next
        }
    }

    final class Runs: Sendable {
        private let counts = Mutex<[String: Int]>([:])
        var all: [String: Int] { counts.withLock { $0 } }
        func note(_ what: String) { counts.withLock { $0[what, default: 0] += 1 } }
    }

    private func makeEngine(
        _ location: Engine.Location, owner: String, _ runs: Runs
    ) async throws -> (TaskEngine, any SQLDatabase) {
        let database = try await location.open()
        try await database.migrate(SQLTaskStorage.migrations, component: SQLTaskStorage.component)
        let engine = TaskEngine(
            storage: SQLTaskStorage(database: database), owner: owner, limits: ["count": 8], poll: .milliseconds(20))
        engine.register(
            TaskDefinition(kind: "count", steps: ["a", "b", "c"].map { Counted(name: $0, runs: runs) }) {
                state, _, end in runs.note("\(state.id) \(end)")
            })
        return (engine, database)
    }

    @Test("Two engines share the tasks: each step runs once, each task ends once", arguments: Engine.allCases)
    func share(kind: Engine) async throws {
        let folder = NSTemporaryDirectory() + "apus-taskstore-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let runs = Runs()
        let location = try await kind.makeLocation(file: folder + "/db")
        let (first, one) = try await makeEngine(location, owner: "one", runs)
        let (second, two) = try await makeEngine(location, owner: "two", runs)
        let storage = SQLTaskStorage(database: one)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for id in 0..<60 {
                let row = try TaskEngine.makeRow(
                    kind: "count", requestID: RequestID("req-1"), state: Counted.State(id: id),
                    now: Timestamp(seconds: Int64(id)))
                group.addTask { try await storage.insert(row) }
            }
            try await group.waitForAll()
        }
        let services = [first, second].map { engine in Task { try await engine.run() } }
        while try await !storage.list(instance: nil, unfinishedOnly: true, limit: 1).isEmpty {
            await first.idle()
            await second.idle()
        }
        for service in services {
            service.cancel()
            try await service.value
        }
        let all = runs.all
        #expect(all.count == 240 && all.values.allSatisfy { $0 == 1 })
        let rows = try await storage.list(instance: nil, unfinishedOnly: false, limit: 100)
        #expect(rows.count == 60 && rows.allSatisfy { $0.status == .succeeded && $0.epoch == 0 })
        await one.close()
        await two.close()
    }
}
