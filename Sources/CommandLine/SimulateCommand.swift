internal import Database
internal import Model
internal import Simulation

extension Command {
    /// `apus simulate`
    static let simulate = Command(
        name: "simulate", summary: "Try a control plane with hosts that are only played.",
        details: """
            Starts an API, conductors and schedulers of their own on loopback, with a new database, and one process that \
            plays so many hosts: they beat, report, take commands and build guests that are nothing but time. Launches \
            servers through the API, deletes each again, and looks in the end whether hosts and database agree; the exit \
            code is 1 when they do not.
            """,
        options: [
            OptionSpec(name: "hosts", value: "N", help: "How many hosts (100)."),
            OptionSpec(name: "rate", value: "R", help: "Launches a second (5)."),
            OptionSpec(name: "seconds", value: "S", help: "How long servers are launched (60)."),
            OptionSpec(name: "burst", value: "N", help: "Launch so many at once instead, and nothing more."),
            OptionSpec(name: "lifetime", value: "SECONDS", help: "After which a server is deleted (20)."),
            OptionSpec(name: "conductors", value: "N", help: "How many conductors, each with a scheduler (1)."),
            OptionSpec(name: "build", value: "SECONDS", help: "The median of a guest's build (2)."),
            OptionSpec(name: "failures", value: "PERCENT", help: "How many builds fail on their host (1)."),
            OptionSpec(
                name: "snapshots", value: "PERCENT", help: "Of how many servers an image is made before they go (0)."),
            OptionSpec(name: "deaths", value: "N", help: "How many agents a minute go away, for 30 s each (0)."),
            OptionSpec(
                name: "kills", value: "N", help: "How many conductors a minute are killed, and started again (0)."),
            OptionSpec(name: "seed", value: "N", help: "Where every draw begins; a new one when absent."),
            OptionSpec(
                name: "database", value: "URL", help: "An empty PostgreSQL database instead of a file: postgresql://…"),
            OptionSpec(name: "keep", help: "Leave the folder with database and logs, and say where it is."),
            OptionSpec(name: "json", help: "Print JSON instead of a table."),
        ]
    ) { invocation, terminal in
        let plan = try SimulationPlan(invocation)
        terminal.complain("seed \(plan.settings.seed)")
        let cloud = try SimulatedCloud(plan)
        let result: SimulationResult
        do {
            result = try await cloud.run { terminal.complain($0) }
        } catch {
            cloud.end { terminal.complain($0) }
            throw error
        }
        cloud.end { terminal.complain($0) }
        if invocation.has("json") {
            terminal.print(result.json)
        } else {
            terminal.print(result.text)
        }
        return result.problems.isEmpty ? 0 : 1
    }
}

/// What a person asked to be simulated.
struct SimulationPlan: Sendable {
    var hosts: Int
    var rate: Int
    var seconds: Int
    var lifetime: Int
    var conductors: Int
    var database: String?
    var isKept: Bool
    var killsPerMinute: Int
    /// Launches at once; 0 for a steady rate.
    var burst: Int
    /// The share of servers of which an image is made, from 0 to 1.
    var snapshotShare: Double
    var settings = SimulationSettings()

    init(_ invocation: Invocation) throws {
        hosts = try invocation.number("hosts", in: 1...100_000) ?? 100
        rate = try invocation.number("rate", in: 0...10_000) ?? 5
        seconds = try invocation.number("seconds", in: 1...86_400) ?? 60
        lifetime = try invocation.number("lifetime", in: 1...86_400) ?? 20
        conductors = try invocation.number("conductors", in: 1...9) ?? 1
        database = invocation.value("database")
        burst = try invocation.number("burst", in: 1...100_000) ?? 0
        isKept = invocation.has("keep")
        killsPerMinute = try invocation.number("kills", in: 0...600) ?? 0
        snapshotShare = Double(try invocation.number("snapshots", in: 0...100) ?? 0) / 100
        settings.buildTime = .seconds(try invocation.number("build", in: 0...3_600) ?? 2)
        settings.failureShare = Double(try invocation.number("failures", in: 0...100) ?? 1) / 100
        settings.deathsPerMinute = Double(try invocation.number("deaths", in: 0...10_000) ?? 0)
        let drawn = Int.random(in: 0...0x7fff_ffff)
        settings.seed = UInt64(try invocation.number("seed", in: 0...Int.max) ?? drawn)
    }
}
