import Configuration
import Database
import Model
import Periodic
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Forgetting what has ended")
struct TrimTests {
    private static let start = Timestamp(seconds: 1_767_225_600)

    private static func insert(_ id: String, finished: Duration?, into database: ControlDatabase) async throws {
        var row = try TaskEngine.makeRow(
            kind: "k", requestID: RequestScope.makeID(), state: ["a"], now: start)
        row.id = TaskID(id)
        if let finished { (row.status, row.finishedAt) = (.succeeded, start + finished) }
        try await database.tasks.insert(row)
    }

    private static func left(_ database: ControlDatabase) async throws -> Set<String> {
        let rows = try await database.tasks.list(instance: nil, unfinishedOnly: false, limit: 100)
        return Set(rows.map(\.id.rawValue))
    }

    @Test("Tasks that ended longer ago than they are kept are forgotten; those under way never are")
    func age() async throws {
        let database = try await ControlDatabase.open(path: nil) { Self.start }
        try await Self.insert("old", finished: .zero, into: database)
        try await Self.insert("young", finished: .seconds(5_000), into: database)
        try await Self.insert("open", finished: nil, into: database)
        let trim = RecordTrim(database: database, retention: .seconds(7_200))
        try await trim.run(at: Self.start + .seconds(7_200))
        #expect(try await Self.left(database) == ["old", "young", "open"])
        try await trim.run(at: Self.start + .seconds(7_201))
        #expect(try await Self.left(database) == ["young", "open"])
        try await trim.run(at: Self.start + .seconds(1_000_000))
        #expect(try await Self.left(database) == ["open"])
    }

    @Test("A conductor's own loop forgets by the options and the clock that it is given")
    func service() async throws {
        let database = try await ControlDatabase.open(path: nil)
        try await Self.insert("old", finished: .zero, into: database)
        try await ControlPlane.with(
            settings: ["conductor.task_trim_interval": "1", "conductor.task_retention": "3600"], database: database
        ) { _ in
            // The conductor's clock is the wall's, long after what ended here.
            for _ in 0..<600 where try await !Self.left(database).isEmpty {
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(try await Self.left(database).isEmpty)
        }
    }

    @Test("Each of the conductor's tasks has its option, and periodic_enable = false leaves none")
    func options() async throws {
        func tasks(_ settings: [String: String]) async throws -> [String: Duration?] {
            let runner = Mutex<PeriodicRunner?>(nil)
            try await ControlPlane.with(settings: settings) { plane in
                runner.withLock { $0 = plane.conductor.periodicRunner }
            }
            let tasks = runner.withLock { $0?.tasks ?? [] }
            return Dictionary(uniqueKeysWithValues: tasks.map { ($0.name, $0.interval) })
        }
        #expect(try await tasks(["DEFAULT.periodic_enable": "no"]).isEmpty)
        let set = try await tasks([
            "DEFAULT.shelved_poll_interval": "-1", "conductor.lapsed_poll_interval": "0",
            "conductor.task_trim_interval": "90",
        ])
        #expect(
            set == [
                "reclaim_queued_deletes": .seconds(60), "poll_rescued_instances": .seconds(60),
                "poll_unconfirmed_resizes": .seconds(60), "poll_rebooting_instances": .seconds(60),
                "poll_shelved_instances": nil, "trim_tasks": .seconds(90),
                "cleanup_incomplete_migrations": .seconds(300),
            ])
        let more = try await tasks([
            "DEFAULT.instance_delete_interval": "-1", "DEFAULT.instance_usage_audit": "yes",
            "DEFAULT.instance_usage_audit_period": "hour@5",
        ])
        #expect(more["cleanup_incomplete_migrations"] == .some(nil))
        #expect(more["instance_usage_audit"] == .seconds(60))
    }

    @Test(
        "Intervals that nobody can mean are refused when the configuration is read",
        arguments: [
            ("DEFAULT.service_down_time", "0"), ("DEFAULT.service_down_time", "-5"),
            ("DEFAULT.service_down_time", "86401"), ("DEFAULT.shelved_poll_interval", "0.5"),
            ("DEFAULT.shelved_poll_interval", "soon"), ("DEFAULT.shelved_poll_interval", "1000000000000"),
            ("conductor.lapsed_poll_interval", "1000000000000"),
            ("DEFAULT.rescue_timeout", "-1"), ("DEFAULT.instance_build_timeout", "-1"),
            ("DEFAULT.periodic_enable", "perhaps"),
        ])
    func absurd(option: String, value: String) {
        #expect(throws: ConfigurationError.self) {
            try Configuration(options: ConductorOptions.all + DatabaseOptions.all, values: [option: value])
        }
    }
}
