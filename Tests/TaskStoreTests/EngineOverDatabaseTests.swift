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

    @Test(
        "A changed plan is a kind of its own: engines of the release before leave it alone, and share the rest",
        arguments: Engine.allCases)
    func releases(kind: Engine) async throws {
        let folder = NSTemporaryDirectory() + "apus-taskstore-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let (older, newer) = (Runs(), Runs())
        let location = try await kind.makeLocation(file: folder + "/db")
        let (first, one) = try await makeEngine(location, owner: "one", older)
        let (second, two) = try await makeEngine(location, owner: "two", newer)
        second.register(
            TaskDefinition(kind: "count.2", steps: ["a", "new", "b", "c"].map { Counted(name: $0, runs: newer) }))
        let storage = SQLTaskStorage(database: one)
        for id in 0..<40 {
            try await storage.insert(
                TaskEngine.makeRow(
                    kind: id < 20 ? "count" : "count.2", requestID: RequestID("req-1"), state: Counted.State(id: id),
                    now: Timestamp(seconds: 1)))
        }
        // The older one alone first: it does what it knows, and no more.
        let early = Task { try await first.run() }
        var left = try await storage.list(instance: nil, unfinishedOnly: true, limit: 100)
        while left.contains(where: { $0.kind == "count" }) {
            await first.idle()
            left = try await storage.list(instance: nil, unfinishedOnly: true, limit: 100)
        }
        #expect(left.count == 20 && left.allSatisfy { $0.kind == "count.2" && $0.status == .pending && $0.epoch == 0 })
        let late = Task { try await second.run() }
        while try await !storage.list(instance: nil, unfinishedOnly: true, limit: 1).isEmpty { await second.idle() }
        for service in [early, late] {
            service.cancel()
            try await service.value
        }
        #expect(older.all.keys.allSatisfy { !$0.hasSuffix(" new") } && older.all.count == 80)
        #expect(newer.all.count == 80 && newer.all.values.allSatisfy { $0 == 1 })
        #expect((20..<40).allSatisfy { newer.all["\($0) new"] == 1 })
        let rows = try await storage.list(instance: nil, unfinishedOnly: false, limit: 100)
        #expect(rows.allSatisfy { $0.status == .succeeded })
        await one.close()
        await two.close()
    }

    /// Hangs in the first engine that runs it, until it is let go.
    struct Hanging: TaskStep {
        struct State: Codable, Sendable {}
        let name = "hang"
        let deadline = Duration.seconds(600)
        let runs: Runs

        func run(_ state: inout State, _ context: StepContext) async throws -> StepOutcome {
            runs.note("run")
            guard runs.all["run"] == 1 else { return .next }
            while runs.all["let go"] == nil { try await Task.sleep(for: .milliseconds(20)) }
            return .next
        }
    }

    @Test(
        "What an engine was at goes on when its process has ended, long before the lease is over",
        arguments: Engine.allCases)
    func death(kind: Engine) async throws {
        let folder = NSTemporaryDirectory() + "apus-taskstore-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let runs = Runs()
        let location = try await kind.makeLocation(file: folder + "/db")
        var services: [Task<Void, any Error>] = []
        var databases: [any SQLDatabase] = []
        for owner in ["one", "two"] {
            let database = try await location.open()
            try await database.migrate(SQLTaskStorage.migrations, component: SQLTaskStorage.component)
            let engine = TaskEngine(
                storage: SQLTaskStorage(database: database), owner: owner, lease: .seconds(20),
                poll: .milliseconds(20), watch: .milliseconds(50))
            engine.register(TaskDefinition(kind: "hang", steps: [Hanging(runs: runs)]) { _, _, _ in })
            services.append(Task { try await engine.run() })
            databases.append(database)
            if owner == "one" {
                try await engine.submit(
                    TaskEngine.makeRow(
                        kind: "hang", requestID: RequestID("req-1"), state: Hanging.State(),
                        now: Timestamp(seconds: 1)))
                while runs.all["run"] == nil { try await Task.sleep(for: .milliseconds(5)) }
            }
        }
        // Only who has said that it lives can be missed.
        let storage = SQLTaskStorage(database: databases[1])
        while try await storage.owners(besides: "two") != ["one": true] { try await Task.sleep(for: .milliseconds(20)) }
        try await Task.sleep(for: .milliseconds(300))
        #expect(runs.all["run"] == 1, "an engine that lives keeps its task")
        let start = ContinuousClock.now
        await databases[0].close()
        while try await !storage.list(instance: nil, unfinishedOnly: true, limit: 1).isEmpty {
            try #require(ContinuousClock.now - start < .seconds(15), "nobody goes on with it")
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(runs.all["run"] == 2)
        let row = try #require(try await storage.list(instance: nil, unfinishedOnly: false, limit: 1).first)
        #expect(row.status == .succeeded && row.epoch == 1)
        runs.note("let go")
        for service in services { service.cancel() }
        for service in services { _ = await service.result }
        await databases[1].close()
    }
}
