import Model
import Periodic
import Testing

@testable import Compute

@Suite("The agent's periodic tasks and their options", .timeLimit(.minutes(2)))
struct PeriodicOptionTests {
    /// What an option of 0 means.
    enum Zero: Sendable { case minute, never }

    struct Row: Sendable, CustomStringConvertible {
        let task: String
        let option: String
        /// The interval where the option is not set; `nil`: never.
        let unset: Duration?
        let zero: Zero
        var mayBeNegative = true

        var description: String { option }
    }

    static let rows = [
        Row(
            task: "update_available_resource", option: "DEFAULT.update_resources_interval", unset: .seconds(60),
            zero: .minute),
        Row(
            task: "sync_power_states", option: "DEFAULT.sync_power_state_interval", unset: .seconds(600), zero: .minute),
        Row(
            task: "run_pending_deletes", option: "DEFAULT.instance_delete_interval", unset: .seconds(300),
            zero: .minute),
        Row(
            task: "cleanup_running_deleted_instances", option: "DEFAULT.running_deleted_instance_poll_interval",
            unset: .seconds(1_800), zero: .never, mayBeNegative: false),
        Row(
            task: "heal_instance_info_cache", option: "DEFAULT.heal_instance_info_cache_interval", unset: nil,
            zero: .never),
        Row(
            task: "image_cache_manager", option: "image_cache.manager_interval", unset: .seconds(2_400), zero: .minute),
        Row(
            task: "limit_console_logs", option: "compute.console_log_limit_interval", unset: .seconds(300),
            zero: .minute),
        Row(task: "trim_journal", option: "compute.journal_trim_interval", unset: .seconds(3_600), zero: .minute),
    ]

    private func intervals(_ settings: [String: String]) async throws -> [String: Duration?] {
        try await Bench(settings: settings).run { agent in
            let tasks = agent.core.periodicRunner(isCompared: true).tasks
            return Dictionary(tasks.map { ($0.name, $0.interval) }) { first, _ in first }
        }
    }

    @Test("Each option sets its own task's interval and switches it off, and nobody else's", arguments: rows)
    func own(row: Row) async throws {
        let unset = try await intervals([:])
        #expect(unset[row.task] == .some(row.unset))
        var values: [(String, Duration?)] = [
            ("777", .seconds(777)), ("1", .seconds(1)), ("0", row.zero == .never ? nil : .seconds(60)),
        ]
        if row.mayBeNegative { values.append(("-1", nil)) }
        for (value, expected) in values {
            var wanted = unset
            wanted[row.task] = .some(expected)
            #expect(try await intervals([row.option: value]) == wanted, "\(row.option) = \(value)")
        }
        if !row.mayBeNegative {
            let bench = try Bench(settings: [row.option: "-1"])
            #expect(throws: (any Error).self) { try bench.configuration() }
        }
    }

    @Test("Every task has an option, but for the comparison with the control plane, which must not be switched off")
    func all() async throws {
        let tasks = Set(try await intervals([:]).keys)
        #expect(tasks == Set(Self.rows.map(\.task)).union(["compare_with_control_plane"]))
    }

    @Test("A first delay is a part of periodic_fuzzy_delay")
    func fuzz() async throws {
        for (settings, fuzz) in [([:], Duration.seconds(60)), (["DEFAULT.periodic_fuzzy_delay": "7"], .seconds(7))] {
            try await Bench(settings: settings).run { agent in
                #expect(agent.core.periodicRunner(isCompared: true).fuzz == fuzz)
            }
        }
    }

    @Test(
        "What a task does is what it is called",
        arguments: [
            ("update_available_resource", DriverCall.capacity), ("sync_power_states", .guests),
            ("image_cache_manager", .tidyImageCache), ("limit_console_logs", .limitConsoleLogs),
            ("run_pending_deletes", .snapshots), ("cleanup_running_deleted_instances", .guests),
        ])
    func work(task: String, call: DriverCall) async throws {
        // Nothing but the test runs them.
        let bench = try Bench(
            settings: [
                "DEFAULT.running_deleted_instance_action": "reap", "DEFAULT.periodic_fuzzy_delay": "86400",
            ].merging(Self.rows.map { ($0.option, "86400") }) { $1 })
        try await bench.run { agent in
            // The first comparison of guests comes with the connection.
            while await !agent.core.watcher.isConnected { await Task.yield() }
            try await agent.core.watcher.compareAll()
            let runner = agent.core.periodicRunner(isCompared: true)
            let found = try #require(runner.tasks.first { $0.name == task })
            let before = agent.driver.count(call)
            try await found.run()
            #expect(agent.driver.count(call) > before)
        }
    }
}
