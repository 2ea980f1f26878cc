import Foundation
import Model
import SQL
import TaskStore
import Tasks
import Testing

#if PostgreSQL
    import PostgreSQL
    import PostgreSQLServer
#endif

@Suite("By which clock leases end")
struct LeaseClockTests {
    private func storage(_ database: any SQLDatabase) async throws -> SQLTaskStorage {
        try await database.migrate(SQLTaskStorage.migrations, component: SQLTaskStorage.component)
        return SQLTaskStorage(database: database)
    }

    /// By the clock of this process's machine, rounded down.
    private func machineTime() -> Timestamp {
        Timestamp(microseconds: Int64(Date().timeIntervalSince1970 * 1_000) * 1_000)
    }

    private func row(_ now: Timestamp) -> TaskRow {
        TaskRow(
            id: TaskID("t"), kind: "build", requestID: RequestID("req-1"), state: [], generation: 1, createdAt: now)
    }

    /// One owner has a lease of fifteen seconds by its database's clock; another, on another machine, takes the task only
    /// when those are over by its own database's.
    private func check(_ first: any SQLDatabase, _ second: any SQLDatabase) async throws {
        let (one, two) = (try await storage(first), try await storage(second))
        let start = first.now()
        try await one.insert(row(start))
        let until = start + .seconds(15)
        #expect(try await one.lease(kinds: ["build"], owner: "one", until: until, now: start, limit: 1).count == 1)
        let early = second.now()
        #expect(early < until && early >= start, "both read one clock")
        #expect(
            try await two.lease(kinds: ["build"], owner: "two", until: early + .seconds(15), now: early, limit: 1)
                .isEmpty, "the lease holds")
        let late = until + .microseconds(1)
        let taken = try await two.lease(kinds: ["build"], owner: "two", until: late + .seconds(15), now: late, limit: 1)
        #expect(taken.map(\.epoch) == [1])
    }

    @Test("A file is read by one machine's processes: its clock is the machine's")
    func file() async throws {
        let folder = NSTemporaryDirectory() + "apus-lease-clock-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let location = Engine.Location.file(folder + "/db")
        let (one, two) = (try await location.open(), try await location.open())
        let (before, told) = (machineTime(), one.now())
        #expect(told >= before && told <= machineTime() + .milliseconds(1))
        try await check(one, two)
        for database in [one, two] { await database.close() }
    }

    #if PostgreSQL
        @Test(
            "A server's clock decides, which is five minutes from that of the owners' machine", arguments: [-300, 300])
        func server(offset: Int) async throws {
            let server = try await PostgreSQLServer.shared()
            let url = try await server.makeDatabase()
            try await server.setClock(of: url, by: offset)
            let location = Engine.Location.server(url)
            let (one, two) = (try await location.open(), try await location.open())
            try await check(one, two)
            // What an engine writes down on its own is of that clock as well.
            let database = try await location.open()
            let engine = TaskEngine(
                storage: try await storage(database), owner: "engine", poll: .milliseconds(20), now: { database.now() })
            let (began, tell) = AsyncStream.makeStream(of: Void.self)
            let (ends, end) = AsyncStream.makeStream(of: Void.self)
            engine.register(TaskDefinition(kind: "wait", steps: [Waiting(began: tell, ends: ends)]))
            let run = Task { try await engine.run() }
            try await engine.submit(
                TaskEngine.makeRow(
                    kind: "wait", requestID: RequestID("req-1"), state: Waiting.State(), now: database.now()))
            for await _ in began { break }
            let rows = try await storage(database).list(instance: nil, unfinishedOnly: true, limit: 10)
            let until = try #require(rows.first { $0.kind == "wait" }?.leaseUntil)
            let left = until.since(machineTime() + .seconds(offset))
            #expect(left > .zero && left <= .seconds(16), "of a lease from now on the server's clock")
            end.finish()
            run.cancel()
            _ = await run.result
            for database in [one, two, database] { await database.close() }
        }
    #endif

    /// Says that it has begun, and waits until it may end.
    private struct Waiting: TaskStep {
        struct State: Codable, Sendable {}
        let name = "wait"
        let deadline = Duration.seconds(600)
        let began: AsyncStream<Void>.Continuation
        let ends: AsyncStream<Void>

        func run(_ state: inout State, _ context: StepContext) async throws -> StepOutcome {
            began.yield()
            for await _ in ends {}
            return .next
        }
    }
}
